"""Versions of the classifier, which of them answers, and what one would say that does not answer yet."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breeds.models.append_only import AppendOnly
from breeds.models.breeds import BreedGroup, Decision
from breeds.models.leases import lease_end, lease_is_over


class ClassifierVersionQuerySet(models.QuerySet["ClassifierVersion"]):
    def active(self) -> "ClassifierVersion | None":
        return next(iter(self.filter(is_active=True).order_by()[:1]), None)  # there is one at most: no need to sort

    def answered_before(self) -> "ClassifierVersion | None":
        """The one that answered until the active one took over."""
        return self.filter(is_active=False, activated_at__isnull=False).order_by("-activated_at").first()

    def claim_trial(self, now: datetime | None = None) -> "ClassifierVersion | None":
        """The oldest trial run that nobody works on, for as long as the lease lasts. The conditional update decides."""
        now = now or timezone.now()
        for version in self._open_trials(now).order_by("trial_wished_at"):
            if self._open_trials(now).filter(pk=version.pk).update(trial_until=lease_end(now)):
                return version
        return None

    def awaits_trial(self, now: datetime | None = None) -> bool:
        return self._open_trials(now or timezone.now()).exists()

    def _open_trials(self, now: datetime) -> "ClassifierVersionQuerySet":
        return self.filter(Q(trial_until=None) | lease_is_over("trial_until", now), trial_wished_at__isnull=False)

    def register(self, checkpoint, *, bundled: bool = False) -> "ClassifierVersion":
        """The row of a verified checkpoint; registering it again finds the same row and its new place."""
        version, _created = self.update_or_create(
            version=checkpoint.version,
            defaults={
                "name": checkpoint.name,
                "folder": str(checkpoint.folder.resolve()),
                "preprocessing": checkpoint.preprocessing,
                "backbone": checkpoint.backbone,
                "image_size": checkpoint.image_size,
                "labels": [label.slug for label in checkpoint.labels],
                "label_groups": [label.group for label in checkpoint.labels],
                "mask": [label.slug for label in checkpoint.labels if label.wild],
                "thresholds": asdict(checkpoint.thresholds),
                "is_bundled": bundled,
            },
        )
        return version


class ClassifierVersion(models.Model):
    """One checkpoint that has answered or may answer. `version` is the hash of its files.

    What its decisions were made by is kept here too, so that they can be explained, and made again for several photos
    of an animal, on machines and in times where its folder is not: `label_groups` beside `labels`, the labels of the
    `mask`, and the `thresholds`.
    """

    version = models.CharField(_("version"), max_length=64, unique=True)
    name = models.CharField(_("name"), max_length=100)
    folder = models.CharField(_("folder"), max_length=500)
    preprocessing = models.CharField(_("preprocessing"), max_length=200, blank=True)
    backbone = models.CharField(_("backbone"), max_length=100)
    image_size = models.PositiveIntegerField(_("image size (pixels)"))
    labels = models.JSONField(_("labels"), default=list)
    label_groups = models.JSONField(_("groups of the labels"), default=list)
    mask = models.JSONField(_("labels never offered"), default=list)
    thresholds = models.JSONField(_("thresholds"), default=dict)
    is_bundled = models.BooleanField(_("came with Flair"), default=False)
    is_active = models.BooleanField(_("active"), default=False)
    created_at = models.DateTimeField(_("registered"), auto_now_add=True)
    activated_at = models.DateTimeField(_("last activated"), null=True, blank=True)
    # A trial run by the workers: requested until it is over, and leased by one of them at a time.
    trial_wished_at = models.DateTimeField(_("trial run since"), null=True, blank=True)
    trial_until = models.DateTimeField(_("trial run held until"), null=True, blank=True)
    trial_error = models.TextField(_("why the trial run stopped"), blank=True)

    objects = ClassifierVersionQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("classifier version"), _("classifier versions")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="one_active_version")
        ]

    def __str__(self):
        return f"{self.name} {self.version}"

    def metrics(self, split: str) -> dict | None:
        """What its training measured on `val` or `test`; None where its folder is not on this machine, or damaged."""
        try:
            measured = json.loads((Path(self.folder) / f"metrics-{split}.json").read_text())
        except (OSError, ValueError):
            return None
        return measured if isinstance(measured, dict) else None

    def activate(self, by=None) -> None:
        """Let this version answer from the next batch on; `by` is None where a command was asked to."""
        versions = type(self).objects
        with transaction.atomic():
            list(versions.select_for_update().order_by("pk").values_list("pk"))  # two at once come one after the other
            before = versions.active()
            versions.exclude(pk=self.pk).filter(is_active=True).update(is_active=False)
            versions.filter(pk=self.pk).update(is_active=True, activated_at=timezone.now())
            Activation.objects.create(version=self, before=before, by=by)
        self.is_active = True

    def request_trial(self) -> None:
        """Let the workers find out what this version would say of all photos; goes on where it was stopped."""
        rows = type(self).objects.filter(pk=self.pk, trial_wished_at=None)
        rows.update(trial_wished_at=timezone.now(), trial_until=None, trial_error="")

    def give_back_trial(self, *, is_over: bool = False, error: str = "") -> None:
        fields = {"trial_wished_at": None, "trial_error": error[:2000]} if is_over or error else {}
        type(self).objects.filter(pk=self.pk).update(trial_until=None, **fields)


class Activation(AppendOnly):
    """A version began to answer."""

    version = models.ForeignKey(
        ClassifierVersion, models.PROTECT, related_name="activations", verbose_name=_("version")
    )
    before = models.ForeignKey(
        ClassifierVersion, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("version before")
    )
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="activations",
        verbose_name=_("activated by"),
    )  # fmt: skip
    at = models.DateTimeField(_("activated"), default=timezone.now)

    class Meta:
        verbose_name, verbose_name_plural = _("activation"), _("activations")
        ordering = ["-pk"]

    def __str__(self):
        return str(self.version)


class ShadowAnswer(models.Model):
    """What a version that is not active would say of a photo: for the comparison before it may answer anybody.

    A photo that cannot be read has an `error_code` and no decision.
    """

    photo = models.ForeignKey("shelter.Photo", models.CASCADE, related_name="shadow_answers", verbose_name=_("photo"))
    version = models.ForeignKey(
        ClassifierVersion, models.CASCADE, related_name="shadow_answers", verbose_name=_("version")
    )
    decision = models.CharField(_("decision"), max_length=10, choices=Decision, blank=True)
    label = models.CharField(_("label"), max_length=50, blank=True)
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, blank=True)
    probability = models.FloatField(_("probability"), null=True, blank=True)
    candidates = models.JSONField(_("candidates"), default=list, blank=True)
    error_code = models.CharField(_("error code"), max_length=30, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("shadow answer")
        constraints = [
            models.UniqueConstraint(fields=["version", "photo"], name="one_shadow_answer_per_version"),
            models.CheckConstraint(condition=Q(decision="") ^ Q(error_code=""), name="shadow_answer_or_error"),
        ]

    def __str__(self):
        return self.label or self.group or self.decision or self.error_code
