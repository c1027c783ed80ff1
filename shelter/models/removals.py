"""What rules of retention have removed: rows that are only ever appended."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class AppendOnlyQuerySet(models.QuerySet):
    def update(self, **fields):
        raise TypeError("Expected a removal to stay as it was written. Received: a change.")

    bulk_update = delete = update


class Removal(models.Model):
    """That something was removed by a rule, and when. Of a photo its hashes stay, so that it is known if it comes back
    up; neither its name nor who sent it does."""

    class Rule(models.TextChoices):
        LOOSE_PHOTO = "loose photo", _("photo of no dog")
        ORIGINAL = "original", _("original of a photo")
        RECEIPTS = "receipts", _("receipts of an import")

    rule = models.CharField(_("rule"), max_length=20, choices=Rule, editable=False)
    days = models.PositiveIntegerField(_("kept for (days)"), editable=False)
    object_id = models.BigIntegerField(_("number"), editable=False)
    sha256 = models.CharField(_("SHA-256 as sent"), max_length=64, blank=True, editable=False)
    of = models.DateTimeField(_("had come"), editable=False)
    size = models.PositiveBigIntegerField(_("bytes"), default=0, editable=False)
    removed_at = models.DateTimeField(_("removed"), default=timezone.now, editable=False)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("removal")
        ordering = ["-pk"]

    def __str__(self):
        return f"{self.get_rule_display()} {self.object_id}"

    def save(self, *arguments, **options):
        if not self._state.adding:
            raise TypeError("Expected a removal to stay as it was written. Received: a change.")
        super().save(*arguments, **options)

    def delete(self, *arguments, **options):
        raise TypeError("Expected a removal to stay as it was written. Received: a deletion.")
