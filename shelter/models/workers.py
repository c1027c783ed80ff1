"""Which workers are alive: each leaves its name in a row whenever it sweeps."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breeds.models import ClassifierVersion, Prediction

FORGOTTEN_AFTER = timedelta(days=1)


class WorkerSeenQuerySet(models.QuerySet):
    def note(self, name: str, now: datetime | None = None) -> None:
        """The worker of this name works at this moment; those that have not for long are forgotten."""
        now = now or timezone.now()
        self.update_or_create(name=name[:255], defaults={"seen_at": now})
        self.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()

    def alive(self, now: datetime | None = None) -> "WorkerSeenQuerySet":
        now = now or timezone.now()
        return self.filter(seen_at__gt=now - timedelta(seconds=settings.WORKER_SILENCE_SECONDS))

    def last_sign(self) -> datetime | None:
        """When a worker last swept or answered: one that is busy may come late to sweeping."""
        signs = [self.aggregate(last=Max("seen_at"))["last"]]
        if version := ClassifierVersion.objects.active():
            answered = Prediction.objects.filter(status=Prediction.Status.DONE, version=version)
            signs.append(answered.aggregate(last=Max("finished_at"))["last"])
        return max(filter(None, signs), default=None)


class WorkerSeen(models.Model):
    """A Celery worker (one per machine, as a rule) and when it last swept."""

    name = models.CharField(_("worker"), max_length=255, unique=True)
    seen_at = models.DateTimeField(_("last seen"), default=timezone.now)

    objects = WorkerSeenQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")

    def __str__(self):
        return self.name
