"""`make run` as a whole: real processes, killed for real."""

import os
import signal

import pytest

from tests.support.pictures import jpeg
from tests.support.serving import serving, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flair(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serving") / "data") as flair:
        yield flair


def test_it_answers_fifty_uploads_once_each_though_the_worker_is_killed_among_them(flair):
    token, ids = flair.token(), []
    for seed in range(50):
        ids.append(flair.api("POST", "/photos/", token, jpeg(seed))["id"])
        if seed == 25:
            for pid in flair.processes("celery"):
                os.kill(pid, signal.SIGKILL)

    def answered():
        page = flair.api("GET", "/photos/?page_size=100", token)["results"]
        return page if all(photo["status"] == "done" for photo in page) else None

    photos = wait_until(answered, 90, "an answer to every photo")
    assert sorted(photo["id"] for photo in photos) == sorted(ids)
    assert all(len(photo["prediction"]["candidates"]) == 5 for photo in photos)


def test_it_starts_a_web_server_again_that_was_killed(flair):
    before = flair.processes("gunicorn")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(flair.is_serving, 30, "a new web server")
    assert not set(before) & set(flair.processes("gunicorn"))


def test_it_ends_all_processes_on_ctrl_c_and_has_lost_nothing_when_started_again(flair):
    token = flair.token()
    photo = flair.api("POST", "/photos/", token, jpeg(1000))
    flair.stop()
    assert flair.processes("gunicorn") + flair.processes("celery") == []
    flair.start()
    wait_until(lambda: flair.api("GET", f"/photos/{photo['id']}/", token)["status"] == "done", 60, "the answer")
