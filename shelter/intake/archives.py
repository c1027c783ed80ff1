"""Zip archives as shelters have them: old, huge, with odd names, and now and then ill-willed.

Nothing is ever unpacked to a disk. An entry is refused with a code of `shelter.intake.refusals.refusal`; the others go
on.
"""

import io
import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from django.conf import settings

# The list of contents is the one thing that is read into memory: about 100,000 entries.
MAX_DIRECTORY_BYTES = 16_000_000

# Photos are compressed already: zip gains a few percent. What shrinks this much is made to burst.
MAX_RATIO, BURSTING_BYTES = 200, 1_000_000

# Bytes of a local header before the name; what follows the name is at least not negative.
_LOCAL_HEADER_BYTES = 30
_ARCHIVE_SUFFIXES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_SYSTEM_FOLDERS = {"__macosx", "$recycle.bin", "system volume information"}
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, struct.error)
_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1

# Folders that cameras, phones and messengers make: no dog is called so.
_NO_DOG = re.compile(
    r"\d{3}\w{5}|dcim|camera|photos?|images?|img|pictures?|downloads?|t[ée]l[ée]chargements?|documents|bureau|desktop"
    r"|whatsapp.*|screenshots?|nouveau dossier.*|new folder.*|divers|(?:[^a-zà-ÿ]*)",
    re.IGNORECASE,
)
_LETTERS_OF_NAMES = frozenset("àâäçèéêëîïôöùûüÿœæÀÂÄÇÈÉÊËÎÏÔÖÙÛÜŸŒÆáíóúñåøÁÍÓÚÑÅØ’–°«»")


class BadArchive(Exception):
    """The archive as a whole cannot be read. `code` as in `shelter.intake.refusals.refusal`."""

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


class BadEntry(Exception):
    """One file of an archive or disk cannot be read; the others can."""

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Entry:
    """One file of an archive. `refusal` is the code of what forbids to open it, or empty."""

    position: int
    path: str
    refusal: str


class Archive:
    """A zip that is read where it lies. Raises `BadArchive`."""

    def __init__(self, file: BinaryIO):
        try:
            _refuse_large_directory(file)
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError, ValueError) as error:
            raise BadArchive("not_a_zip") from error
        self._infos = self._zip.infolist()

    def entries(self) -> Iterator[Entry]:
        """Every file but those that systems hide among them."""
        decode, overlapping = _decoder(self._infos), _overlapping(self._infos)
        for position, info in enumerate(self._infos):
            path = decode(info)
            if not info.is_dir() and not path.endswith("/") and not is_hidden(path):
                yield Entry(position, path, "overlapping" if position in overlapping else _refusal(info, path))

    def read(self, position: int) -> bytes:
        """At most `MAX_PHOTO_BYTES` and one more, whatever the archive claims. Raises `BadEntry`."""
        try:
            with self._zip.open(self._infos[position]) as file:
                return file.read(settings.MAX_PHOTO_BYTES + 1)
        except NotImplementedError as error:
            raise BadEntry("unsupported_compression") from error
        except _DAMAGED as error:
            raise BadEntry("damaged_entry") from error
        except OSError as error:
            if error.errno is not None:  # the disk; what bz2 finds damaged has no number
                raise
            raise BadEntry("damaged_entry") from error


