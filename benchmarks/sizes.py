"""Pages, and the search for look-alikes, at 1,000, 10,000 and 100,000 photos that are made by code.

    python -m benchmarks.sizes                          # SQLite
    DATABASE_URL=… python -m benchmarks.sizes --sizes 1000 10000

The index grows from size to size; at each, every page of `benchmarks.pages` and 20 searches for look-alikes are timed
in a process of their own, one request after the other. Look-alikes are searched among random features, which cost as
much to compare as real ones.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from tests.support.serving import ROOT, Flair, own_database

SEARCHES = 20


def fill_features() -> None:
    """Random features and probabilities for every answer that has none."""
    from django.db import connection

    from breeds.classifier import active_classifier
    from breeds.models import Prediction, pack_floats

    rng, checkpoint = np.random.default_rng(0), active_classifier()[0].checkpoint
    labels, features = len(checkpoint.labels), checkpoint.familiarity.mean.size
    bare = list(Prediction.objects.filter(status="done", embedding=None).values_list("pk", flat=True))
    with connection.cursor() as cursor:
        for start in range(0, len(bare), 1000):
            some = bare[start : start + 1000]
            embeddings = rng.standard_normal((len(some), features), np.float32)
            probs = rng.dirichlet(np.full(labels, 0.1), len(some))
            rows = [(pack_floats(a), pack_floats(b), pk) for a, b, pk in zip(embeddings, probs, some, strict=True)]
            cursor.executemany("UPDATE breeds_prediction SET embedding = %s, probs = %s WHERE id = %s", rows)


def time_lookalikes() -> dict[str, float]:
    """Milliseconds of the first search, which reads every row, and of those that follow; megabytes that it all took."""
    from breeds.lookalikes import photos_like
    from shelter.models import Photo

    photos = list(Photo.objects.filter(status="done").values_list("pk", flat=True)[: SEARCHES + 1])
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for photo in photos:
        start = time.perf_counter()
        found = photos_like(photo)
        times.append((time.perf_counter() - start) * 1000)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    return {
        "searched": found.searched, "first": times[0], "median": statistics.median(times[1:]),
        "p95": statistics.quantiles(times[1:], n=20)[-1], "megabytes": grown,
    }  # fmt: skip


def here(rounds: int) -> None:
    """In a process of its own, which sees the database by its variables."""
    from benchmarks import pages  # which starts Django

    fill_features()
    figures = pages.measure(rounds, lambda line: None)
    print(json.dumps({"pages": figures, "lookalikes": time_lookalikes()}))


def measured(environment: dict[str, str], rounds: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.sizes", "--here", "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def say(found: dict[int, dict]) -> None:
    print(f"\n{'median / 95th percentile, ms':34}" + "".join(f"{size:>16,}" for size in found))
    for name in next(iter(found.values()))["pages"]:
        rows = [figures["pages"][name] for figures in found.values()]
        print(f"{name:34}" + "".join(f"{row['median']:9.0f} /{row['p95']:5.0f}" for row in rows))
    rows = [figures["lookalikes"] for figures in found.values()]
    print(f"{'look-alikes':34}" + "".join(f"{row['median']:9.0f} /{row['p95']:5.0f}" for row in rows))
    print(f"{'  the first search of a process':34}" + "".join(f"{row['first']:16.0f}" for row in rows))
    print(f"{'  memory it takes, MB':34}" + "".join(f"{row['megabytes']:16.0f}" for row in rows))
    print(f"{'  answers compared':34}" + "".join(f"{row['searched']:16,}" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        here(given.rounds)
        return
    found, there = {}, 0
    with tempfile.TemporaryDirectory() as folder, own_database(os.environ.get("DATABASE_URL", "")) as database:
        environment = os.environ | database | {"FLAIR_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "shelter.settings"}
        flair = Flair(environment | {"PORT": "0"})
        flair.manage("prepare")
        print(f"{'PostgreSQL' if database else 'SQLite'}, {os.cpu_count()} cores, {given.rounds} requests a page")
        for size in sorted(given.sizes):
            command = [sys.executable, "manage.py", "seed_demo", "--photos", str(size - there)]
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
            there, found[size] = size, measured(environment, given.rounds)
    say(found)


if __name__ == "__main__":
    main()
