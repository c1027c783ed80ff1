"""Whose card a photo of the review queue is at this moment."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

TURN_SECONDS = 600  # how long a card of the review queue stays reserved for one person, or skipped


class ReviewTurnQuerySet(models.QuerySet["ReviewTurn"]):
    def next_for(self, user, photos, now: datetime | None = None):
        """The photo that `user` is to look at: the one held already, or the first of `photos` that nobody holds.

        `photos` are those that await a review, the most useful first. Two people never hold the same one, for the
        database knows a photo's turn once. Who comes here has left the grid: its photos are free again.
        """
        now = now or timezone.now()
        held = photos.filter(
            review_turn__by=user, review_turn__put_off=False, review_turn__in_grid=False, review_turn__until__gt=now
        )
        if photo := held.order_by("-review_turn").first():
            return photo
        self.filter(Q(until__lte=now) | Q(by=user, in_grid=True)).delete()
        for photo in photos.exclude(Exists(self.model.objects.filter(photo=OuterRef("pk"))))[:20]:
            if self.take(user, photo, now):
                return photo
        return None

    def free_for(self, user, photos, now: datetime | None = None):
        """Those of `photos` that the grid may show to `user`: nobody else looks at them, and nobody put them off."""
        others = self.filter(photo=OuterRef("pk"), until__gt=now or timezone.now()).exclude(by=user, put_off=False)
        return photos.exclude(Exists(others))

    def grid_for(self, user, photos, most: int, now: datetime | None = None) -> list:
        """Up to `most` of `photos` in their order, held by `user` from now on; what was held until now is free."""
        now = now or timezone.now()
        until = now + timedelta(seconds=TURN_SECONDS)
        self.filter(Q(until__lte=now) | Q(by=user, put_off=False)).delete()
        wanted = list(photos.exclude(Exists(self.model.objects.filter(photo=OuterRef("pk"))))[:most])
        turns = [self.model(photo=photo, by=user, until=until, in_grid=True) for photo in wanted]
        self.bulk_create(turns, ignore_conflicts=True)
        mine = set(self.filter(by=user, in_grid=True, photo__in=wanted).values_list("photo", flat=True))
        return [photo for photo in wanted if photo.pk in mine]

    def take(self, user, photo, now: datetime | None = None) -> bool:
        """Hold `photo`; False where somebody else does."""
        until = (now or timezone.now()) + timedelta(seconds=TURN_SECONDS)
        rows = self.bulk_create([self.model(photo=photo, by=user, until=until)], ignore_conflicts=True)
        return bool(rows) and self.filter(photo=photo, by=user, put_off=False).exists()

    def put_off(self, user, *photo_pks: int, now: datetime | None = None) -> None:
        """Not now: the photos come back after a while, to anybody."""
        until = (now or timezone.now()) + timedelta(seconds=TURN_SECONDS)
        self.filter(by=user, photo__in=photo_pks).update(put_off=True, in_grid=False, until=until)


class ReviewTurn(models.Model):
    """Who is looking at a photo of the review queue at this moment, or has put it off."""

    photo = models.OneToOneField("shelter.Photo", models.CASCADE, related_name="review_turn", verbose_name=_("photo"))
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="review_turns", verbose_name=_("reviewed by")
    )
    until = models.DateTimeField(_("until"), db_index=True)
    put_off = models.BooleanField(_("put off"), default=False)
    in_grid = models.BooleanField(_("in the grid"), default=False)

    objects = ReviewTurnQuerySet.as_manager()

    class Meta:
        verbose_name = _("turn in the review queue")

    def __str__(self):
        return f"{self.photo_id} {self.by}"
