"""From a file that somebody sent to a photo that will be answered, or to a sentence that says why not."""

import hashlib
import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.db import Error as DatabaseError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from breeds.classifier import UnreadableImage, inspect_image, remove_location
from breeds.models import Prediction
from shelter.intake.refusals import refusal
from shelter.models import Animal, Import, ImportItem, Photo

logger = logging.getLogger(__name__)
Outcome = ImportItem.Outcome
UPLOADS_AT_ONCE = 8  # photos in the memory of one process; others wait as temporary files
_turns = threading.BoundedSemaphore(UPLOADS_AT_ONCE)


@dataclass(frozen=True)
class Receipt:
    """What became of one file. `code` is a reason of `ml.UnreadableImage` or `too_large`, for what was refused.

    `prediction` is the wish for an answer of a photo that was accepted just now.
    """

    outcome: Outcome
    name: str
    message: str = ""
    photo: Photo | None = None
    code: str = ""
    prediction: Prediction | None = None


def upload_photo(
    file: File,
    *,
    user,
    animal: Animal | None = None,
    priority: int = Prediction.Priority.INTERACTIVE,
    item: ImportItem | None = None,
) -> Receipt:
    """Check, store without its position and queue one file. Sending the same bytes again finds the same photo.

    `item`, the file's row in an import, is settled with it: in the same transaction where a photo is made.
    """
    with _turns:
        receipt = _upload(file, user, animal, priority, item)
    pk = receipt.photo.pk if receipt.photo else None
    logger.info("Upload %s: photo %s %s", receipt.outcome, pk, receipt.code, extra={"photo": pk})
    if item and receipt.outcome != Outcome.ACCEPTED:
        item.settle(receipt.outcome, receipt.photo, receipt.code)
    return receipt


def _upload(file: File, user, animal: Animal | None, priority: int, item: ImportItem | None) -> Receipt:
    name = file_name(file.name)
    if file.size > settings.MAX_PHOTO_BYTES:
        return _refused("too_large", name)
    image_bytes = file.read()
    try:
        facts = inspect_image(image_bytes)
        stored_bytes = remove_location(image_bytes, facts.format)
    except UnreadableImage as error:
        return _refused(error.reason, name)
    sha256 = hashlib.sha256(image_bytes).hexdigest()
    stored_sha256 = sha256 if stored_bytes == image_bytes else hashlib.sha256(stored_bytes).hexdigest()
    if known := _find(sha256, stored_sha256):
        _put_back(known, stored_bytes, stored_sha256)
        return _known(known, name, priority)
    photo = Photo(
        original_name=name,
        sha256=sha256,
        stored_sha256=stored_sha256 if stored_sha256 != sha256 else None,
        size=len(stored_bytes),
        width=facts.width,
        height=facts.height,
        media_type=facts.media_type,
        uploaded_by=user,
        taken_at=taken_at(facts),
        position_rule=Photo.POSITION_RULE,
        animal=animal,
    )
    return _store(photo, stored_bytes, f"originals/{sha256[:2]}/{sha256}{facts.extension}", priority, item)


def taken_at(facts) -> datetime | None:
    """The time of `ml.images.imagefile.ImageFacts` as that of the shelter's own clock; None for what cannot be."""
    latest = timezone.make_naive(timezone.now()) + timedelta(days=1)
    return timezone.make_aware(facts.taken_at) if facts.taken_at and facts.taken_at < latest else None


def _find(*digests: str) -> Photo | None:
    found = Photo.objects.with_content(*digests)
    if not found.exists():  # the answer for nearly every file, without naming every column
        return None
    return found.select_related("animal").first()


def _store(photo: Photo, stored_bytes: bytes, path: str, priority: int, item: ImportItem | None) -> Receipt:
    """The file first, then the row, so that no row is ever without its file."""
    storage = photo.image.storage
    photo.image.name = storage.save(path, ContentFile(stored_bytes))
    try:
        with transaction.atomic():
            prediction = photo.store(priority)
            if item:
                item.settle(Outcome.ACCEPTED, photo)
    except IntegrityError:  # the same photo came in twice at once, and the other was quicker
        twin = _find(photo.sha256, photo.stored_sha256 or photo.sha256)
        if twin.image.name != path:
            storage.delete(path)
        return _known(twin, photo.original_name, priority)
    except BaseException:
        if _has_no_row(photo):
            storage.delete(path)
        raise
    return Receipt(Outcome.ACCEPTED, photo.original_name, photo=photo, prediction=prediction)


def _put_back(photo: Photo, stored_bytes: bytes, stored_sha256: str) -> None:
    """A file that was lost comes back with whoever sends its photo again."""
    storage, is_the_file = photo.image.storage, stored_sha256 == (photo.stored_sha256 or photo.sha256)
    if is_the_file and not storage.exists(photo.image.name):
        storage.save(photo.image.name, ContentFile(stored_bytes))


def _has_no_row(photo: Photo) -> bool:
    """Asked anew: a connection that was lost at COMMIT does not say whether there is a row.

    Where the database does not answer the file stays, for its row or for the next who sends it.
    """
    try:
        return not Photo.objects.filter(sha256=photo.sha256).exists()
    except DatabaseError:
        return False


def _refused(code: str, name: str) -> Receipt:
    return Receipt(Outcome.REFUSED, name, refusal(code, name), code=code)


def _known(photo: Photo, name: str, priority: int) -> Receipt:
    if photo.status != Photo.Status.DONE:
        photo.enqueue(priority)
    return Receipt(Outcome.KNOWN, name, photo.already_sent, photo)


def upload_into(batch: Import, file: File) -> Receipt:
    """One file that a page sends, with its receipt kept. Sent again after a lost answer, it gets the same receipt."""
    item = ImportItem(batch=batch, path=file_name(file.name))
    receipt = upload_photo(file, user=batch.user, item=item)
    if receipt.outcome == Outcome.KNOWN and (first := batch.sent_before(receipt.photo, item.path)):
        item.delete()
        return receipt_of(first)
    return receipt


def know_into(batch: Import, photo: Photo, name: str) -> Receipt:
    """The receipt of a file that need not be sent, because its bytes are those of `photo`."""
    path = file_name(name)
    if first := batch.sent_before(photo, path):
        return receipt_of(first)
    ImportItem(batch=batch, path=path).settle(Outcome.KNOWN, photo)
    return _known(photo, path, Prediction.Priority.INTERACTIVE)


def receipt_of(item: ImportItem) -> Receipt:
    """What to show of a file that is settled, whoever asks and when."""
    message = ""
    if item.outcome == Outcome.REFUSED:
        message = refusal(item.code, item.name)
    elif item.photo is None and item.outcome != Outcome.WAITING:
        message = _("The photo has been deleted since.")
    elif item.outcome == Outcome.KNOWN:
        message = item.photo.already_sent
    return Receipt(Outcome(item.outcome), item.name, message, item.photo, item.code)


def file_name(name: str | None) -> str:
    """The sender's file name without folders and control characters, at most 255 characters."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    printable = "".join(character for character in last if character.isprintable())
    return printable[-255:] or "photo"
