"""From bytes on disk to indexed rows: Flair beside the bare network and the bare decoder, on the same photos.

    python -m benchmarks.pipeline                       # SQLite and the broker in a folder
    DATABASE_URL=… REDIS_URL=… python -m benchmarks.pipeline

Photos of 5 megapixels are made and lie in a folder. Bare means: so many processes read files and decode them with
Pillow at reduced scale to the network's pixels, or run the LiteRT network on such pixels, and do nothing else. What
both set together, 1 / (1/decode + 1/network), is the bound. Flair is the worker of `make run` with an import from that
folder: everything that a photo costs, from the first file to the last row. Bare and Flair take turns.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.racing import FIVE_MEGAPIXELS, made_jpeg
from ml.images.preprocessing import decoded_side, to_pixels, to_square_image
from ml.serving.checkpoint import load_checkpoint
from ml.serving.inference import Session
from tests.support.serving import ROOT, Flair, paused, serving, wait_until

BUNDLED = ROOT / "ml" / "bundled"
WARM_UP = 12
START = """
from pathlib import Path
from shelter.models.imports import Import
from shelter.tasks import hint_imports
Import.objects.from_disk(Import.Kind.DISK, [Path({source!r})], None)
hint_imports()
"""
STATE = """
import json
from django.db.models import Max, Min
from breeds.models import Prediction
from shelter.models.imports import Import
from shelter.models import Photo
done = Prediction.objects.filter(photo__receipts__batch__source={source!r})
print(json.dumps([
    Import.objects.get(source={source!r}).started_at.timestamp(),
    done.aggregate(last=Max("finished_at"))["last"].timestamp(),
    done.filter(status="done").count(),
]))
"""


# -- photos -----------------------------------------------------------------------------------------------------------


def write_photos(folder: Path, numbers: range) -> Path:
    """Photos that differ in every bit of their hashes: no two are twins."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_photo, folder), numbers))
    return folder


def _write_photo(folder: Path, number: int) -> None:
    (folder / f"{number:06}.jpg").write_bytes(made_jpeg(FIVE_MEGAPIXELS, number))


# -- bare -------------------------------------------------------------------------------------------------------------


def decode(path: Path, image_size: int) -> np.ndarray:
    """What `ml.images.preprocessing.prepare_image` gives, without its checks."""
    with Image.open(path) as image:
        image.draft("RGB", (decoded_side(image_size),) * 2)
        return to_pixels(to_square_image(image.convert("RGB"), image_size))


def bare_worker(kind: str, paths: list[Path], ready, times) -> None:
    checkpoint = load_checkpoint(BUNDLED)
    size = checkpoint.image_size
    session = Session(checkpoint.model_path) if kind == "network" else None
    pixels = decode(paths[0], size)
    work = [decode(path, size) for path in paths] if session else paths
    answer: Callable = session or partial(decode, image_size=size)
    answer(pixels if session else paths[0])
    ready.wait()
    started, worked = time.monotonic(), time.process_time()
    for item in work:
        answer(item)
    times.put((started, time.monotonic(), time.process_time() - worked))


