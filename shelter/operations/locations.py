"""Photos that came in before their position was removed at intake: their stored originals lose it now."""

import hashlib
from collections.abc import Iterator

from django.core.files.base import ContentFile
from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext_lazy as _

from breeds.classifier import UnreadableImage, inspect_image, remove_location
from shelter.intake.uploads import taken_at
from shelter.models import Photo

AT_ONCE = 500


class Found(models.TextChoices):
    CLEAN = "clean", _("held nothing that must go")
    CLEANED = "cleaned", _("lost its position")
    MISSING = "missing", _("its file is missing")
    UNREADABLE = "unreadable", _("its file cannot be read")


def unchecked() -> models.QuerySet:
    """Photos of which nobody knows whether their original tells where it was taken."""
    return Photo.objects.filter(position_rule__lt=Photo.POSITION_RULE).order_by("pk")


def check_originals(*, dry_run: bool = False) -> Iterator[tuple[Photo, Found]]:
    """Go through them, one after the other. Each is marked as soon as it is done: whoever is stopped goes on there."""
    after = 0
    while photos := list(unchecked().filter(pk__gt=after)[:AT_ONCE]):
        for photo in photos:
            yield photo, check_original(photo, dry_run=dry_run)
        after = photos[-1].pk


def check_original(photo: Photo, *, dry_run: bool = False) -> Found:
    """Remove from a stored original what `remove_location` removes, pixels and the name of the file staying.

    What cannot be read stays as it is and unmarked: nobody can vouch for it.
    """
    try:
        with photo.image.open("rb") as file:
            image_bytes = file.read()
        facts = inspect_image(image_bytes)
        stored_bytes = remove_location(image_bytes, facts.format)
    except FileNotFoundError:
        return Found.MISSING
    except UnreadableImage:
        return Found.UNREADABLE
    found = Found.CLEAN if stored_bytes == image_bytes else Found.CLEANED
    if not dry_run:
        if found == Found.CLEANED:
            _replace(photo, stored_bytes)
        _mark(photo, stored_bytes, facts)
    return found


def _replace(photo: Photo, stored_bytes: bytes) -> None:
    """The storages of Flair write over a name; one that does not gives another name, and the old file goes."""
    storage, old = photo.image.storage, photo.image.name
    photo.image.name = storage.save(old, ContentFile(stored_bytes))
    if photo.image.name != old:
        Photo.objects.filter(pk=photo.pk).update(image=photo.image.name)
        storage.delete(old)


def _mark(photo: Photo, stored_bytes: bytes, facts) -> None:
    """Write what the row says of the file. A photo that was deleted meanwhile leaves no file behind."""
    row = Photo.objects.filter(pk=photo.pk)
    values = {"size": len(stored_bytes), "position_rule": Photo.POSITION_RULE, "taken_at": taken_at(facts)}
    digest = hashlib.sha256(stored_bytes).hexdigest()
    try:
        with transaction.atomic():
            is_there = row.update(**values, stored_sha256=digest if digest != photo.sha256 else None)
    except IntegrityError:  # the same picture is here twice, with two positions: the other is found by these bytes
        is_there = row.update(**values)
    if not is_there:
        photo.image.storage.delete(photo.image.name)
