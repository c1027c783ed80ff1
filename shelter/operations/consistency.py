"""Do rows and files agree? Looked at through the storage API alone, so that a folder and a bucket are the same.

Uploads may go on meanwhile. They write a file first and its row a moment later, so that a young file without a row is
nobody's fault; and what seems to be missing is looked for once more before it is called so.

Repairing deletes nothing: a file that no row knows is moved below `set-aside/`, under the hash of its bytes, and comes
back from there when a row asks for those bytes.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import PurePosixPath

from django.core.files.base import File
from django.core.files.storage import Storage, default_storage
from django.db.models import Exists, OuterRef, Q, QuerySet, TextChoices
from django.utils import timezone

from breeds.models import Prediction
from shelter.models import Import, Photo

SET_ASIDE = "set-aside"
AT_ONCE = 500

OVER = [Import.Status.DONE, Import.Status.FAILED]
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Kind(TextChoices):
    """What may be wrong, in the words of the report."""

    MISSING = "missing", "a photo without its file"
    DAMAGED = "damaged", "a file that has changed since it came"
    NO_PREVIEW = "no preview", "a photo without its preview"
    NO_PIECE = "no piece", "an import without one of its pieces"
    ORPHAN = "orphan", "a file without a row"
    UNASKED = "unasked", "a photo that waits for an answer nobody was asked for"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `name` is that of the file, `photo` the key of the row, where there is one."""

    kind: Kind
    name: str = ""
    photo: int | None = None

    def __str__(self):
        return ", ".join(filter(None, [str(self.kind.label), self.name, f"photo {self.photo}" if self.photo else ""]))


