"""Predictions: rows that are at once the queue and the answers."""

import uuid
from dataclasses import asdict
from datetime import datetime, timedelta

import numpy as np
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breeds.models.breeds import BreedGroup, Decision
from breeds.models.leases import lease_end, lease_is_over
from breeds.models.versions import ClassifierVersion


def pack_floats(values: np.ndarray | None) -> bytes | None:
    """(D,) floats -> little-endian float16, 2 bytes each; what is too large for it becomes its largest."""
    if values is None:
        return None
    most = np.finfo(np.float16).max
    return np.clip(np.asarray(values, np.float64), -most, most).astype("<f2").tobytes()


def answer_fields(classification) -> dict:
    """The columns of a prediction that an `ml.serving.inference.Classification` fills."""
    return {
        "decision": classification.decision,
        "label": classification.label,
        "group": classification.group,
        "probability": classification.probability,
        "candidates": [asdict(candidate) for candidate in classification.candidates],
        "reasons": [asdict(reason) for reason in classification.reasons],
        "energy": classification.energy,
        "familiarity": classification.familiarity,
        "probs": pack_floats(classification.probs),
        "embedding": pack_floats(classification.embedding),
        "milliseconds": classification.milliseconds,
    }


def unpack_floats(packed: bytes | memoryview) -> np.ndarray:
    """What `pack_floats` made -> (D,) float16."""
    return np.frombuffer(packed, "<f2")


class PredictionQuerySet(models.QuerySet["Prediction"]):
    def answers(self) -> "PredictionQuerySet":
        return self.filter(status=Prediction.Status.DONE)

    def open(self) -> "PredictionQuerySet":
        """Requests for an answer that are not settled yet."""
        return self.filter(status__in=[Prediction.Status.PENDING, Prediction.Status.RUNNING])

    def newest_of(self, photos) -> dict[int, "Prediction"]:
        """The newest of these predictions for each photo, by the photo's key. One query."""
        return {prediction.photo_id: prediction for prediction in self.filter(photo__in=photos).order_by("pk")}

    def with_vectors(self) -> "PredictionQuerySet":
        """Answers that can be fused and compared, with their version."""
        done = self.answers().filter(probs__isnull=False, embedding__isnull=False)
        return done.select_related("version")

    def without_vectors(self) -> "PredictionQuerySet":
        """For pages and lists, which show neither probabilities nor embeddings."""
        return self.defer("probs", "embedding")

    def claim(self, limit: int, now: datetime | None = None) -> list["Prediction"]:
        """Take up to `limit` pending rows, the most urgent first, for as long as the lease lasts.

        A row that failed before comes alone, so that a poison photo takes no other with it. Safe among any number of
        workers: the conditional update decides who gets a row.
        """
        now, lease = now or timezone.now(), uuid.uuid4()
        pending = self.filter(status=Prediction.Status.PENDING).order_by("-priority", "pk")
        with transaction.atomic():
            if connection.features.has_select_for_update_skip_locked:
                pending = pending.select_for_update(skip_locked=True)
            rows = list(pending.values_list("pk", "attempts")[:limit])
            if not rows:
                return []
            first_pk, first_attempts = rows[0]
            fresh = [pk for pk, attempts in rows if attempts == 0]
            batch = [first_pk] if first_attempts else fresh
            self.filter(pk__in=batch, status=Prediction.Status.PENDING).update(
                status=Prediction.Status.RUNNING, lease=lease, leased_until=lease_end(now), attempts=F("attempts") + 1
            )
        return list(self.filter(lease=lease).select_related("photo").order_by("-priority", "pk"))

    def hand_back_expired(self, now: datetime | None = None) -> int:
        """Rows whose worker is gone become pending again, or failed after the last attempt. Returns how many."""
        expired = self.filter(lease_is_over("leased_until", now or timezone.now()), status=Prediction.Status.RUNNING)
        worn_out = list(expired.filter(attempts__gte=settings.MAX_ATTEMPTS))
        for prediction in worn_out:
            prediction.fail("interrupted", f"The worker was lost {prediction.attempts} times on this photo.")
        return len(worn_out) + expired.filter(attempts__lt=settings.MAX_ATTEMPTS).update(
            status=Prediction.Status.PENDING, lease=None, leased_until=None
        )

    def not_answered_by(self, photos, version: ClassifierVersion):
        """Those of `photos` for which this version has no answer, whether or not they wait for it."""
        answered = self.answers().filter(photo=OuterRef("pk"), version=version)
        return photos.exclude(Exists(answered))

    def request_missing(self, photos, version: ClassifierVersion, most: int | None = None) -> int:
        """Queue the photos that `version` has not answered, with the lowest priority. Returns how many.

        They keep their answer until the next one is there; an open request is kept.
        """
        return self.request_again(self.not_answered_by(photos, version), Prediction.Priority.BULK, most)

    def request_again(self, photos, priority: int, most: int | None = None) -> int:
        """Queue these photos, even if they are answered. Returns how many were not waiting already."""
        idle = photos.exclude(Exists(self.open().filter(photo=OuterRef("pk")))).order_by("pk")
        rows = [self.model(photo_id=pk, priority=priority) for pk in idle.values_list("pk", flat=True)[:most]]
        self.bulk_create(rows, batch_size=500, ignore_conflicts=True)
        return len(rows)

    def stuck(self, now: datetime | None = None) -> "PredictionQuerySet":
        """Open requests that no worker serves: for half an hour where a person waits, for a day in an import."""
        now = now or timezone.now()
        return self.open().filter(
            Q(priority__gt=Prediction.Priority.BULK, created_at__lt=now - timedelta(minutes=30))
            | Q(created_at__lt=now - timedelta(days=1))
        )

    def waiting_since(self, priority: int) -> datetime | None:
        """Creation time of the oldest pending prediction of this priority."""
        waiting = self.filter(status=Prediction.Status.PENDING, priority=priority)
        return waiting.order_by("pk").values_list("created_at", flat=True).first()

    def awaits_work(self) -> bool:
        return self.filter(status=Prediction.Status.PENDING).exists()


