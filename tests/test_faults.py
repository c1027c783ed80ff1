"""What goes wrong sooner or later: nothing that was accepted is lost, nothing is answered twice.

Disks are full for real here, checkpoints damaged; processes are killed in `tests/test_outages.py`.
"""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.urls import reverse
from django.utils import timezone
from kombu import Connection

from breeds import classifier as classifiers
from breeds.hints import MOST_HINTS, hint
from breeds.models import Prediction
from breeds.tasks import classify_photos, sweep
from shelter.errors import is_outage, server_error
from shelter.intake.importing import work_slice
from shelter.intake.uploads import upload_photo
from shelter.models import Import, ImportItem, Photo
from shelter.tasks import run_imports
from tests.support.factories import answer_all, upload
from tests.support.own_services import fill, small_disk
from tests.support.pictures import jpeg
from tests.support.serving import ROOT, free_port
from tests.test_archives import zipped


def all_is_well() -> bool:
    return call_command("fsck", "--hashes", "--grace", "0") is None


IN_WORDS = {"fr": "Indisponible en ce moment", "en": "Not available at this moment"}


# -- disks that are full -----------------------------------------------------------------------------------------------


def test_it_takes_nothing_in_on_a_full_disk_and_everything_once_there_is_room(
    staff, anne, settings, tmp_path, classifier
):
    with small_disk(tmp_path / "disk", "256k") as disk:
        settings.MEDIA_ROOT = disk / "media"
        first = upload_photo(upload(jpeg(1)), user=anne).photo
        ballast = fill(disk)
        staff.raise_request_exception = False
        for language, words in IN_WORDS.items():
            response = staff.post(
                reverse("upload"), {"images": [upload(jpeg(2))]}, headers={"Accept-Language": language}
            )
            assert (response.status_code, response["Retry-After"]) == (503, "30")
            assert words in response.content.decode()
        assert (Photo.objects.count(), list((disk / "media").rglob(".partial-*"))) == (1, [])
        assert all_is_well()
        ballast.unlink()
        assert staff.post(reverse("upload"), {"images": [upload(jpeg(2))]}).status_code == 200
        answer_all()
        assert {photo.status for photo in Photo.objects.all()} == {"done"}
        assert all_is_well()
        assert first.image.open().read() == jpeg(1)


def test_it_fails_a_photo_whose_preview_finds_no_room_after_three_attempts_and_says_why(
    anne, settings, tmp_path, classifier
):
    with small_disk(tmp_path / "disk", "256k") as disk:
        settings.MEDIA_ROOT = disk / "media"
        upload_photo(upload(), user=anne)
        ballast = fill(disk)
        answer_all()
        prediction = Prediction.objects.get()
        assert (prediction.status, prediction.attempts) == ("failed", 3)
        assert "No space left" in prediction.error
        ballast.unlink()
        assert all_is_well()
        upload_photo(upload(), user=anne)  # sent again, it is asked again
        classify_photos()
        assert Photo.objects.get().status == Photo.Status.DONE


def test_it_goes_on_with_an_import_once_the_disk_has_room_again(anne, settings, tmp_path, classifier):
    with small_disk(tmp_path / "disk", "512k") as disk:
        settings.MEDIA_ROOT = disk / "media"
        packed = zipped({f"{seed}.jpg": jpeg(seed) for seed in range(5)})
        batch = Import.objects.receive(anne, "a.zip", len(packed))
        batch.take_part(0, ContentFile(packed))
        ballast = fill(disk)
        run_imports()
        batch.refresh_from_db()
        assert (batch.status, batch.error_code, Photo.objects.count()) == ("waiting", "passing", 0)
        ballast.unlink()
        batch = Import.objects.claim(batch.pk, timezone.now() + timedelta(minutes=1))
        work_slice(batch)
        assert set(batch.items.values_list("outcome", flat=True)) == {"accepted"}
        assert all_is_well()


def test_it_takes_photos_in_while_the_disk_of_the_queue_is_full(
    staff, monkeypatch, tmp_path, classifier, django_capture_on_commit_callbacks
):
    with small_disk(tmp_path / "disk", "64k") as disk:
        broker = Connection("flair-folder://localhost", transport_options={"folder": str(disk / "queue")})
        send = classify_photos.apply_async
        monkeypatch.setattr("breeds.hints._send", lambda task_name: send(connection=broker, retry=False))
        with django_capture_on_commit_callbacks(execute=True):
            staff.post(reverse("upload"), {"images": [upload(jpeg(1))]})
        assert len(list((disk / "queue").glob("*.msg"))) == 1
        ballast = fill(disk)
        with django_capture_on_commit_callbacks(execute=True):
            assert staff.post(reverse("upload"), {"images": [upload(jpeg(2))]}).status_code == 200
        assert list((disk / "queue").glob("*.partial")) == []
        ballast.unlink()
        sweep()  # the hint that found no room
        assert len(list((disk / "queue").glob("*.msg"))) == 2
        broker.release()
    assert Photo.objects.count() == 2