def bare(kind: str, paths: list[Path], processes: int) -> tuple[float, float]:
    """Photos per second of `decode` or `network` in so many processes at once; processor seconds per photo."""
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(processes), context.SimpleQueue()
    workers = [
        context.Process(target=bare_worker, args=(kind, paths[number::processes], ready, times))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [times.get() for _ in workers]
    for worker in workers:
        worker.join()
    starts, ends, worked = zip(*found, strict=True)
    return len(paths) / (max(ends) - min(starts)), sum(worked) / len(paths)


# -- Flair ------------------------------------------------------------------------------------------------------------


def is_idle(flair: Flair, token: str) -> bool:
    return not flair.api("GET", "/photos/?status=pending&page_size=1", token)["results"]


def imported(flair: Flair, folder: Path) -> tuple[float, float]:
    """Import a folder and wait for all answers: when the first file was taken, and when the last row was written."""
    token, there = flair.token(), len(list(folder.iterdir()))
    flair.python(START.format(source=str(folder)))
    imports = f"from shelter.models.imports import Import as I; print(I.objects.get(source={str(folder)!r}).status)"
    wait_until(lambda: is_idle(flair, token) and flair.python(imports).stdout == "done\n", 1800, "all answers")
    started, last, done = json.loads(flair.python(STATE.format(source=str(folder))).stdout)
    if done != there:
        raise SystemExit(f"Expected {there} photos with an answer. Received: {done}.")
    return started, last


def whole(flair: Flair, folder: Path) -> tuple[float, float]:
    """Photos per second from bytes on disk to indexed rows; processor seconds per photo of the worker."""
    before, count = busy(flair), len(list(folder.iterdir()))
    started, last = imported(flair, folder)
    return count / (last - started), (busy(flair) - before) / count


def busy(flair: Flair) -> float:
    """Processor seconds of the worker's processes so far; those of PostgreSQL and Redis are not in it."""
    ticks = 0
    for pid in flair.processes("celery"):
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def apart(flair: Flair, folder: Path) -> tuple[float, float]:
    """Photos per second of the import alone, with the workers paused, and then of the workers alone."""
    count, token = len(list(folder.iterdir())), flair.token()
    with paused(flair):
        done = subprocess.run(
            [sys.executable, "manage.py", "import_photos", str(folder)],
            cwd=ROOT, env=flair.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.returncode == 0
        finished = "from shelter.models.imports import Import as I; i = I.objects.get(source={!r}); print({})".format(
            str(folder), "(i.finished_at - i.started_at).total_seconds()"
        )
        seconds = float(flair.python(finished).stdout)
        resumed = time.time()
    wait_until(lambda: is_idle(flair, token), 1800, "an answer to every photo")
    _, last, _ = json.loads(flair.python(STATE.format(source=str(folder))).stdout)
    return count / seconds, count / (last - resumed)


# -- memory -----------------------------------------------------------------------------------------------------------


def memory_of(pids: list[int]) -> dict[str, float]:
    """Megabytes of some processes together: `pss` shares what they share, `rss` counts it for each."""
    total = {"pss": 0.0, "rss": 0.0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name.lower() in total:
                total[name.lower()] += int(rest.split()[0]) / 1000
    return total


def say_memory(flair: Flair) -> None:
    for name, pattern in (("web (1 master, 1 process)", "gunicorn"), ("worker (1 parent, its children)", "celery")):
        pids = flair.processes(pattern)
        used = memory_of(pids)
        print(f"  {name:34} {len(pids)} processes  PSS {used['pss']:5.0f} MB  RSS {used['rss']:5.0f} MB")


# -- all of it --------------------------------------------------------------------------------------------------------


def measure(processes: int, photos: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    figures = {name: [] for name in ("decode", "network", "whole", "import alone", "workers alone", "processor")}
    with serving(folder / "data", FLAIR_WORKER_PROCESSES=str(processes), FLAIR_SWEEP_SECONDS="10") as flair:
        imported(flair, write_photos(folder / "warm-up", range(10**5, 10**5 + WARM_UP)))
        print(f"\n{processes} worker process(es): memory after {WARM_UP} photos")
        say_memory(flair)
        for number in range(rounds):
            some = write_photos(folder / f"whole-{number}", range(2 * number * photos, (2 * number + 1) * photos))
            paths = sorted(some.iterdir())
            costs = {}
            for name, run in (("decode", bare), ("network", bare), ("whole", whole)):
                given = (flair, some) if run is whole else (name, paths, processes)
                rate, costs[name] = run(*given)
                figures[name].append(rate)
            figures["processor"].append((costs["decode"] + costs["network"]) / costs["whole"])
            other = write_photos(
                folder / f"apart-{number}", range((2 * number + 1) * photos, (2 * number + 2) * photos)
            )
            for name, figure in zip(("import alone", "workers alone"), apart(flair, other), strict=True):
                figures[name].append(figure)
        print(f"memory after {WARM_UP + 2 * rounds * photos} photos")
        say_memory(flair)
    return figures


def bound_of(figures: dict[str, list[float]]) -> list[float]:
    pairs = zip(figures["decode"], figures["network"], strict=True)
    return [1 / (1 / decoded + 1 / answered) for decoded, answered in pairs]


def say(figures: dict[str, list[float]], processes: int) -> None:
    bounds = bound_of(figures)
    print(f"\n{processes} worker process(es), photos per second, median of {len(bounds)} rounds (all of them)")
    for name, values in {**figures, "bound of decode and network": bounds}.items():
        if name == "processor":
            continue
        print(f"  {name:30} {statistics.median(values):7.1f}   ({', '.join(f'{value:.1f}' for value in values)})")
    shares = figures["processor"]
    print(f"  {'processor time, bare / whole':30} {statistics.median(shares):7.0%}   "
          f"({', '.join(f'{share:.0%}' for share in shares)})")  # fmt: skip
    for name in ("whole", "workers alone"):
        shares = [value / bound for value, bound in zip(figures[name], bounds, strict=True)]
        print(f"  {name + ' / bound':30} {statistics.median(shares):7.0%}   "
              f"({', '.join(f'{share:.0%}' for share in shares)})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=150, help="of each round and kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    checkpoint = load_checkpoint(BUNDLED)
    database = os.environ.get("DATABASE_URL", "sqlite").partition(":")[0]
    broker = os.environ.get("REDIS_URL", "folder").partition(":")[0]
    network = f"classifier {checkpoint.version[:8]}, {checkpoint.image_size} px"
    print(f"{database}, {broker}, {os.cpu_count()} cores, {network}")
    found = {}
    with ExitStack() as stack:
        for processes in given.processes:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            found[processes] = measure(processes, given.photos, given.rounds, folder)
            say(found[processes], processes)
    if {1, 2} <= set(found):
        print("\n2 processes / 1 process")
        for name in set(found[1]) - {"processor"}:
            print(f"  {name:30} {statistics.median(found[2][name]) / statistics.median(found[1][name]):7.2f}×")


if __name__ == "__main__":
    main()
