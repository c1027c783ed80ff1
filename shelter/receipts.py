"""What became of each file of an import: one row per file, settled once."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ImportItemQuerySet(models.QuerySet):
    def waiting(self) -> "ImportItemQuerySet":
        return self.filter(outcome=ImportItem.Outcome.WAITING).order_by("position")

    def similar(self) -> "ImportItemQuerySet":
        """Accepted photos that look like one that was there before."""
        return self.filter(outcome=ImportItem.Outcome.ACCEPTED, photo__fingerprint__looks_like__isnull=False)

    def with_photos(self) -> "ImportItemQuerySet":
        return self.select_related(
            "photo__animal", "photo__breed", "photo__second_breed", "photo__fingerprint__looks_like__animal"
        )


class ImportItem(models.Model):
    """One file of an import and what became of it: its receipt."""

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted", _("accepted")
        KNOWN = "known", _("already here")
        REFUSED = "refused", _("refused")
        WAITING = "waiting", _("waiting")

    batch = models.ForeignKey("shelter.Import", models.CASCADE, related_name="items", verbose_name=_("import"))
    position = models.PositiveIntegerField(_("position"), null=True, blank=True)  # none in an upload: files just come
    path = models.TextField(_("path"))
    dog = models.CharField(_("suggested name"), max_length=100, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome, default=Outcome.WAITING)
    code = models.CharField(_("reason"), max_length=30, blank=True)
    photo = models.ForeignKey(
        "shelter.Photo", models.SET_NULL, null=True, blank=True, related_name="receipts", verbose_name=_("photo")
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    settled_at = models.DateTimeField(_("settled"), null=True, blank=True)

    objects = ImportItemQuerySet.as_manager()

    class Meta:
        verbose_name = _("file of an import")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "position"], name="one_receipt_per_file"),
            models.CheckConstraint(condition=~Q(outcome="refused") | ~Q(code=""), name="refused_has_a_reason"),
        ]
        indexes = [
            models.Index(fields=["batch", "outcome", "position"], name="receipts_by_outcome"),
            models.Index(fields=["batch", "dog"], name="receipts_by_dog"),
        ]

    def __str__(self):
        return self.name

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def settle(self, outcome: str, photo=None, code: str = "") -> bool:
        """The one way to an outcome, once. A row that nobody has seen yet is written with it."""
        if self._state.adding:
            self.outcome, self.photo, self.code, self.settled_at = outcome, photo, code, timezone.now()
            self.save()
            return True
        rows = type(self).objects.filter(pk=self.pk, outcome=self.Outcome.WAITING)
        now = timezone.now()
        if not rows.update(outcome=outcome, photo=photo, code=code, settled_at=now):
            return False
        self.outcome, self.photo, self.code, self.settled_at = outcome, photo, code, now
        return True