def _refuse_large_directory(file: BinaryIO) -> None:
    """Look up the length of the list of contents (APPNOTE 4.3.14 and 4.3.16) before zipfile reads it whole."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - 65_600))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        return  # zipfile says what is wrong with it
    sizes = [struct.unpack_from("<I", tail, end + 12)[0]]
    if tail[max(0, end - 20) : end].startswith(b"PK\x06\x07"):
        file.seek(min(length, struct.unpack_from("<Q", tail, end - 12)[0]))
        record = file.read(56)
        sizes = [struct.unpack_from("<Q", record, 40)[0]] if record.startswith(b"PK\x06\x06") else sizes
    if max(sizes) > MAX_DIRECTORY_BYTES:
        raise BadArchive("too_many_entries")
    file.seek(0)


def _refusal(info: zipfile.ZipInfo, path: str) -> str:
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
        return "unsafe_path"
    if info.flag_bits & _ENCRYPTED_FLAG:
        return "encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "link"
    if path.lower().endswith(_ARCHIVE_SUFFIXES):
        return "nested_archive"
    if info.file_size > settings.MAX_PHOTO_BYTES:
        return "too_large"
    if info.file_size > BURSTING_BYTES and info.file_size > MAX_RATIO * info.compress_size:
        return "bomb"
    return ""


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Positions of entries that share bytes with another: how 46 MB are made to unpack to petabytes (Fifield, 2019)."""
    found, furthest = set(), None
    for position in sorted(range(len(infos)), key=lambda position: infos[position].header_offset):
        if furthest is not None and infos[position].header_offset < _end(infos[furthest]):
            found |= {furthest, position}
        if furthest is None or _end(infos[position]) > _end(infos[furthest]):
            furthest = position
    return found


def _end(info: zipfile.ZipInfo) -> int:
    return info.header_offset + _LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size


def _decoder(infos: list[zipfile.ZipInfo]) -> Callable[[zipfile.ZipInfo], str]:
    """How the names of an archive are to be read: one way for all those that do not say it themselves.

    Only newer archives mark names as UTF-8. The others hold the bytes of whoever packed them: UTF-8 unmarked (macOS),
    code page 850 (Windows in Western Europe), 437 (DOS) or 1252. The one that makes the most letters of French wins.
    """
    raw = [info.orig_filename.encode("cp437") for info in infos if not info.flag_bits & _UTF8_FLAG]
    unmarked = b"\n".join(name for name in raw if not name.isascii())
    encoding = _encoding_of(unmarked)

    def decode(info: zipfile.ZipInfo) -> str:
        name = info.orig_filename
        if not info.flag_bits & _UTF8_FLAG:
            name = name.encode("cp437").decode(encoding, "replace")
        return unicodedata.normalize("NFC", name.split("\x00")[0].replace("\\", "/"))

    return decode


def _encoding_of(names: bytes) -> str:
    try:
        names.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8"

    def letters(encoding: str) -> int:
        text = names.decode(encoding, "replace")
        return sum(1 if letter in _LETTERS_OF_NAMES else -1 for letter in text if not letter.isascii())

    return max(("cp850", "cp437", "cp1252"), key=letters)


def is_hidden(path: str) -> bool:
    """What systems put beside photos: no person means it when they send a folder."""
    *folders, name = path.split("/")
    return (
        name.lower() in _SYSTEM_FILES
        or any(part.lower() in _SYSTEM_FOLDERS for part in folders)
        or any(part.startswith(".") and part != ".." for part in (*folders, name))
    )


def dog_name(path: str) -> str:
    """The nearest folder above a file that may be called after a dog, or nothing."""
    for folder in reversed(path.split("/")[:-1]):
        if not _NO_DOG.fullmatch(folder.strip()):
            return " ".join(folder.replace("_", " ").split())[:100]
    return ""


class Parts(io.RawIOBase):
    """One file that lies in pieces, read as one. `open_part(number)` opens the piece with that number, from 0.

    All pieces but the last have `part_bytes` bytes. Two stay open: the list of contents and where reading is.
    """

    def __init__(self, size: int, part_bytes: int, open_part: Callable[[int], BinaryIO]):
        self._size, self._part_bytes, self._position = size, part_bytes, 0
        self._part = lru_cache(maxsize=2)(lambda number: open_part(number).read())

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._position

    def seek(self, offset, whence=io.SEEK_SET):
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer):
        if self._position >= self._size:
            return 0
        number, offset = divmod(self._position, self._part_bytes)
        piece = memoryview(self._part(number))[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