# -- the classifier ----------------------------------------------------------------------------------------------------

MODEL_FAULTS = {
    "missing": shutil.rmtree,
    "without its network": lambda folder: (folder / "model.tflite.xz").unlink(),
    "truncated": lambda folder: os.truncate(folder / "model.tflite.xz", 1000),
    "of a wrong hash": lambda folder: (folder / "labels.json").write_text(
        (folder / "labels.json").read_text().replace("beagle", "beagel")
    ),
    "without its description": lambda folder: (folder / "info.json").unlink(),
    "description cut short": lambda folder: os.truncate(folder / "info.json", 40),
    "another version": lambda folder: (folder / "info.json").write_text(
        json.dumps(json.loads((folder / "info.json").read_text()) | {"version": "0123456789ab"})
    ),
}


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_it_keeps_photos_waiting_for_a_damaged_classifier_and_answers_them_once_it_is_back(
    anne, breeds, settings, tmp_path, fault
):
    folder = tmp_path / "checkpoint"
    shutil.copytree(settings.BUNDLED_CLASSIFIER, folder, ignore=shutil.ignore_patterns("model.keras"))
    classifiers.register_checkpoint(folder).activate()
    classifiers.load_classifier.cache_clear()
    upload_photo(upload(), user=anne)
    MODEL_FAULTS[fault](folder)
    for _ in range(4):
        assert classify_photos() == 0
    assert list(Prediction.objects.values_list("status", "attempts")) == [("pending", 0)]

    shutil.copytree(settings.BUNDLED_CLASSIFIER, folder, dirs_exist_ok=True)
    assert classify_photos() == 1
    assert Photo.objects.get().status == Photo.Status.DONE
    classifiers.load_classifier.cache_clear()


# -- clocks and leases -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1])
def test_it_waits_for_no_dead_worker_whose_clock_was_an_hour_off(anne, classifier, hours):
    """The worker dies with the lease in its hand; then somebody sets the clock right."""
    upload_photo(upload(), user=anne)
    held = Prediction.objects.claim(4, now=timezone.now() + timedelta(hours=hours))
    assert len(held) == 1
    assert sweep() == 1
    classify_photos()
    assert not held[0].finish(classifier.answer, classifier.row())  # it was not dead after all: too late
    assert list(Prediction.objects.values_list("status", "attempts")) == [("done", 2)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_it_goes_on_with_an_import_whose_lease_was_taken_at_another_time_of_day(anne, hours):
    packed = zipped({"1.jpg": jpeg(1)})
    batch = Import.objects.receive(anne, "a.zip", len(packed))
    batch.take_part(0, ContentFile(packed))
    assert Import.objects.claim(now=timezone.now() + timedelta(hours=hours))
    assert run_imports()
    assert ImportItem.objects.get().outcome == "accepted"


def test_it_settles_each_file_once_though_two_work_on_one_import(anne, classifier):
    """The first was away for longer than its lease, and goes on as if nothing had been."""
    packed = zipped({f"{seed}.jpg": jpeg(seed) for seed in range(4)})
    batch = Import.objects.receive(anne, "a.zip", len(packed))
    batch.take_part(0, ContentFile(packed))
    late = Import.objects.claim(now=timezone.now() - timedelta(minutes=5))
    prompt = Import.objects.claim()
    work_slice(prompt)
    work_slice(late)
    assert list(batch.items.values_list("outcome", flat=True)) == ["accepted"] * 4
    assert Photo.objects.count() == Prediction.objects.count() == 4
    assert all_is_well()


def test_it_leaves_a_lease_alone_that_was_just_taken(anne):
    upload_photo(upload(), user=anne)
    Prediction.objects.claim(4)
    assert sweep() == 0


# -- the database goes away --------------------------------------------------------------------------------------------


def operational(name: str) -> OperationalError:
    """As Django wraps what SQLite says."""
    cause = sqlite3.OperationalError("said by SQLite")
    cause.sqlite_errorname = name
    error = OperationalError("said by SQLite")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (operational("SQLITE_FULL"), True),
        (operational("SQLITE_BUSY"), True),
        (operational("SQLITE_IOERR_WRITE"), True),
        (operational("SQLITE_ERROR"), False),  # a mistake in a statement
        (OperationalError("server closed the connection unexpectedly"), True),
        (InterfaceError("connection already closed"), True),
        (ProgrammingError("no such table"), False),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), True),
        (ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 507}}, "PutObject"), True),
        (ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "PutObject"), False),
        (ValueError("a fault of ours"), False),
    ],
    ids=repr,
)
def test_it_tells_what_passes_from_its_own_faults(error, passes):
    assert is_outage(error) == passes


