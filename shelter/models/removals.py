"""What the rules of retention have removed."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breeds.models import AppendOnly


class Removal(AppendOnly):
    """A rule removed something at this time. Of a photo the hash stays, so that it is recognised if it is sent again;
    its name and its sender do not stay."""

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

    class Meta:
        verbose_name = _("removal")
        ordering = ["-pk"]

    def __str__(self):
        return f"{self.get_rule_display()} {self.object_id}"
