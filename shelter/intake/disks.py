"""The files of a disk that was plugged into this machine: which of them a person means, and what is in them."""

import os
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from shelter.intake.archives import BadEntry, is_hidden


def files_of(sources: list[str]) -> Iterator[tuple[Path, Path]]:
    """(path, path as seen from the folder that was named, with that folder) of every file a person would mean."""
    for source in map(Path, sources):
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.is_file() and not is_hidden(path.relative_to(source).as_posix()):
                    yield path, path.relative_to(source.parent)
        else:
            yield source, Path(source.name)


def printable(path: Path) -> str:
    """As text that any database takes: names that are not UTF-8 show their odd bytes, and cannot be opened by it."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def read_file(path: Path) -> bytes:
    """Raises `BadEntry` for a file that cannot be read, `OSError` where its whole folder has gone."""
    try:
        with path.open("rb") as file:
            return file.read(settings.MAX_PHOTO_BYTES + 1)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        if not path.parent.exists():
            raise
        raise BadEntry("unreadable_file") from error
