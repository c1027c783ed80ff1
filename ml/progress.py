"""The one way to show how far a long piece of work is: `track(items, description, total)`."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Track = Callable[[Iterable, str, int], Iterable]  # pass `items` on, `total` in number, and show the progress

SECONDS_BETWEEN_LINES = 10


def no_track(items: Iterable, description: str, total: int) -> Iterable:
    return items


def track(
    items: Iterable, description: str, total: int | None = None, say: Callable[[str], None] | None = None
) -> Iterator:
    """Pass `items` on under a progress bar; without a terminal, send a line to `say` every 10 s and at the end."""
    total = len(items) if total is None else total
    console = Console(stderr=True)
    return _bar(items, description, total, console) if console.is_terminal else _lines(items, description, total, say)


def _bar(items, description, total, console) -> Iterator:
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console, transient=True) as progress:
        yield from progress.track(items, total, description=description)


def _lines(items, description, total, say) -> Iterator:
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > SECONDS_BETWEEN_LINES and done < total:
            last = time.monotonic()
            say(f"{description}: {done:,} of {total:,}")
    say(f"{description}: {done:,} of {total:,} in {time.monotonic() - start:.0f} s")