class Prediction(models.Model):
    """The answer of one classifier version to one photo, or the request for one.

    `decision`, `label`, `group`, `probability`, `candidates` ([{label, probability}], best first) and `reasons` are
    those of `ml.serving.decision.Decision`. What they were made from stays too, so that the photos of an animal can be
    fused and look-alikes found without looking at a photo again: `energy`, and as `pack_floats` the calibrated `probs`
    of the version's labels and the `embedding`.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    class Priority(models.IntegerChoices):
        BULK = 0, _("bulk import")
        INTERACTIVE = 10, _("someone is waiting")

    photo = models.ForeignKey("shelter.Photo", models.CASCADE, related_name="predictions", verbose_name=_("photo"))
    version = models.ForeignKey(
        ClassifierVersion, models.PROTECT, null=True, blank=True, related_name="predictions", verbose_name=_("version")
    )
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PENDING)
    priority = models.SmallIntegerField(_("priority"), choices=Priority, default=Priority.INTERACTIVE)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    lease = models.UUIDField(_("lease"), null=True, blank=True, editable=False)
    leased_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    error_code = models.CharField(_("error code"), max_length=30, blank=True)
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    milliseconds = models.FloatField(_("milliseconds"), null=True, blank=True)

    decision = models.CharField(_("decision"), max_length=10, choices=Decision, blank=True)
    label = models.CharField(_("label"), max_length=50, blank=True)
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, blank=True)
    probability = models.FloatField(_("probability"), null=True, blank=True)
    candidates = models.JSONField(_("candidates"), default=list, blank=True)
    reasons = models.JSONField(_("reasons"), default=list, blank=True)
    energy = models.FloatField(_("energy"), null=True, blank=True)
    familiarity = models.FloatField(_("familiarity"), null=True, blank=True)
    probs = models.BinaryField(_("probabilities"), null=True)
    embedding = models.BinaryField(_("embedding"), null=True)

    # The review that stands for its photo, where whoever shows the answer has looked it up.
    reviewed: models.Model | None = None

    objects = PredictionQuerySet.as_manager()

    class Meta:
        verbose_name = _("prediction")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["photo"], condition=Q(status__in=["pending", "running"]), name="one_open_prediction_per_photo"
            ),
            models.CheckConstraint(
                condition=Q(probability=None) | Q(probability__gte=0, probability__lte=1), name="probability_in_0_1"
            ),
            models.CheckConstraint(
                condition=~Q(status="done") | (Q(version__isnull=False) & ~Q(decision="")), name="done_has_an_answer"
            ),
        ]
        indexes = [
            models.Index(fields=["-priority", "id"], condition=Q(status="pending"), name="pending_by_urgency"),
            models.Index(fields=["leased_until"], condition=Q(status="running"), name="running_by_lease"),
            models.Index(fields=["version", "finished_at"], condition=Q(status="done"), name="answers_by_time"),
            # Without it SQLite looks for one photo's answer of a version among all answers of that version.
            models.Index(fields=["photo", "version"], condition=Q(status="done"), name="answers_by_photo"),
        ]

    def __str__(self):
        return f"{self.get_status_display()} {self.label or self.group or self.decision}".strip()

    def _finish(self, status: "Prediction.Status", **fields) -> bool:
        """The one way from running to an end; False where the lease has gone to somebody else meanwhile."""
        fields |= {"status": status, "lease": None, "leased_until": None, "finished_at": timezone.now()}
        rows = type(self).objects.filter(pk=self.pk, status=self.Status.RUNNING, lease=self.lease)
        if not rows.update(**fields):
            return False
        for name, value in fields.items():
            setattr(self, name, value)
        self.photo.index_prediction(self)
        return True

    def finish(self, classification, version: ClassifierVersion) -> bool:
        with transaction.atomic():
            fields = answer_fields(classification) | {"error": "", "error_code": ""}
            return self._finish(self.Status.DONE, version=version, **fields)

    @classmethod
    def of(cls, classification, version: ClassifierVersion, **fields) -> "Prediction":
        """A finished prediction that is not saved and has no photo."""
        fields |= answer_fields(classification)
        return cls(version=version, status=cls.Status.DONE, finished_at=timezone.now(), **fields)

    def fail(self, code: str, reason: str) -> bool:
        with transaction.atomic():
            return self._finish(self.Status.FAILED, error_code=code, error=reason)

    def give_back(self, code: str, reason: str) -> bool:
        """After an error that may pass: pending again, with its reason; failed after the last attempt."""
        if self.attempts >= settings.MAX_ATTEMPTS:
            return self.fail(code, reason)
        rows = type(self).objects.filter(pk=self.pk, status=self.Status.RUNNING, lease=self.lease)
        return bool(
            rows.update(status=self.Status.PENDING, lease=None, leased_until=None, error_code=code, error=reason[:2000])
        )
