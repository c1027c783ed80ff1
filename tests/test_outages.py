"""Processes killed, servers restarted, disks filled, while a whole Flair is at work: nothing is lost, nothing twice."""

import hashlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from breeds.hints import MOST_HINTS
from tests.support.own_services import fill, kill
from tests.support.pictures import encoded, jpeg, picture
from tests.support.serving import ROOT, paused, wait_until
from tests.support.stack import check_refusal, whole_stack

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("FLAIR_STORM_SEED", "8"))

DIES = "import os, signal\ndef die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
SENDS = """
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from shelter.intake.uploads import upload_photo
from tests.support.pictures import encoded, jpeg, picture
upload_photo(SimpleUploadedFile("rex.jpg", jpeg({seed})), user=User.objects.get())
"""
CLAIMS = """
import os, signal
from breeds import classifier
from breeds.models import Prediction
held = Prediction.objects.claim(1)
assert len(held) == 1
os.kill(os.getpid(), signal.{signal})
answer, version = classifier.active_classifier()
with held[0].photo.image.open("rb") as file:
    found = answer.classify(file.read())
print("kept" if held[0].finish(found, version) else "too late")
"""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.fixture(scope="module")
def stack():
    with whole_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def flair(stack):
    return stack.flair


def send_all(stack, seeds: range, at_once: int = 4) -> list[int]:
    with ThreadPoolExecutor(at_once) as people:
        return list(people.map(stack.send, seeds))


# -- at random moments -------------------------------------------------------------------------------------------------


def faults(stack, chance: random.Random, refusals: list, taken: list) -> dict:
    """Name -> what to do. What is taken away is given back once somebody has met its absence."""
    flair = stack.flair

    def one_of(pattern: str) -> None:
        kill(chance.sample(wait_until(lambda: flair.processes(pattern), 60, f"a process of {pattern}"), 1))

    def without_broker() -> None:
        before = len(taken)
        with stack.broker_down():
            wait_until(lambda: len(taken) > before or len(taken) >= 200, 180, "a photo taken without a broker")

    def without_database(take_away) -> None:
        before = len(refusals)
        take_away()
        wait_until(lambda: len(refusals) > before or len(taken) >= 200, 180, "a refusal without a database")
        stack.database.start()

    found = {
        "a process of the web server": lambda: one_of("gunicorn"),
        "the web server": lambda: kill(flair.processes("gunicorn")),
        "a process of the worker": lambda: one_of("celery"),
        "the worker": lambda: kill(flair.processes("celery")),
        "what the broker holds": stack.wipe_broker,
        "the broker": without_broker,
    }
    if stack.database:
        return found | {
            "a process of the database": lambda: kill(stack.database.backends()[:1]),
            "the database": lambda: without_database(stack.database.kill),
            "the database, told to stop": lambda: without_database(stack.database.stop),
        }
    return found | {"all that have the database open": stack.kill_everything}


def test_it_answers_200_uploads_and_an_import_once_each_though_everything_is_killed_among_them(stack):
    chance, refusals, taken = random.Random(SEED), [], []
    number = stack.send_archive(range(1000, 1100))
    kill(stack.flair.processes("celery"))  # with the import in hand

    def send(seed: int) -> int:
        taken.append(stack.send_until_taken(seed, refusals))
        return taken[-1]

    with ThreadPoolExecutor(4) as people:
        sent = [people.submit(send, seed) for seed in range(200)]
        kinds = faults(stack, chance, refusals, taken)
        moments = sorted(chance.sample(range(5, 190), len(kinds)))
        for moment, name in zip(moments, chance.sample(list(kinds), len(kinds)), strict=True):
            wait_until(lambda moment=moment: len(taken) >= moment or sent[-1].done(), 300, f"{moment} photos")
            kinds[name]()
        ids = [future.result() for future in sent]

    assert len(set(ids)) == 200
    wait_until(lambda: stack.imported(number).get("status") == "done", 300, "the import's end")
    assert stack.imported(number)["counts"] == {"accepted": 100, "known": 0, "refused": 0, "waiting": 0}
    mended = stack.all_is_answered(ids)
    print(f"seed {SEED}: {len(refusals)} refusals, {len(mended)} files without a name")
    assert not stack.database or refusals  # the database was away, and somebody was told


# -- the broker --------------------------------------------------------------------------------------------------------


def test_it_answers_every_photo_though_the_broker_is_wiped_or_down(stack):
    with paused(stack.flair):
        ids = send_all(stack, range(300, 306))
        stack.wipe_broker()
    ids += send_all(stack, range(306, 310))
    stack.wipe_broker()
    with stack.broker_down():
        ids += send_all(stack, range(310, 314))
    stack.all_is_answered(ids)


