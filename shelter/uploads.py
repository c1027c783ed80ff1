"""From a file that somebody sent to a photo that will be answered, or to a sentence that says why not."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from breeds.classifier import UnreadableImage, inspect_image, remove_location
from breeds.models import Prediction
from shelter.models import Animal, Photo, refusal


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    KNOWN = "known"
    REFUSED = "refused"


@dataclass(frozen=True)
class Receipt:
    """What became of one file. `code` is a reason of `ml.UnreadableImage` or `too_large`, for what was refused."""

    outcome: Outcome
    name: str
    message: str = ""
    photo: Photo | None = None
    code: str = ""


def upload_photo(
    file: UploadedFile, *, user, animal: Animal | None = None, priority: int = Prediction.Priority.INTERACTIVE
) -> Receipt:
    """Check, store without its position and queue one file. Sending the same bytes again finds the same photo."""
    name = file_name(file.name)
    if file.size > settings.MAX_PHOTO_BYTES:
        return _refused("too_large", name)
    image_bytes = file.read()
    try:
        facts = inspect_image(image_bytes)
        stored_bytes = remove_location(image_bytes, facts.format)
    except UnreadableImage as error:
        return _refused(error.reason, name)
    sha256, stored_sha256 = (hashlib.sha256(content).hexdigest() for content in (image_bytes, stored_bytes))
    if known := _find(sha256, stored_sha256):
        return _known(known, name)
    photo = Photo(
        original_name=name,
        sha256=sha256,
        stored_sha256=stored_sha256 if stored_sha256 != sha256 else None,
        size=len(stored_bytes),
        width=facts.width,
        height=facts.height,
        media_type=facts.media_type,
        uploaded_by=user,
        animal=animal,
    )
    return _store(photo, stored_bytes, f"originals/{sha256[:2]}/{sha256}{facts.extension}", priority)


def _find(*digests: str) -> Photo | None:
    return Photo.objects.with_content(*digests).select_related("animal").first()


def _store(photo: Photo, stored_bytes: bytes, path: str, priority: int) -> Receipt:
    """The file first, then the row, so that no row is ever without its file."""
    storage = photo.image.storage
    photo.image.name = storage.save(path, ContentFile(stored_bytes))
    try:
        with transaction.atomic():
            photo.save()
            photo.enqueue(priority)
    except IntegrityError:  # the same photo came in twice at once, and the other was quicker
        twin = _find(photo.sha256, photo.stored_sha256 or photo.sha256)
        if twin.image.name != path:
            storage.delete(path)
        return _known(twin, photo.original_name)
    except BaseException:
        storage.delete(path)
        raise
    return Receipt(Outcome.ACCEPTED, photo.original_name, photo=photo)


def _refused(code: str, name: str) -> Receipt:
    return Receipt(Outcome.REFUSED, name, refusal(code, name), code=code)


def _known(photo: Photo, name: str) -> Receipt:
    if photo.status == Photo.Status.FAILED:
        photo.enqueue()
    date = date_format(localtime(photo.uploaded_at), "DATE_FORMAT")
    if photo.animal:
        message = _("Already sent on %(date)s, filed under %(animal)s.") % {"date": date, "animal": photo.animal}
    else:
        message = _("Already sent on %(date)s.") % {"date": date}
    return Receipt(Outcome.KNOWN, name, message, photo)


def file_name(name: str | None) -> str:
    """The sender's file name without folders and control characters, at most 255 characters."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    printable = "".join(character for character in last if character.isprintable())
    return printable[-255:] or "photo"
