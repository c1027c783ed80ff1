"""What goes wrong sooner or later, done for real: nothing that was accepted is lost, nothing is answered twice."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone
from kombu import Connection

from breeds import classifier as classifiers
from breeds.models import Prediction
from breeds.tasks import classify_photos, sweep
from shelter.imports import Import, ImportItem
from shelter.models import Photo
from shelter.tasks import run_imports, work_slice
from shelter.uploads import upload_photo
from tests.serving import ROOT, free_port, serving, wait_until
from tests.support import jpeg, upload
from tests.test_archives import zipped


@contextmanager
def small_disk(path: Path, size: str):
    """A file system of its own, of `size`; the test is skipped where nobody may mount one."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.fixture
def no_hints(monkeypatch):
    monkeypatch.setattr("breeds.tasks.classify_photos.delay", lambda: None)
    monkeypatch.setattr("shelter.tasks.run_imports.delay", lambda: None)


def all_is_well() -> bool:
    return call_command("fsck", "--hashes", "--grace", "0") is None


# -- disks that are full -----------------------------------------------------------------------------------------------


def test_it_takes_nothing_in_on_a_full_disk_and_everything_once_there_is_room(
    staff, anne, no_hints, settings, tmp_path, classifier
):
    with small_disk(tmp_path / "disk", "256k") as disk:
        settings.MEDIA_ROOT = disk / "media"
        first = upload_photo(upload(jpeg(1)), user=anne).photo
        ballast = fill(disk)
        staff.raise_request_exception = False
        assert staff.post(reverse("upload"), {"images": [upload(jpeg(2))]}).status_code >= 500
        assert (Photo.objects.count(), list((disk / "media").rglob(".partial-*"))) == (1, [])
        assert all_is_well()
        ballast.unlink()
        assert staff.post(reverse("upload"), {"images": [upload(jpeg(2))]}).status_code == 200
        while classify_photos():
            pass
        assert {photo.status for photo in Photo.objects.all()} == {"done"}
        assert all_is_well()
        assert first.image.open().read() == jpeg(1)


def test_it_fails_a_photo_whose_preview_finds_no_room_after_three_attempts_and_says_why(
    anne, no_hints, settings, tmp_path, classifier
):
    with small_disk(tmp_path / "disk", "256k") as disk:
        settings.MEDIA_ROOT = disk / "media"
        upload_photo(upload(), user=anne)
        ballast = fill(disk)
        while classify_photos():
            pass
        prediction = Prediction.objects.get()
        assert (prediction.status, prediction.attempts) == ("failed", 3)
        assert "No space left" in prediction.error
        ballast.unlink()
        assert all_is_well()
        upload_photo(upload(), user=anne)  # sent again, it is asked again
        classify_photos()
        assert Photo.objects.get().status == Photo.Status.DONE


