"""Retention: how long photos and receipts are kept. A rule applies only if it is named; each removal writes a row.

- *loose photos*: without a dog and without a review. The photo and its files are removed.
- *originals*: of dogs that have left, or of no dog. The preview replaces the original, so that the photo is still
  shown, found and answered; its position was removed when it was uploaded. Photos for which a person named a breed
  keep their original: the next classifier learns from them.
- *receipts*: of imports that are over. The photos stay.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from django.db import models, transaction
from django.utils import timezone

from breeds.classifier import inspect_image
from breeds.models import Review
from shelter.models import Animal, Import, Photo, Removal
from shelter.operations.consistency import OVER, unasked

LEFT = [Animal.Status.ADOPTED, Animal.Status.RETURNED, Animal.Status.GONE]


@dataclass(frozen=True)
class Plan:
    """One rule, applied to what came more than `days` days before `now`."""

    rule: Removal.Rule
    days: int
    now: datetime

    @property
    def before(self) -> datetime:
        return self.now - timedelta(days=self.days)

    def due(self) -> models.QuerySet:
        return _DUE[self.rule](self.before)

    def apply(self) -> Iterator[Removal]:
        """Remove what is due, one after the other, each with its row of audit."""
        for pk in list(self.due().values_list("pk", flat=True)):
            if removal := self._remove(pk):
                yield removal

    def _remove(self, pk: int) -> Removal | None:
        """Looked at once more under a lock: somebody may have filed or reviewed it since."""
        with transaction.atomic():
            found = self.due().select_for_update(of=("self",)).filter(pk=pk).first()
            removal = _REMOVE[self.rule](found) if found else None
            if removal:
                removal.rule, removal.days, removal.object_id = self.rule, self.days, pk
                removal.save()
        return removal


def plans(
    *, photos: int | None, originals: int | None, receipts: int | None, now: datetime | None = None
) -> list[Plan]:
    """The rules that are wished for, by days; None is for ever."""
    wished = {Removal.Rule.LOOSE_PHOTO: photos, Removal.Rule.ORIGINAL: originals, Removal.Rule.RECEIPTS: receipts}
    return [Plan(rule, days, now or timezone.now()) for rule, days in wished.items() if days is not None]


def _loose_photos(before: datetime) -> models.QuerySet:
    said = Review.objects.filter(photo=models.OuterRef("pk"))
    return Photo.objects.filter(~models.Exists(said), unasked(), animal=None, uploaded_at__lt=before)


def _replaceable_originals(before: datetime) -> models.QuerySet:
    named = Review.objects.filter(photo=models.OuterRef("pk"), breed__isnull=False)
    of_nobody_here = models.Q(animal=None) | models.Q(animal__status__in=LEFT)
    photos = Photo.objects.filter(of_nobody_here, ~models.Exists(named), unasked(), uploaded_at__lt=before)
    return photos.exclude(preview="").exclude(image=models.F("preview"))


def _old_receipts(before: datetime) -> models.QuerySet:
    return Import.objects.filter(status__in=OVER, changed_at__lt=before)


def _remove_photo(photo: Photo) -> Removal:
    removal = Removal(sha256=photo.sha256, of=photo.uploaded_at, size=photo.size)
    photo.delete_with_files()
    return removal


def _replace_original(photo: Photo) -> Removal | None:
    """The row first, the file once that is committed, as with whole photos. None where files are shared or missing."""
    name = photo.image.name
    if PurePosixPath(name).stem != photo.sha256:
        return None  # drawings that many made rows share
    try:
        with photo.preview.open("rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    digest, facts = hashlib.sha256(content).hexdigest(), inspect_image(content)
    if Photo.objects.with_content(digest).exclude(pk=photo.pk).exists():
        return None
    removal = Removal(sha256=photo.sha256, of=photo.uploaded_at, size=photo.size)
    Photo.objects.filter(pk=photo.pk).update(
        image=photo.preview.name, stored_sha256=digest, size=len(content), width=facts.width, height=facts.height,
        media_type=facts.media_type, updated_at=timezone.now(),
    )  # fmt: skip
    transaction.on_commit(lambda: photo.image.storage.delete(name))
    return removal


def _remove_receipts(batch: Import) -> Removal:
    removal = Removal(of=batch.created_at, size=batch.size)
    batch.delete()
    return removal


_DUE: dict[str, Callable[[datetime], models.QuerySet]] = {
    Removal.Rule.LOOSE_PHOTO: _loose_photos,
    Removal.Rule.ORIGINAL: _replaceable_originals,
    Removal.Rule.RECEIPTS: _old_receipts,
}
_REMOVE: dict[str, Callable] = {
    Removal.Rule.LOOSE_PHOTO: _remove_photo,
    Removal.Rule.ORIGINAL: _replace_original,
    Removal.Rule.RECEIPTS: _remove_receipts,
}
