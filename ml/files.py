"""Files that appear whole or not at all, and their hashes."""

import hashlib
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


def write_json(path: Path, value, indent: int = 2) -> None:
    write_whole(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits, of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