def test_it_goes_on_with_an_import_once_the_disk_has_room_again(anne, no_hints, settings, tmp_path, classifier):
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
        monkeypatch.setattr("breeds.tasks.classify_photos.delay", lambda: send(connection=broker, retry=False))
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
    anne, breeds, no_hints, settings, tmp_path, fault
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
def test_it_waits_for_no_dead_worker_whose_clock_was_an_hour_off(anne, no_hints, classifier, hours):
    """The worker dies with the lease in its hand; then somebody sets the clock right."""
    upload_photo(upload(), user=anne)
    held = Prediction.objects.claim(4, now=timezone.now() + timedelta(hours=hours))
    assert len(held) == 1
    assert sweep() == 1
    classify_photos()
    assert not held[0].finish(classifier.answer, classifier.row())  # it was not dead after all: too late
    assert list(Prediction.objects.values_list("status", "attempts")) == [("done", 2)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_it_goes_on_with_an_import_whose_lease_was_taken_at_another_time_of_day(anne, no_hints, hours):
    packed = zipped({"1.jpg": jpeg(1)})
    batch = Import.objects.receive(anne, "a.zip", len(packed))
    batch.take_part(0, ContentFile(packed))
    assert Import.objects.claim(now=timezone.now() + timedelta(hours=hours))
    assert run_imports()
    assert ImportItem.objects.get().outcome == "accepted"


def test_it_settles_each_file_once_though_two_work_on_one_import(anne, no_hints, classifier):
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


def test_it_leaves_a_lease_alone_that_was_just_taken(anne, no_hints):
    upload_photo(upload(), user=anne)
    Prediction.objects.claim(4)
    assert sweep() == 0


# -- real processes ----------------------------------------------------------------------------------------------------

DIES = "import os, signal\ndef die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
SENDS = """
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from shelter.uploads import upload_photo
from tests.support import jpeg
upload_photo(SimpleUploadedFile("rex.jpg", jpeg({seed})), user=User.objects.get())
"""


@pytest.fixture(scope="module")
def flair(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("faults") / "data") as flair:
        yield flair


@pytest.fixture
def token(flair):
    return flair.token()


def answered(flair, token, ids: list[int], seconds: int = 90) -> None:
    """Every one of these photos gets exactly one answer."""

    def look():
        photos = [flair.api("GET", f"/photos/{pk}/", token) for pk in ids]
        return photos if all(photo["status"] == "done" for photo in photos) else None

    wait_until(look, seconds, "an answer to every photo")
    code = f"from breeds.models import Prediction as P; print(P.objects.filter(photo__in={ids}).count())"
    assert int(flair.python(code).stdout) == len(set(ids))


def photo_of(flair, token, seed: int) -> dict | None:
    sha256 = hashlib.sha256(jpeg(seed)).hexdigest()
    return next(iter(flair.api("GET", f"/photos/?sha256={sha256}", token)["results"]), None)


@contextmanager
def paused(pids: list[int]):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def wipe(flair) -> None:
    if url := flair.environment.get("REDIS_URL"):
        redis.Redis.from_url(url).flushdb()
    else:
        shutil.rmtree(queue_of(flair).rename(queue_of(flair).with_name("wiped")))  # in one step: workers write to it


def queue_of(flair) -> Path:
    return Path(flair.environment["FLAIR_DATA_DIR"]) / "queue"


@pytest.mark.slow
def test_it_answers_every_photo_though_the_broker_is_wiped(flair, token):
    with paused(flair.processes("celery")):
        ids = [flair.api("POST", "/photos/", token, jpeg(seed))["id"] for seed in range(10)]
        wipe(flair)
    wipe_again = [flair.api("POST", "/photos/", token, jpeg(seed))["id"] for seed in range(10, 14)]
    wipe(flair)
    answered(flair, token, ids + wipe_again)


@pytest.mark.slow
def test_it_takes_photos_in_while_the_broker_is_down(flair, token):
    if flair.environment.get("REDIS_URL"):
        pytest.skip("the Redis of the tests is not theirs to stop")
    queue = queue_of(flair)
    with paused(flair.processes("celery")):
        shutil.rmtree(queue)
        queue.write_text("no folder")
    try:
        ids = [flair.api("POST", "/photos/", token, jpeg(seed))["id"] for seed in range(20, 24)]
    finally:
        queue.unlink()
    answered(flair, token, ids)


@pytest.mark.slow
def test_it_loses_nothing_where_the_web_server_dies_between_file_and_row(flair, token):
    code = DIES + "from shelter.models import Photo\nPhoto.save = die\n" + SENDS.format(seed=30)
    assert flair.python(code, check=False).returncode == -signal.SIGKILL
    assert photo_of(flair, token, 30) is None
    with pytest.raises(AssertionError, match="Expected rows and files that agree"):
        flair.manage("fsck", "--grace", "0")
    photo = flair.api("POST", "/photos/", token, jpeg(30))  # nobody had told the sender that it was taken
    answered(flair, token, [photo["id"]])
    flair.manage("fsck", "--grace", "0", "--hashes")


@pytest.mark.slow
def test_it_answers_a_photo_whose_web_server_died_between_commit_and_hint(flair, token):
    code = DIES + "import shelter.models\nshelter.models.hint = die\n" + SENDS.format(seed=31)
    assert flair.python(code, check=False).returncode == -signal.SIGKILL
    answered(flair, token, [photo_of(flair, token, 31)["id"]])


@pytest.mark.slow
def test_it_answers_each_photo_once_though_every_hint_comes_ten_times_to_two_workers(flair, token):
    celery = ["celery", "--quiet", "--app", "shelter", "worker", "--hostname", "second@%h", "--without-gossip"]
    second = subprocess.Popen(
        celery, cwd=ROOT, env=flair.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        repeat = "from breeds.tasks import classify_photos as t\nfor _ in range(10): t.delay()"
        ids = []
        for seed in range(40, 52):
            ids.append(flair.api("POST", "/photos/", token, jpeg(seed))["id"])
            if seed % 4 == 0:
                flair.python(repeat)
        answered(flair, token, ids)
    finally:
        second.terminate()
        second.wait(60)


@pytest.mark.slow
def test_it_loses_nothing_though_web_and_workers_are_killed_again_and_again(flair, token):
    ids = []
    for seed in range(60, 80):
        for _attempt in range(200):
            with suppress(OSError):  # the web server is being started again
                ids.append(flair.api("POST", "/photos/", token, jpeg(seed))["id"])
                break
            time.sleep(0.3)
        if seed % 6 == 0:
            for pid in flair.processes("celery" if seed % 4 else "gunicorn"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert len(set(ids)) == 20
    answered(flair, token, ids, 150)
    flair.manage("fsck", "--grace", "0", "--hashes")


@contextmanager
def redis_server(port: int):
    """A Redis of the test's own, which it may kill."""
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server is installed")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), 20, "an answer of Redis")
        yield server
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        return redis.Redis(port=port).ping()
    except redis.ConnectionError:
        return False


@pytest.mark.slow
def test_it_takes_photos_in_at_once_while_redis_is_killed_and_answers_them_after(tmp_path):
    port = free_port()
    with redis_server(port) as first, serving(tmp_path / "data", REDIS_URL=f"redis://127.0.0.1:{port}/0") as flair:
        token = flair.token()
        ids = [flair.api("POST", "/photos/", token, jpeg(100))["id"]]
        answered(flair, token, ids)
        first.kill()
        first.wait()
        started = time.monotonic()
        ids += [flair.api("POST", "/photos/", token, jpeg(seed))["id"] for seed in range(101, 105)]
        assert time.monotonic() - started < 4 * 5  # seconds; on an idle machine a twentieth of that
        with redis_server(port):
            answered(flair, token, ids)
