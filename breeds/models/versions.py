"""Versions of the classifier, which of them answers, and what one would say that does not answer yet."""

from dataclasses import asdict

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breeds.models.breeds import BreedGroup, Decision


class ClassifierVersionQuerySet(models.QuerySet):
    def active(self) -> "ClassifierVersion | None":
        return self.filter(is_active=True).first()

    def answered_before(self) -> "ClassifierVersion | None":
        """The one that answered until the active one took over."""
        return self.filter(is_active=False, activated_at__isnull=False).order_by("-activated_at").first()

    def register(self, checkpoint, *, bundled: bool = False) -> "ClassifierVersion":
        """The row of a verified checkpoint; registering it again finds the same row and its new place."""
        version, _created = self.update_or_create(
            version=checkpoint.version,
            defaults={
                "name": checkpoint.name,
                "folder": str(checkpoint.folder.resolve()),
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

    objects = ClassifierVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("classifier version")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="one_active_version")
        ]

    def __str__(self):
        return f"{self.name} {self.version}"

    def activate(self) -> None:
        with transaction.atomic():
            type(self).objects.exclude(pk=self.pk).filter(is_active=True).update(is_active=False)
            type(self).objects.filter(pk=self.pk).update(is_active=True, activated_at=timezone.now())
        self.is_active = True


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
