"""The processor time of one photo, from file to index, beside the bare decoder and the bare network.

    python -m benchmarks.costs                          # SQLite
    DATABASE_URL=… python -m benchmarks.costs --photos 40 --rounds 5

All in one process: an import takes in some photos of 5 megapixels, then the worker's task answers them, and before
that the same photos are decoded and given to the network, and nothing else. Processor time of this process and, where
it runs here, of PostgreSQL's for it: it hardly depends on what else the machine does, as photos per second do
(`benchmarks.pipeline`). Redis, Celery's own messages and waiting for the disk are not in it.
"""

import argparse
import itertools
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.pipeline import BUNDLED, decode, write_photos
from tests.support.serving import Flair, own_database

STEPS = ("decode, bare", "network, bare", "import", "worker")


def flair_in(stack: ExitStack) -> Path:
    """Prepare a data folder and, if so wished, a database, for this very process."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    os.environ |= stack.enter_context(own_database(os.environ.get("DATABASE_URL", "")))
    os.environ |= {"FLAIR_DATA_DIR": str(folder / "data"), "DJANGO_SETTINGS_MODULE": "shelter.settings", "PORT": "0"}
    os.environ |= {"REDIS_URL": "", "FLAIR_LOG_LEVEL": "WARNING"}
    Flair(os.environ | {}).manage("prepare")
    import django

    django.setup()
    from django.conf import settings
    from django.db import connections

    settings.SLICE_SECONDS = settings.CLASSIFY_SLICE_SECONDS = 3600
    stack.callback(connections.close_all)  # before the database goes
    return folder


def costs_of(folder: Path, session, image_size: int) -> dict[str, float]:
    """Processor milliseconds per photo of each of `STEPS`."""
    from benchmarks.pages import processor_clock
    from breeds.tasks import classify_photos
    from shelter.intake.importing import work_slice
    from shelter.models import Import, Photo

    paths, clock = sorted(folder.iterdir()), processor_clock()
    times = [clock()]
    pixels = [decode(path, image_size) for path in paths]
    times.append(clock())
    for image in pixels:
        session(image)
    times.append(clock())
    work_slice(Import.objects.claim(Import.objects.from_disk(Import.Kind.DISK, [folder], None).pk))
    times.append(clock())
    while classify_photos():
        pass
    times.append(clock())
    if waiting := Photo.objects.exclude(status="done").count():
        raise SystemExit(f"Expected an answer to every photo. Received: {waiting} without one.")
    spent = (after - before for before, after in itertools.pairwise(times))
    return {step: 1000 * seconds / len(paths) for step, seconds in zip(STEPS, spent, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=24, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = flair_in(stack)
        from ml.serving.checkpoint import load_checkpoint
        from ml.serving.inference import Session

        checkpoint = load_checkpoint(BUNDLED)
        session, rounds = Session(checkpoint.model_path), []
        for number in range(given.rounds + 1):
            first = number * given.photos
            some = write_photos(folder / str(number), range(first, first + (given.photos if number else 4)))
            rounds.append(costs_of(some, session, checkpoint.image_size))
        rounds = rounds[1:]  # the first loads what the others have
    database = "PostgreSQL" if os.environ.get("DATABASE_URL") else "SQLite"
    print(f"{database}, classifier {checkpoint.version[:8]}, {checkpoint.image_size} px, {given.rounds} rounds")
    for step in STEPS:
        values = [costs[step] for costs in rounds]
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(f"  {step:20} {statistics.median(values):6.1f} ms  ({shown})")
    shares = [(costs[STEPS[0]] + costs[STEPS[1]]) / (costs["import"] + costs["worker"]) for costs in rounds]
    print(
        f"  bare / all of it     {statistics.median(shares):6.0%}     ({', '.join(f'{share:.0%}' for share in shares)})"
    )


if __name__ == "__main__":
    main()