class Consistency:
    """The check of one storage. Files younger than `grace` may be on their way to a row."""

    def __init__(
        self, storage: Storage = default_storage, *, grace: timedelta = timedelta(hours=1), verify_hashes: bool = False
    ):
        self.storage, self.grace, self.verify_hashes = storage, grace, verify_hashes
        self._listing = lru_cache(maxsize=8)(self._list)  # photos come in the order of their folders

    def findings(self, now: datetime | None = None) -> Iterator[Finding]:
        """Everything that is wrong, as it is found; memory does not grow with the number of photos."""
        yield from self._photos_without_files()
        yield from self._imports_without_pieces()
        yield from self._files_without_rows(now or timezone.now())
        yield from self._photos_nobody_was_asked_about()

    def _photos_without_files(self) -> Iterator[Finding]:
        for photo in Photo.objects.order_by("sha256").iterator(chunk_size=AT_ONCE):
            image, preview = photo.image.name, photo.preview.name
            if not self._is_there(image) and self._is_still(photo, image=image):
                yield Finding(Kind.MISSING, image, photo.pk)
            elif self.verify_hashes and self._is_damaged(photo):
                yield Finding(Kind.DAMAGED, image, photo.pk)
            if preview and not self._is_there(preview) and self._is_still(photo, preview=preview):
                yield Finding(Kind.NO_PREVIEW, preview, photo.pk)

    def _is_there(self, name: str) -> bool:
        """By the listing of its folder; what came after that was made is asked for by its name."""
        path = PurePosixPath(name)
        return path.name in self._listing(str(path.parent)) or self.storage.exists(name)

    def _list(self, folder: str) -> frozenset[str]:
        return frozenset(self._below(folder)[1])

    def _is_still(self, photo: Photo, **fields) -> bool:
        """A photo that was deleted meanwhile took its files along."""
        return Photo.objects.filter(pk=photo.pk, **fields).exists()

    def _is_damaged(self, photo: Photo) -> bool:
        try:
            return self._sha256(photo.image.name) != stored_hash(photo)
        except FileNotFoundError:
            return self._is_still(photo)

    def _sha256(self, name: str) -> str:
        return sha256_of(self.storage.open(name))

    def _imports_without_pieces(self) -> Iterator[Finding]:
        for batch in archives_in_pieces():
            for number in range(batch.received):
                name = batch.part_path(number)
                if not self._is_there(name) and archives_in_pieces().filter(pk=batch.pk).exists():
                    yield Finding(Kind.NO_PIECE, name)

    def _photos_nobody_was_asked_about(self) -> Iterator[Finding]:
        for pk in Photo.objects.filter(unasked(), status=Photo.Status.PENDING).values_list("pk", flat=True):
            yield Finding(Kind.UNASKED, photo=pk)

    def _files_without_rows(self, now: datetime) -> Iterator[Finding]:
        for names in self.folders():
            for start in range(0, len(names), AT_ONCE):
                some = names[start : start + AT_ONCE]
                for name in sorted(set(some) - self._known(some)):
                    if self._is_old(name, now):
                        yield Finding(Kind.ORPHAN, name)

    def folders(self, folder: str = "") -> Iterator[list[str]]:
        """The names of the files of one folder after another, without those that were set aside."""
        folders, files = self._below(folder)
        if files:
            yield [f"{folder}/{name}".lstrip("/") for name in files]
        for name in folders:
            if (below := f"{folder}/{name}".lstrip("/")) != SET_ASIDE:
                yield from self.folders(below)

    def _below(self, folder: str) -> tuple[list[str], list[str]]:
        try:
            return self.storage.listdir(folder)
        except FileNotFoundError:
            return [], []

    def _known(self, names: list[str]) -> set[str]:
        """Those that a row names, or that are made from a photo: a preview is there before its row says so."""
        by_hash = {name: stem for name in names if _SHA256.fullmatch(stem := PurePosixPath(name).stem)}
        photos = {photo.sha256: photo for photo in Photo.objects.filter(sha256__in=set(by_hash.values()))}
        known = {name for name, sha256 in by_hash.items() if sha256 in photos and name in files_of(photos[sha256])}
        pieces = {name: name.split("/")[1] for name in names if name.startswith("imports/") and name.count("/") == 2}
        keys = {str(key) for key in _open_keys(set(pieces.values()))}
        known |= {name for name, key in pieces.items() if key in keys}
        rest = [name for name in names if name not in by_hash and name not in pieces]
        named = Photo.objects.filter(Q(image__in=rest) | Q(preview__in=rest)).values_list("image", "preview")
        return known | {name for pair in (named if rest else ()) for name in pair}

    def _is_old(self, name: str, now: datetime) -> bool:
        try:
            return self.storage.get_modified_time(name) < now - self.grace
        except FileNotFoundError:  # a photo that was deleted meanwhile, or a file that got its name
            return False

    def repair(self, finding: Finding) -> bool:
        """Mend what can be mended without losing anything. False where a person is needed."""
        photo = Photo.objects.filter(pk=finding.photo).first()
        if finding.kind == Kind.ORPHAN:
            return self._set_aside(finding.name)
        if photo is None:
            return False
        if finding.kind in {Kind.MISSING, Kind.DAMAGED}:
            return self._bring_back(photo)
        Photo.objects.filter(pk=photo.pk, preview=finding.name).update(preview="")  # the next answer makes it again
        photo.enqueue(Prediction.Priority.BULK)
        return True

    def _set_aside(self, name: str) -> bool:
        if self._known([name]):
            return True  # its row has come
        sha256 = self._copy(name, lambda sha256: aside(sha256, name))
        self.storage.delete(name)
        if self._known([name]):  # in this very moment
            self._copy(aside(sha256, name), lambda _sha256: name)
        return True

    def _bring_back(self, photo: Photo) -> bool:
        name, kept = photo.image.name, aside(stored_hash(photo), photo.image.name)
        if not self.storage.exists(kept) or self._sha256(kept) != stored_hash(photo):
            return False
        if self.storage.exists(name):
            self._copy(name, lambda sha256: aside(sha256, name))
        self._copy(kept, lambda _sha256: name)
        return True

    def _copy(self, name: str, target_of) -> str:
        """Copy a file, look at the copy, and return the SHA-256 of both. Raises `OSError` where they differ."""
        sha256 = self._sha256(name)
        target = target_of(sha256)
        with self.storage.open(name, "rb") as file:
            self.storage.save(target, File(file, name=target))
        if (copied := self._sha256(target)) != sha256:
            raise OSError(f"Expected a copy of {name} with SHA-256 {sha256}. Received: {copied}.")
        return sha256


def _open_keys(keys: set[str]) -> QuerySet:
    valid = [key for key in keys if re.fullmatch(r"[0-9a-f-]{36}", key)]
    return Import.objects.filter(key__in=valid).exclude(status__in=OVER).values_list("key", flat=True)


def archives_in_pieces() -> QuerySet:
    """Imports whose pieces must be in the storage: archives that arrive, wait or are being imported."""
    return Import.objects.filter(kind=Import.Kind.ARCHIVE, source="").exclude(status__in=OVER)


def unasked() -> Q:
    """Photos without an open prediction: no worker is going to read them."""
    return ~Exists(Prediction.objects.open().filter(photo=OuterRef("pk")))


def sha256_of(file) -> str:
    """The hash of an open file, read from its position on; closes it."""
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_hash(photo: Photo) -> str:
    """SHA-256 of the original as it is stored."""
    return photo.stored_sha256 or photo.sha256


def files_of(photo: Photo) -> set[str]:
    """The names under which a photo may have files, whether or not they are made yet."""
    made = {photo.thumbnail_name(side) for side in Photo.THUMBNAILS.values()}
    return {photo.image.name, photo.preview.name, photo.preview_name} | made


def aside(sha256: str, name: str) -> str:
    return f"{SET_ASIDE}/{sha256[:16]}/{name}"
