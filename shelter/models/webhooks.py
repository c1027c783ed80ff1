"""Webhooks: an address of somebody's own that is told when a photo was answered or reviewed.

A `Delivery` is written in the transaction that ends a prediction or appends a review, so that none is lost and none is
invented; what it says is made from the photo's row when it is sent. Workers send what is due, and again later where
that fails. Messages are signed as in the Standard Webhooks specification (standardwebhooks.com, 2023).
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Max, Q
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from breeds.hints import send_hint

# Seconds after the first, second … failure; after the last one nobody tries again. 38 hours in all.
PAUSES = (10, 60, 300, 1800, 7200, 21_600, 43_200, 64_800)
# A worker that dies while it sends lets go of a delivery after so long; more than a task may last.
HELD_FOR = timedelta(seconds=60)
KEPT_FOR = timedelta(days=14)


class Event(models.TextChoices):
    """What a webhook may be told."""

    PREDICTION_DONE = "prediction.done", _("the classifier has answered")
    PREDICTION_FAILED = "prediction.failed", _("the classifier cannot answer")
    REVIEW_CHANGED = "review.changed", _("a person has decided, or taken a decision back")


def hint_webhooks() -> None:
    """Tell the workers that a message is due."""
    send_hint("shelter.tasks.send_webhooks")


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def active(self, now: datetime | None = None) -> "WebhookQuerySet":
        """Those that are told: of an account and a token (if one made it) that still open the API."""
        now = now or timezone.now()
        token = Q(token=None) | Q(token__revoked_at=None) & (Q(token__expires_at=None) | Q(token__expires_at__gt=now))
        return self.filter(token, user__is_active=True)

    def with_last_delivery(self) -> "list[Webhook]":
        """Each with its newest message in `last_delivery`, if there is one. Two queries."""
        hooks: list[Webhook] = list(self)
        last_pks = Delivery.objects.filter(webhook__in=hooks).order_by().values("webhook").annotate(last=Max("pk"))
        newest = {delivery.webhook_id: delivery for delivery in Delivery.objects.filter(pk__in=last_pks.values("last"))}
        for hook in hooks:
            hook.last_delivery = newest.get(hook.pk)
        return hooks


class Webhook(models.Model):
    """Where to send what. The signing key is derived from `salt` and this installation's secret: no row holds it."""

    MOST = 20  # of one person
    last_delivery: "Delivery | None" = None  # filled in by `with_last_delivery`

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="webhooks", verbose_name=_("user"))
    token = models.ForeignKey(
        "shelter.ApiToken", models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("API token")
    )
    url = models.URLField(_("address"), max_length=500)
    events = models.JSONField(_("events"), default=list)
    salt = models.UUIDField(default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    last_error = models.CharField(_("last error"), max_length=200, blank=True)
    last_success_at = models.DateTimeField(_("last success"), null=True, blank=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook")
        ordering = ["-pk"]

    def __str__(self):
        return self.url

    @property
    def event_names(self) -> str:
        return ", ".join(str(Event(event).label) for event in self.events if event in Event)

    @property
    def _key(self) -> bytes:
        return salted_hmac("shelter.webhooks", str(self.salt), algorithm="sha256").digest()

    @property
    def secret(self) -> str:
        """What the receiver verifies with; shown once."""
        return "whsec_" + base64.b64encode(self._key).decode()

    def signature(self, message_id: str, timestamp: int, body: bytes) -> str:
        """HMAC-SHA256 of `id.timestamp.body`."""
        signed = hmac.new(self._key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
        return "v1," + base64.b64encode(signed.digest()).decode()

    def succeeded(self) -> None:
        type(self).objects.filter(pk=self.pk).update(
            failures=0, paused_until=None, last_error="", last_success_at=timezone.now()
        )

    def failed(self, error: str) -> None:
        """One failure more: everything for this address rests for a while, so that a dead one costs little."""
        self.failures += 1
        rest = pause_after(self.failures) or PAUSES[-1]
        type(self).objects.filter(pk=self.pk).update(
            failures=F("failures") + 1,
            paused_until=timezone.now() + timedelta(seconds=min(rest, 3600)),
            last_error=error[:200],
        )


def pause_after(attempts: int) -> float | None:
    """Seconds until the next attempt, a little at random so that not all come at once; None after the last."""
    if attempts > len(PAUSES):
        return None
    return PAUSES[attempts - 1] * (1 + secrets.randbelow(100) / 1000)


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def announce(self, event: str, photo_id: int) -> None:
        """Write a delivery for everybody who wants to know; in the transaction of what has happened."""
        if not Webhook.objects.exists():  # asked for every answer, so as little as possible
            return
        hooks = [hook for hook in Webhook.objects.active().only("events") if event in hook.events]
        if hooks:
            self.bulk_create(self.model(webhook=hook, event=event, photo_id=photo_id) for hook in hooks)
            transaction.on_commit(hint_webhooks)

    def due(self, now: datetime) -> "DeliveryQuerySet":
        """What is to be sent now, the longest due first."""
        hooks = Webhook.objects.active(now).filter(Q(paused_until=None) | Q(paused_until__lte=now))
        return self.filter(status=Delivery.Status.WAITING, due_at__lte=now, webhook__in=hooks).order_by("due_at", "pk")

    def claim(self, now: datetime | None = None) -> "Delivery | None":
        """Take the first one that is due. The conditional update decides between workers."""
        now = now or timezone.now()
        for delivery in self.due(now).select_related("webhook")[:10]:
            mine = self.filter(pk=delivery.pk, status=Delivery.Status.WAITING, due_at=delivery.due_at)
            if mine.update(due_at=now + HELD_FOR, attempts=F("attempts") + 1):
                delivery.attempts += 1
                return delivery
        return None

    def remove_old(self, now: datetime | None = None) -> int:
        """Settled ones, and those of webhooks that are told nothing any more."""
        old = self.filter(created_at__lt=(now or timezone.now()) - KEPT_FOR)
        return old.delete()[0] if old.exists() else 0  # a DELETE of nothing would lock SQLite all the same


class Delivery(models.Model):
    """One message to one address. `due_at` is also the lease: who sends it moves it on before."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries", verbose_name=_("webhook"))
    event = models.CharField(_("event"), max_length=30, choices=Event)
    photo = models.ForeignKey("shelter.Photo", models.CASCADE, related_name="+", verbose_name=_("photo"))
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.WAITING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    due_at = models.DateTimeField(_("due"), default=timezone.now)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    answer_status = models.PositiveSmallIntegerField(_("status of the answer"), null=True, blank=True)
    error = models.CharField(_("error"), max_length=200, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["due_at", "id"], condition=Q(status="waiting"), name="deliveries_due"),
            models.Index(fields=["webhook", "-id"], name="deliveries_by_webhook"),
        ]

    def __str__(self):
        return f"{self.event} {self.photo_id}"

    def settle(self, answer_status: int | None, error: str) -> None:
        """After an attempt: sent, to be tried again later, or given up."""
        now = timezone.now()
        fields: dict[str, object] = {"answer_status": answer_status, "error": error[:200]}
        if not error:
            fields |= {"status": self.Status.SENT, "sent_at": now}
            self.webhook.succeeded()
        else:
            pause = pause_after(self.attempts)
            fields |= {"status": self.Status.FAILED} if pause is None else {"due_at": now + timedelta(seconds=pause)}
            self.webhook.failed(error)
        type(self).objects.filter(pk=self.pk, status=self.Status.WAITING).update(**fields)