def test_it_leaves_a_bounded_number_of_hints_however_many_photos_come_and_none_when_all_are_answered(stack):
    with paused(stack.flair):
        stack.wipe_broker()
        ids = send_all(stack, range(320, 370))
        assert 1 <= stack.hints() <= MOST_HINTS + 4  # four looked at the queue at the same moment
        stack.flair.python("from breeds.tasks import sweep\nfor _ in range(100): sweep()")
        assert stack.hints() <= MOST_HINTS + 4
    stack.all_is_answered(ids)
    wait_until(lambda: not stack.hints(), 30, "a queue without hints")


# -- deaths between two steps ------------------------------------------------------------------------------------------


def photo_of(stack, seed: int) -> dict | None:
    sha256 = hashlib.sha256(jpeg(seed)).hexdigest()
    return next(iter(stack.flair.api("GET", f"/photos/?sha256={sha256}", stack.token)["results"]), None)


def test_it_loses_nothing_where_the_web_server_dies_between_file_and_row(stack):
    code = DIES + "from shelter.models import Photo\nPhoto.save = die\n" + SENDS.format(seed=380)
    assert stack.flair.python(code, check=False).returncode == -signal.SIGKILL
    assert photo_of(stack, 380) is None
    with pytest.raises(AssertionError, match="Expected rows and files that agree"):
        stack.flair.manage("fsck", "--grace", "0")
    photo = stack.send(380)  # nobody had told the sender that it was taken
    assert stack.all_is_answered([photo]) == []


def test_it_answers_a_photo_whose_web_server_died_between_commit_and_hint(stack):
    code = DIES + "import shelter.models.photos\nshelter.models.photos.hint = die\n" + SENDS.format(seed=381)
    assert stack.flair.python(code, check=False).returncode == -signal.SIGKILL
    stack.all_is_answered([photo_of(stack, 381)["id"]])


# -- two workers, and clocks -------------------------------------------------------------------------------------------


def at_another_time(environment: dict, hours: int) -> dict:
    """As on a machine whose clock is off; what runs on the machine's own seconds does not notice."""
    if not FAKETIME:
        pytest.skip("libfaketime is not installed")
    clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{hours:+}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return environment | clock | {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}


def test_it_answers_each_photo_once_though_every_hint_comes_ten_times_to_two_workers_an_hour_apart(stack):
    repeat = "from breeds.tasks import classify_photos as t\nfor _ in range(10): t.delay()"
    with ExitStack() as second:
        with paused(stack.flair):
            second.enter_context(second_worker(stack.flair, "tests.support.settings_hour_ahead"))
            ids = [stack.send(400)]
            wait_until(lambda: photo_of(stack, 400)["status"] == "done", 180, "an answer of the second worker")
        for seeds in (range(401, 408), range(408, 416)):
            ids += send_all(stack, seeds)
            stack.flair.python(repeat)
        stack.all_is_answered(ids)


