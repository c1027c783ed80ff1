"""Candidates that take turns: what benchmarks share."""

import io
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

FIVE_MEGAPIXELS = (2592, 1944)


class Missing(Exception):
    """A package that is not installed, or a conversion that failed: the candidate is named and left out."""


def made_jpeg(size: tuple[int, int] = FIVE_MEGAPIXELS, seed: int = 0) -> bytes:
    """A JPEG as a phone writes it: soft shapes, some grain, quality 90."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (size[1], size[0], 1)).astype(np.float32)
    pixels = (np.asarray(shapes) + grain).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def load(candidates: dict[str, Callable[[], Callable]]) -> tuple[dict[str, Callable], dict[str, str]]:
    """Those that load, and why the others did not."""
    loaded, missing = {}, {}
    for name, make in candidates.items():
        try:
            loaded[name] = make()
        except (ImportError, Missing) as error:
            missing[name] = str(error)
    return loaded, missing


def race(candidates: dict[str, Callable[[], object]], rounds: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Milliseconds of one call of each over `rounds`, after one that does not count.

    `median` and `p90` on the clock; `processor`: median of processor time over all cores, which hardly depends on what
    else the machine does.
    """
    order, times = list(candidates), {name: ([], []) for name in candidates}
    shuffle = random.Random(seed).shuffle
    for turn in range(rounds + 1):
        shuffle(order)
        for name in order:
            clock, processor = time.perf_counter(), time.process_time()
            candidates[name]()
            if turn:
                times[name][0].append(1000 * (time.perf_counter() - clock))
                times[name][1].append(1000 * (time.process_time() - processor))
    return {
        name: {
            "median": statistics.median(clock),
            "p90": float(np.quantile(clock, 0.9)),
            "processor": statistics.median(processor),
        }
        for name, (clock, processor) in times.items()
    }


def say_table(heads: list[str], rows: list[list[str]]) -> None:
    print("\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)))


def speed(row: dict, of: float) -> list[str]:
    if "median" not in row:
        return ["not the same function", "", "", ""]
    return [f"{row['median']:.1f}", f"{row['p90']:.1f}", f"{row['processor']:.1f}", f"{row['median'] / of:.2f}"]