@pytest.mark.parametrize(
    ("code", "status", "retry_after"),
    [("EROFS", 503, "30"), ("EDQUOT", 503, "30"), ("EIO", 503, "30"), ("ENOSPC", 503, "30"), ("EACCES", 500, None)],
)
@pytest.mark.parametrize("path", ["/", "/api/v1/photos/"])
def test_trouble_of_the_disk_is_answered_with_503_and_another_error_with_500(rf, path, code, status, retry_after):
    try:
        raise OSError(getattr(errno, code), "said by the disk")
    except OSError:
        response = server_error(rf.get(path))
    assert (response.status_code, response.get("Retry-After")) == (status, retry_after)


@pytest.fixture
def unreachable():
    """Another database in place of the tests' own, behind an address at which nobody answers."""
    nobody = f"postgres://flair@127.0.0.1:{free_port()}/flair?connect_timeout=5"
    environment = os.environ | {"DATABASE_URL": nobody, "DJANGO_SETTINGS_MODULE": "tests.settings"}

    def ask(code: str) -> str:
        preface = "import django\ndjango.setup()\nfrom django.test import Client\nclient = Client()\n"
        preface += "client.raise_request_exception = False\n"
        command = [sys.executable, "-c", preface + code]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask


def test_it_says_503_on_every_page_and_call_while_the_database_is_down(unreachable):
    said = unreachable(
        "calls = [('get', '/healthz', 'fr'), ('get', '/accounts/login/', 'fr'), ('post', '/accounts/login/', 'fr'),"
        " ('post', '/accounts/login/', 'en'), ('post', '/api/v1/photos/', 'fr'), ('post', '/api/v1/photos/', 'en')]\n"
        "for method, path, language in calls:\n"
        "    headers = {'Accept-Language': language, 'Authorization': 'Token flair_x', 'Host': 'localhost'}\n"
        "    answer = getattr(client, method)(path, {'username': 'a', 'password': 'b'}, headers=headers)\n"
        "    print(answer.status_code, answer.get('Retry-After'), answer['Content-Type'].split(';')[0], "
        "answer.content.decode().replace(chr(10), ' '))\n"
    ).splitlines()
    health, form, french, english, problem_fr, problem_en = said
    assert health.startswith("503 30 ")
    assert form.startswith("200 ")  # the page itself asks nothing of the database
    assert french.startswith("503 30 text/html")
    assert IN_WORDS["fr"] in french
    assert IN_WORDS["en"] in english
    assert problem_fr.startswith("503 30 application/problem+json")
    assert json.loads(problem_en.split(maxsplit=3)[3])["code"] == "unavailable"
    assert json.loads(problem_fr.split(maxsplit=3)[3])["detail"].startswith("Flair n’atteint pas")


def test_it_leaves_nothing_of_a_photo_whose_row_found_no_room(anne, monkeypatch, stored_files):
    def full(*_arguments, **_options):
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(Photo, "store", full)
    with pytest.raises(OperationalError):
        upload_photo(upload(), user=anne)
    assert (Photo.objects.count(), stored_files()) == (0, set())


# -- hints -------------------------------------------------------------------------------------------------------------


def test_it_works_off_all_hints_and_leaves_none_behind(anne, monkeypatch, classifier, settings):
    """Twenty photos, a hint for each and fifty sweeps; a worker takes hints until there is none."""
    waiting, taken = [], 0
    monkeypatch.setattr("breeds.hints._send", waiting.append)
    monkeypatch.setattr("breeds.hints._waiting_beside", lambda task_name: len(waiting))
    for seed in range(20):
        upload_photo(upload(jpeg(seed)), user=anne)
        hint()
    for _ in range(50):
        sweep()
    assert len(waiting) == MOST_HINTS
    while waiting:
        waiting.pop()
        classify_photos()
        taken += 1
    assert {photo.status for photo in Photo.objects.all()} == {"done"}
    assert taken <= MOST_HINTS + 20 / settings.CLAIM_BATCH


def test_it_passes_no_hint_on_for_photos_that_it_could_not_claim(anne, hints, monkeypatch, classifier):
    upload_photo(upload(), user=anne)
    hints.clear()
    monkeypatch.setattr(Prediction.objects, "claim", lambda limit: [])  # others hold them at this moment
    assert (classify_photos(), hints) == (0, [])
