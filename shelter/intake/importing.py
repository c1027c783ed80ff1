"""The work on an archive or a disk: list its files, then take in each of them, in slices of a few seconds.

The rows are the truth (`shelter.models.Import`). If the process is killed, the next slice loses nothing, because photo
and file result are written in one transaction, and repeats nothing, because only waiting files are taken.
"""

import io
import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from django.utils.translation import gettext as _

from breeds.hints import hint
from breeds.models import Prediction
from shelter.intake.archives import Archive, BadArchive, BadEntry, Parts, dog_name
from shelter.intake.disks import files_of, printable, read_file
from shelter.intake.uploads import upload_photo
from shelter.models import Import, ImportItem
from shelter.models import imports as import_rows
from shelter.models.imports import hint_imports

logger = logging.getLogger(__name__)

HINT_SECONDS = 1  # between two hints of an import that is under way


def check_archive_size(size: int) -> None:
    """Raise `ValidationError` for an archive that is too large."""
    if size > settings.MAX_ARCHIVE_BYTES:
        limit = settings.MAX_ARCHIVE_BYTES // 1_000_000_000
        raise ValidationError(_("An archive has at most %(limit)s GB.") % {"limit": limit}, code="too_large")


def receive_whole(user, file) -> Import:
    """Store an archive that comes in one request. The stamp is unique, so that each one gets an import of its own."""
    batch = Import.objects.receive(user, file.name[-255:], file.size, stamp=str(uuid.uuid4()))
    batch.take_whole(file)
    hint_imports()
    return batch


def receive_part(batch: Import, number: int, file) -> bool:
    """Store one piece of an archive; tell the workers after the last. False where another piece is awaited."""
    is_taken = batch.take_part(number, file)
    if is_taken and batch.status == Import.Status.WAITING:
        hint_imports()
    return is_taken


def work_slice(batch: Import) -> bool:
    """Work on an import for a few seconds, then give its lease back. Returns whether some of it is left."""
    hinted = float("-inf")

    def take(item: ImportItem, content: ContentFile) -> None:
        nonlocal hinted
        upload_photo(content, user=batch.user, priority=Prediction.Priority.BULK, item=item)
        if time.monotonic() - hinted > HINT_SECONDS:  # workers begin while the rest comes in
            hinted = time.monotonic()
            hint()

    try:
        is_left = work(batch, take, until=timezone.now() + timedelta(seconds=settings.SLICE_SECONDS))
    except BadArchive as error:
        batch.fail(error.code)
        return False
    except Exception:  # a full disk, a lost connection, a stick that was pulled out: a later attempt may succeed
        logger.exception("Import %s could not go on", batch.pk, extra={"batch": batch.pk})
        batch.give_back("passing")
        return True
    if is_left:
        batch.give_back()
    hint()
    return is_left


def work(batch: Import, take: Callable[[ImportItem, ContentFile], None], until: datetime) -> bool:
    """Settle waiting files, and `take` those that can be read. Returns whether some are left when the time is up."""
    if batch.is_listed and not batch.items.waiting().exists():
        batch.finish()
        return False
    archive = _open_archive(batch) if batch.kind == Import.Kind.ARCHIVE else None
    if not batch.is_listed:
        items = _entries_of(batch, archive) if archive else files_of_disk(batch)
        if len(items) > settings.MAX_IMPORT_FILES:
            raise BadArchive("too_many_entries")
        batch.list_files(items)
    while waiting := list(batch.items.waiting()[:20]):
        for item in waiting:
            if timezone.now() >= until:
                return True
            try:
                content = archive.read(item.position) if archive else read_file(Path(item.path))
            except BadEntry as error:
                item.settle(ImportItem.Outcome.REFUSED, code=error.code)
            else:
                take(item, ContentFile(content, name=item.name))
    batch.finish()
    return False


def _open_archive(batch: Import) -> Archive:
    if batch.source:
        return Archive(Path(batch.source).open("rb"))
    parts = Parts(batch.size, import_rows.PART_BYTES, lambda number: default_storage.open(batch.part_path(number)))
    return Archive(io.BufferedReader(parts))


def _entries_of(batch: Import, archive: Archive) -> list[ImportItem]:
    return [
        ImportItem(
            batch=batch,
            position=entry.position,
            path=entry.path,
            dog=dog_name(entry.path),
            outcome=ImportItem.Outcome.REFUSED if entry.refusal else ImportItem.Outcome.WAITING,
            code=entry.refusal,
            settled_at=timezone.now() if entry.refusal else None,
        )
        for entry in archive.entries()
    ]


def files_of_disk(batch: Import) -> list[ImportItem]:
    return [
        ImportItem(batch=batch, position=position, path=printable(path), dog=dog_name(printable(inner)))
        for position, (path, inner) in enumerate(files_of(batch.source.splitlines()))
    ]
