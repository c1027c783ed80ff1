"""Uploads while much is waiting: with 20,000 photos in the queue, and while a bulk import of 10,000 photos runs.

    python -m benchmarks.load                           # SQLite and the broker in a folder
    DATABASE_URL=… REDIS_URL=… python -m benchmarks.load --pending 2000 --bulk 1000

Flair runs as `make run` starts it, its workers at work all the time. What is uploaded are photos of 5 megapixels, one
after the other, as a person's page sends them: first with nothing else to do, then under load. `answered` is from the
first byte sent to the answer of the classifier.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.racing import FIVE_MEGAPIXELS, made_jpeg
from ml.serving.checkpoint import load_checkpoint
from tests.support.serving import ROOT, Flair, serving

SMALL = (320, 240)
SOON = 2.0  # seconds in which a person has an answer
BACKLOG = """
from django.core.files.base import ContentFile
from breeds.models import Prediction
from breeds.hints import hint
from shelter.models import Photo
from tests.support.pictures import jpeg
content = jpeg(10**6)
name = Photo._meta.get_field("image").storage.save("originals/backlog.jpg", ContentFile(content))
for first in range(0, {count}, 2000):
    photos = Photo.objects.bulk_create(
        Photo(image=name, original_name="backlog.jpg", sha256=f"{{number:064x}}", size=len(content),
              width=320, height=240, media_type="image/jpeg")
        for number in range(first, min(first + 2000, {count})))
    Prediction.objects.bulk_create(Prediction(photo=photo, priority=Prediction.Priority.BULK) for photo in photos)
hint()
"""
WAITING = "from breeds.models import Prediction as P; print(P.objects.filter(status='pending').count())"


def send(flair: Flair, token: str, content: bytes) -> tuple[float, float]:
    """Seconds until the upload was accepted, and until the classifier had answered."""
    started = time.perf_counter()
    photo = flair.api("POST", "/photos/", token, content)
    accepted = time.perf_counter() - started
    while flair.api("GET", f"/photos/{photo['id']}/?fields=status", token)["status"] == "pending":
        time.sleep(0.02)
    return accepted, time.perf_counter() - started


def say(name: str, times: list[tuple[float, float]], more: str = "") -> None:
    for what, values in zip(("accepted", "answered"), zip(*times, strict=True), strict=True):
        p95 = statistics.quantiles(values, n=20)[-1]
        soon = sum(value <= SOON for value in values)
        print(f"  {name:34} {what}: median {statistics.median(values):6.3f} s, 95th percentile {p95:6.3f} s, "
              f"slowest {max(values):6.3f} s; {soon} of {len(values)} within {SOON:.0f} s {more}")  # fmt: skip
        sys.stdout.flush()


def write_small(folder: Path, number: int) -> None:
    (folder / f"{number:06}.jpg").write_bytes(made_jpeg(SMALL, number))


def under_backlog(flair: Flair, token: str, photos: list[bytes], pending: int) -> None:
    flair.python(BACKLOG.format(count=pending))
    before = int(flair.python(WAITING).stdout)
    times = [send(flair, token, content) for content in photos]
    after = int(flair.python(WAITING).stdout)
    say(f"{before:,} to {after:,} photos waiting", times)


def under_import(flair: Flair, token: str, photos: list[bytes], folder: Path, bulk: int) -> None:
    """Uploads spread over the time that the import takes; those after its end do not count."""
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_small, folder), range(bulk), chunksize=100))
    command = [sys.executable, "manage.py", "import_photos", str(folder)]
    started = time.perf_counter()
    running = subprocess.Popen(command, cwd=ROOT, env=flair.environment, stdout=subprocess.DEVNULL)
    times = []
    while running.poll() is None and len(times) < len(photos):
        times.append(send(flair, token, photos[len(times)]))
        time.sleep(1)  # as quick as a person drops photos one by one
    say(f"import of {bulk:,} running", times)
    running.wait()
    print(f"  the import took in {bulk / (time.perf_counter() - started):.0f} files per second meanwhile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pending", type=int, default=20_000)
    parser.add_argument("--bulk", type=int, default=10_000)
    parser.add_argument("--uploads", type=int, default=40)
    given = parser.parse_args()
    checkpoint = load_checkpoint(ROOT / "ml" / "bundled")
    database = os.environ.get("DATABASE_URL", "sqlite").partition(":")[0]
    broker = os.environ.get("REDIS_URL", "folder").partition(":")[0]
    network = f"classifier {checkpoint.version[:8]}, {checkpoint.image_size} px"
    print(f"{database}, {broker}, {os.cpu_count()} cores, {network}")
    with ProcessPoolExecutor() as pool:
        photos = list(pool.map(partial(made_jpeg, FIVE_MEGAPIXELS), range(4 * given.uploads + 4)))
    with tempfile.TemporaryDirectory() as name, serving(Path(name) / "data", FLAIR_SWEEP_SECONDS="10") as flair:
        token = flair.token()
        for content in photos[:4]:
            send(flair, token, content)
        photos = photos[4:]
        say("nothing else to do", [send(flair, token, content) for content in photos[: given.uploads]])
        under_import(flair, token, photos[2 * given.uploads :], Path(name) / "bulk", given.bulk)
        under_backlog(flair, token, photos[given.uploads : 2 * given.uploads], given.pending)


if __name__ == "__main__":
    main()
