"""Files that appear whole or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write to the neighbour of `path` that is given; it takes the place of `path` once the block is done.

    Whoever looks sees the old file or the new one; an error leaves the old one, and no half one beside it. The
    neighbour keeps the suffix, which Keras looks at.
    """
    partial = path.with_name("partial-" + path.name)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path, value) -> None:
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