@contextmanager
def second_worker(flair, settings_module: str):
    environment = flair.environment | {"DJANGO_SETTINGS_MODULE": settings_module}
    celery = ["celery", "--quiet", "--app", "shelter", "worker", "--hostname", "second@%h", "--without-gossip"]
    worker = subprocess.Popen(celery, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(60)


def test_it_loses_one_photo_alone_to_a_decoder_that_crashes(stack):
    """The process that decodes it dies of a signal, three times; photos of the same batch are answered.

    `tests/support/settings_crashing.py` says which photos are fatal.
    """
    fatal = encoded(picture(1, (123, 77)), "JPEG")
    with paused(stack.flair):
        ids = [stack.send(seed) for seed in range(440, 443)]
        ids.append(stack.flair.api("POST", "/photos/", stack.token, fatal)["id"])
        with second_worker(stack.flair, "tests.support.settings_crashing"):
            stack.all_is_answered(ids)
    photos = [stack.flair.api("GET", f"/photos/{pk}/", stack.token) for pk in ids]
    assert [photo["status"] for photo in photos] == ["done"] * 3 + ["failed"]
    assert photos[-1]["prediction"]["error_code"] == "interrupted"


def test_it_takes_photos_from_dead_workers_of_another_time_and_from_one_that_outlives_its_lease(stack):
    """Three take a photo each: one an hour behind and one an hour ahead die, the third is away for too long."""
    command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command"]
    environment = stack.flair.environment

    def claim(how: str, environment: dict) -> subprocess.Popen:
        code = CLAIMS.format(signal=how)
        return subprocess.Popen([*command, code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    with paused(stack.flair):
        ids = send_all(stack, range(430, 433))
        dead = [claim("SIGKILL", at_another_time(environment, hours)) for hours in (-1, 1)]
        late = claim("SIGSTOP", environment)
        assert [process.wait(60) for process in dead] == [-signal.SIGKILL] * 2
        os.waitpid(late.pid, os.WUNTRACED)
    wait_until(lambda: not stack.pending(), 180, "an answer by somebody else")
    late.send_signal(signal.SIGCONT)
    assert late.communicate(timeout=60)[0].split("\n")[-2] == "too late"
    stack.all_is_answered(ids)


# -- what is no request ------------------------------------------------------------------------------------------------

TO_PHOTOS = b"POST /api/v1/photos/ HTTP/1.1\r\nHost: localhost\r\n"
# name -> bytes on the wire: refused with 4xx, 501 (an encoding nobody knows) or by closing the connection.
RAW = {
    "noise": b"\x00\x01\x02\xff" * 50 + b"\r\n\r\n",
    "the beginning of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "two lengths": TO_PHOTOS + b"Content-Length: 3\r\nContent-Length: 50\r\n\r\nabc",
    "a length and chunks": TO_PHOTOS
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "a chunk of no number": TO_PHOTOS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "a chunk of 16 exabytes": TO_PHOTOS + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc",
    "an unknown encoding": TO_PHOTOS + b"Transfer-Encoding: cow\r\n\r\nabc",
    "a header of 100 kB": TO_PHOTOS + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "a thousand headers": TO_PHOTOS + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
    "a header without a name": TO_PHOTOS + b": y\r\n\r\n",
    "a header that goes on": TO_PHOTOS + b"X: y\r\n  z\r\n\r\n",
    "a null in the address": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "less than it says": TO_PHOTOS
    + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5000\r\n\r\n--x\r\n",
}


def test_it_refuses_what_is_no_request_and_serves_on(stack):
    for name, content in RAW.items():
        with socket.create_connection(("127.0.0.1", int(stack.flair.environment["PORT"])), timeout=60) as connection:
            answer = b""
            with suppress(ConnectionError):
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(1000)
        assert not answer or answer.split()[1].startswith((b"3", b"4")) or b" 501 " in answer[:13], (name, answer)
    assert stack.flair.is_serving()


# -- disks that are full -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["database", "data"])
def test_it_says_503_while_a_disk_is_full_and_goes_on_when_there_is_room(stack, full):
    """`data` holds the photos, and the queue where it is a folder."""
    if stack.no_disk:
        pytest.skip(f"no disk can be mounted here: {stack.no_disk}")
    seeds = itertools.count(500 if full == "database" else 600)
    pages = {language: stack.browser(language) for language in ("fr", "en")}
    ids = [stack.send(next(seeds))]
    ballast = fill(stack.disks[full])
    try:
        refused, answer = first_refusal(lambda seed: ids.append(stack.send(seed)), seeds)
        check_refusal(answer)
        for language, words in {"fr": "Indisponible en ce moment", "en": "Not available at this moment"}.items():
            _seed, answer = first_refusal(lambda seed: pages[language](images=jpeg(seed)), seeds)  # noqa: B023
            assert (answer.code, int(answer.headers["Retry-After"]) > 0) == (503, True)
            assert words in answer.read().decode()
    finally:
        ballast.unlink()
        if stack.database:
            stack.database.start()  # it may have given up on a disk without room for its log
    ids.append(stack.send_until_taken(refused, []))
    stack.all_is_answered(ids)


def first_refusal(send, seeds) -> tuple[int, urllib.error.HTTPError]:
    """What is said to the first photo for which there is no room: some may find a page of the database half empty."""
    for seed in itertools.islice(seeds, 60):
        try:
            send(seed)
        except urllib.error.HTTPError as answer:
            return seed, answer
    raise AssertionError("Expected a refusal among 60 photos on a full disk.")


def test_it_takes_photos_in_while_redis_has_no_room(stack):
    if not stack.broker:
        pytest.skip("the queue is a folder: its full disk is tried above")
    broker = redis.Redis.from_url(stack.broker.url)
    broker.config_set("maxmemory", 1)
    try:
        ids = send_all(stack, range(700, 704))
    finally:
        broker.config_set("maxmemory", 0)
    stack.all_is_answered(ids)
