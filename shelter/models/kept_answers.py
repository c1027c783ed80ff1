"""The answers to calls that named an `Idempotency-Key`; `shelter/api/idempotency.py` writes and gives them."""

from datetime import datetime, timedelta

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

KEPT_FOR = timedelta(days=1)


class KeptAnswerQuerySet(models.QuerySet):
    def remove_old(self, now: datetime | None = None) -> int:
        old = self.filter(created_at__lt=(now or timezone.now()) - KEPT_FOR)
        return old.delete()[0] if old.exists() else 0  # a DELETE of nothing would lock SQLite all the same


class KeptAnswer(models.Model):
    """The answer to a call that named a key. `asked` is the SHA-256 of the call."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user"))
    key = models.CharField(_("key"), max_length=200)
    asked = models.CharField(_("SHA-256 of the call"), max_length=64)
    status = models.PositiveSmallIntegerField(_("status"), default=0)
    body = models.JSONField(_("answer"), default=dict, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)

    objects = KeptAnswerQuerySet.as_manager()

    class Meta:
        verbose_name = _("kept answer")
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self):
        return self.key
