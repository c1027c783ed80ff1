"""Breeds, versions of the classifier, predictions (rows that are at once the queue and the answers), and reviews."""

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from breeds.catalogue import read_catalogue


class BreedGroup(models.TextChoices):
    """The ten groups of the Fédération cynologique internationale, and what stands outside them."""

    SHEEPDOGS = "sheepdogs_and_cattledogs", _("sheepdogs and cattle dogs")
    MOLOSSOIDS = "pinschers_schnauzers_molossoids_swiss", _("pinschers, schnauzers, molossoids and Swiss dogs")
    TERRIERS = "terriers", _("terriers")
    DACHSHUNDS = "dachshunds", _("dachshunds")
    SPITZ = "spitz_and_primitive", _("spitz and primitive types")
    SCENTHOUNDS = "scenthounds", _("scent hounds")
    POINTING = "pointing_dogs", _("pointing dogs")
    RETRIEVERS = "retrievers_flushing_and_water_dogs", _("retrievers, flushing dogs and water dogs")
    COMPANION = "companion_and_toy", _("companion and toy dogs")
    SIGHTHOUNDS = "sighthounds", _("sighthounds")
    WILD = "wild_canids", _("wild canids")
    NONE = "no_group", _("no group")


class Decision(models.TextChoices):
    """What is said of a photo: by the classifier one of `ml.decision.Level`, by people also `cross`."""

    BREED = "breed", _("breed")
    GROUP = "group", _("group only")
    UNSURE = "unsure", _("unsure")
    NOT_A_DOG = "not_a_dog", _("not a dog")
    CROSS = "cross", _("cross of two breeds")


class BreedQuerySet(models.QuerySet):
    def seed(self) -> int:
        """Write the catalogue into the database; breeds that people added stay. Returns how many it holds."""
        entries = read_catalogue().values()
        self.bulk_create(
            [
                self.model(
                    slug=entry.slug,
                    name_fr=entry.name_fr,
                    name_en=entry.name_en,
                    group=entry.group,
                    synonyms=list(entry.synonyms),
                    wild=entry.wild,
                )
                for entry in entries
            ],
            update_conflicts=True,
            unique_fields=["slug"],
            update_fields=["name_fr", "name_en", "group", "synonyms", "wild"],
        )
        return len(entries)


class Breed(models.Model):
    """A breed that people may name. The model knows those whose slug is among its labels."""

    slug = models.SlugField(_("label"), unique=True)
    name_fr = models.CharField(_("French name"), max_length=100)
    name_en = models.CharField(_("English name"), max_length=100)
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, default=BreedGroup.NONE)
    synonyms = models.JSONField(_("synonyms"), default=list, blank=True)
    wild = models.BooleanField(_("wild canid"), default=False, help_text=_("Never offered as a shelter dog's breed."))

    objects = BreedQuerySet.as_manager()

    class Meta:
        verbose_name = _("breed")
        ordering = ["slug"]

    def __str__(self):
        return self.name

    @property
    def name(self) -> str:
        return self.name_fr if (get_language() or "fr").startswith("fr") else self.name_en


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


def pack_floats(values: np.ndarray | None) -> bytes | None:
    """(D,) floats -> little-endian float16, 2 bytes each; what is too large for it becomes its largest."""
    if values is None:
        return None
    most = np.finfo(np.float16).max
    return np.clip(np.asarray(values, np.float64), -most, most).astype("<f2").tobytes()


def unpack_floats(packed: bytes | memoryview) -> np.ndarray:
    """What `pack_floats` made -> (D,) float16."""
    return np.frombuffer(packed, "<f2")


def lease_is_over(column: str, now: datetime) -> Q:
    """Leases that have run out; so has one that ends later than any that is given now: the clock was put back."""
    longest = timedelta(seconds=2 * settings.CLAIM_LEASE_SECONDS)
    return Q(**{f"{column}__lt": now}) | Q(**{f"{column}__gt": now + longest})


class PredictionQuerySet(models.QuerySet):
    def with_vectors(self) -> "PredictionQuerySet":
        """Answers that can be fused and compared, with their version."""
        done = self.filter(status=Prediction.Status.DONE, probs__isnull=False, embedding__isnull=False)
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
            first = list(pending.values_list("pk", "attempts")[:limit])
            if not first:
                return []
            chosen = [first[0][0]] if first[0][1] else [pk for pk, attempts in first if not attempts]
            self.filter(pk__in=chosen, status=Prediction.Status.PENDING).update(
                status=Prediction.Status.RUNNING,
                lease=lease,
                leased_until=now + timedelta(seconds=settings.CLAIM_LEASE_SECONDS),
                attempts=F("attempts") + 1,
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

    def wish_for_all(self, photos, version: ClassifierVersion) -> int:
        """Queue those of `photos` that `version` has not answered, behind everybody who waits. Returns how many.

        They keep their answer until the next one is there; an open wish is kept.
        """
        theirs = self.filter(photo=OuterRef("pk"))
        wanted = photos.exclude(
            Exists(theirs.filter(status__in=[Prediction.Status.PENDING, Prediction.Status.RUNNING]))
        )
        wanted = wanted.exclude(Exists(theirs.filter(status=Prediction.Status.DONE, version=version)))
        rows = [
            self.model(photo_id=pk, priority=Prediction.Priority.BULK) for pk in wanted.values_list("pk", flat=True)
        ]
        self.bulk_create(rows, batch_size=500, ignore_conflicts=True)
        return len(rows)

    def waiting_since(self, priority: int) -> datetime | None:
        """When the oldest wish of this urgency came that nobody has in hand."""
        waiting = self.filter(status=Prediction.Status.PENDING, priority=priority)
        return waiting.order_by("pk").values_list("created_at", flat=True).first()

    def awaits_work(self) -> bool:
        return self.filter(status=Prediction.Status.PENDING).exists()


class Prediction(models.Model):
    """The answer of one classifier version to one photo, or the wish for one.

    `decision`, `label`, `group`, `probability`, `candidates` ([{label, probability}], best first) and `reasons` are
    those of `ml.decision.Decision`. What they were made from stays too, so that the photos of an animal can be fused
    and look-alikes found without looking at a photo again: `energy`, and as `pack_floats` the calibrated `probs` of the
    version's labels and the `embedding`.
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
        ]

    def __str__(self):
        return f"{self.get_status_display()} {self.label or self.group or self.decision}".strip()

    def _finish(self, status: "Prediction.Status", **fields) -> bool:
        """The one way from running to an end; False where the lease has gone to somebody else meanwhile."""
        finished_at = timezone.now()
        rows = type(self).objects.filter(pk=self.pk, status=self.Status.RUNNING, lease=self.lease)
        if not rows.update(status=status, lease=None, leased_until=None, finished_at=finished_at, **fields):
            return False
        self.refresh_from_db(from_queryset=type(self).objects.without_vectors())
        self.photo.index_prediction(self)
        return True

    def finish(self, classification, version: ClassifierVersion) -> bool:
        with transaction.atomic():
            return self._finish(
                self.Status.DONE,
                version=version,
                decision=classification.decision,
                label=classification.label,
                group=classification.group,
                probability=classification.probability,
                candidates=[asdict(candidate) for candidate in classification.candidates],
                reasons=[asdict(reason) for reason in classification.reasons],
                energy=classification.energy,
                familiarity=classification.familiarity,
                probs=pack_floats(classification.probs),
                embedding=pack_floats(classification.embedding),
                milliseconds=classification.milliseconds,
                error="",
                error_code="",
            )

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


class ReviewRefused(Exception):
    """A review that cannot be kept: `code` for scripts, the text for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class AppendOnly(TypeError):
    """Somebody tried to change or delete a review. A review is taken back by another one."""

    def __init__(self):
        super().__init__("Expected a new review; those that are there are never changed. Received: a change.")


@dataclass(frozen=True)
class Recorded:
    """What became of a review: `is_new` is false where the same person had just said the same.

    `before` stood until now, `newer` is an answer of the classifier that came after the one that was reviewed.
    """

    review: "Review"
    is_new: bool
    before: "Review | None" = None
    newer: Prediction | None = None


class ReviewQuerySet(models.QuerySet):
    """Reviews are appended, never changed. Deleting a photo takes its reviews along, by the database's cascade."""

    def update(self, **fields):
        raise AppendOnly

    def bulk_update(self, *arguments, **options):
        raise AppendOnly

    def bulk_create(self, objs, *arguments, update_conflicts=False, **options):
        if update_conflicts:
            raise AppendOnly
        return super().bulk_create(objs, *arguments, **options)

    def delete(self):
        raise AppendOnly

    delete.alters_data = True
    delete.queryset_only = True

    def standing(self) -> "ReviewQuerySet":
        """Those that were not withdrawn, the newest first: the first one of a photo counts."""
        return self.exclude(verdict=Review.Verdict.WITHDRAW).filter(withdrawal=None).order_by("-pk")

    def counting(self) -> "ReviewQuerySet":
        """The one review of each photo that counts."""
        newest = self.standing().filter(photo=OuterRef("photo")).values("pk")[:1]
        return self.filter(pk=Subquery(newest)).order_by("photo")

    def naming_a_breed(self) -> "ReviewQuerySet":
        """Of one breed, not of two: what a classifier can learn from."""
        return self.filter(verdict__in=[Review.Verdict.CONFIRM, Review.Verdict.CORRECT], breed__isnull=False)

    def record(
        self, photo, *, by, verdict: str, breed: Breed | None = None, second_breed: Breed | None = None,
        prediction: Prediction | None = None, reason: str = "", blind: bool = False,
    ) -> Recorded:  # fmt: skip
        """Append what `by` says of `photo`, and let the photo's index follow. Raises `ReviewRefused`.

        `prediction` is the one that was shown. Two people at once are both kept, in the order of their arrival; the
        same words of the same person twice are one review.
        """
        with transaction.atomic():
            photo, before = self._lock(photo)
            newest = photo.newest_answer
            if prediction and prediction.photo_id != photo.pk:
                raise ReviewRefused("other_photo", gettext("This answer of the classifier is about another photo."))
            said = {
                "verdict": verdict, "breed": breed, "second_breed": second_breed, "prediction": prediction,
                "group": _group_of(breed, second_breed), "reason": reason, "blind": blind,
            }  # fmt: skip
            if verdict == Review.Verdict.CONFIRM and blind:
                raise ReviewRefused("blind", gettext("The answer was hidden: name the breed instead of confirming."))
            if verdict == Review.Verdict.CONFIRM:
                said |= _confirmed(prediction)
            newer = newest if prediction and newest and newest.pk > prediction.pk else None
            if before and before.by == by and all(getattr(before, name) == value for name, value in said.items()):
                return Recorded(before, False, newer=newer)
            review = self.create(photo=photo, by=by, **said)
            photo.index_review(review)
        return Recorded(review, True, before, newer)

    def withdraw(self, review: "Review", *, by) -> "Review":
        """Take a review back by a new row: the one before counts again, or the classifier. Raises `ReviewRefused`."""
        if review.by != by and not by.has_perm("breeds.withdraw_any_review"):
            raise ReviewRefused("not_yours", gettext("Only reviewers may withdraw what somebody else said."))
        with transaction.atomic():
            photo, _standing = self._lock(review.photo)
            if self.filter(withdraws=review).exists() or review.verdict == Review.Verdict.WITHDRAW:
                raise ReviewRefused("already_withdrawn", gettext("This was withdrawn already."))
            withdrawal = self.create(photo=photo, by=by, verdict=Review.Verdict.WITHDRAW, withdraws=review)
            photo.index_review(photo.reviews.standing().first())
        return withdrawal

    def _lock(self, photo) -> tuple:
        """The photo's row, for this transaction alone, and the review that stands at this moment."""
        locked = type(photo).objects.select_for_update().filter(pk=photo.pk).first()
        if locked is None:
            raise ReviewRefused(
                "photo_deleted", gettext("This photo was deleted meanwhile; there is nothing to review.")
            )
        return locked, locked.reviews.standing().select_related("by").first()


def _group_of(breed: Breed | None, second_breed: Breed | None) -> str:
    """The group that a breed is of, or both."""
    if breed is None or (second_breed and second_breed.group != breed.group):
        return ""
    return breed.group


def _confirmed(prediction: Prediction | None) -> dict:
    """What somebody says who confirms this answer."""
    breed = Breed.objects.filter(slug=prediction.label).first() if prediction and prediction.label else None
    if breed is None and not (prediction and prediction.decision == Decision.GROUP):
        raise ReviewRefused(
            "nothing_to_confirm", gettext("There is no breed or group here to confirm. Name the breed.")
        )
    return {"breed": breed, "group": prediction.group}


class Review(models.Model):
    """What a person said of a photo. Rows are only appended; the newest that was not withdrawn counts.

    `prediction` is the answer that was shown (or hidden, for a `blind` review). `group` is that of the breed, of both
    breeds if they share it, or the one that was confirmed where the classifier dared no breed.
    """

    class Verdict(models.TextChoices):
        CONFIRM = "confirm", _("confirmed")
        CORRECT = "correct", _("corrected")
        CROSS = "cross", _("cross of two breeds")
        NOT_A_DOG = "not_a_dog", _("not a dog")
        CANNOT_TELL = "cannot_tell", _("cannot tell")
        WITHDRAW = "withdraw", _("withdrawn")

    class Reason(models.TextChoices):
        PAPERS = "papers", _("papers, microchip or vet")
        LOOKS = "looks", _("its looks")
        NOT_IN_MODEL = "not_in_model", _("a breed the model does not know")
        PUPPY = "puppy", _("a puppy")
        BAD_PHOTO = "bad_photo", _("blurred, dark or hidden")
        SEVERAL_DOGS = "several_dogs", _("several dogs in the photo")
        OTHER = "other", _("something else")

    photo = models.ForeignKey("shelter.Photo", models.CASCADE, related_name="reviews", verbose_name=_("photo"))
    prediction = models.ForeignKey(
        Prediction, models.RESTRICT, null=True, blank=True, related_name="reviews", verbose_name=_("prediction shown")
    )
    verdict = models.CharField(_("verdict"), max_length=12, choices=Verdict)
    breed = models.ForeignKey(
        Breed, models.PROTECT, null=True, blank=True, related_name="reviews", verbose_name=_("breed")
    )
    second_breed = models.ForeignKey(
        Breed, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("second breed")
    )
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, blank=True)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason, blank=True)
    blind = models.BooleanField(_("blind"), default=False, help_text=_("The model's answer was not shown."))
    withdraws = models.OneToOneField(
        "self", models.CASCADE, null=True, blank=True, related_name="withdrawal", verbose_name=_("withdraws")
    )
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="reviews", verbose_name=_("reviewed by")
    )
    created_at = models.DateTimeField(_("reviewed"), default=timezone.now)

    objects = ReviewQuerySet.as_manager()

    class Meta:
        verbose_name = _("review")
        ordering = ["-pk"]
        permissions = [
            ("withdraw_any_review", "Can withdraw what somebody else said"),
            ("use_review_queue", "Can work through the review queue"),
        ]
        indexes = [models.Index(fields=["photo", "-id"], name="reviews_by_photo")]
        constraints = [
            models.CheckConstraint(
                condition=Q(verdict="withdraw", withdraws__isnull=False)
                | (~Q(verdict="withdraw") & Q(withdraws__isnull=True)),
                name="withdrawal_names_a_review",
            ),
            models.CheckConstraint(
                condition=Q(verdict__in=["correct", "cross"], breed__isnull=False)
                | (
                    Q(verdict="confirm", prediction__isnull=False, blind=False)
                    & (Q(breed__isnull=False) | ~Q(group=""))
                )
                | Q(verdict__in=["not_a_dog", "cannot_tell", "withdraw"], breed__isnull=True, group=""),
                name="verdict_names_its_breed",
            ),
            models.CheckConstraint(
                condition=(Q(verdict="cross", second_breed__isnull=False) & ~Q(second_breed=F("breed")))
                | (~Q(verdict="cross") & Q(second_breed__isnull=True)),
                name="cross_names_two_breeds",
            ),
        ]

    def __str__(self):
        return f"{self.get_verdict_display()} {self.breed or self.group}".strip()

    def save(self, *arguments, **options):
        """A guard, no logic: a row is written once."""
        if not self._state.adding:
            raise AppendOnly
        super().save(*arguments, **options)

    def delete(self, *arguments, **options):
        raise AppendOnly

    @property
    def words(self) -> str:
        from breeds import words  # which knows this class

        return words.verdict(self)

    @property
    def decision(self) -> str:
        """What the photo's index says while this review counts."""
        if self.verdict == self.Verdict.CONFIRM and self.breed_id is None:
            return Decision.GROUP
        return {
            self.Verdict.CROSS: Decision.CROSS,
            self.Verdict.NOT_A_DOG: Decision.NOT_A_DOG,
            self.Verdict.CANNOT_TELL: Decision.UNSURE,
        }.get(self.verdict, Decision.BREED)


class ReviewTurnQuerySet(models.QuerySet):
    def next_for(self, user, photos, now: datetime | None = None):
        """The photo that `user` is to look at: the one held already, or the first of `photos` that nobody holds.

        `photos` are those that await a review, the most useful first. Two people never hold the same one, for the
        database knows a photo's turn once.
        """
        now = now or timezone.now()
        held = photos.filter(review_turn__by=user, review_turn__put_off=False, review_turn__until__gt=now)
        if photo := held.order_by("-review_turn").first():
            return photo
        self.filter(until__lte=now).delete()
        for photo in photos.exclude(Exists(self.model.objects.filter(photo=OuterRef("pk"))))[:20]:
            if self.take(user, photo, now):
                return photo
        return None

    def take(self, user, photo, now: datetime | None = None) -> bool:
        """Hold `photo`; False where somebody else does."""
        until = (now or timezone.now()) + timedelta(seconds=settings.REVIEW_TURN_SECONDS)
        rows = self.bulk_create([self.model(photo=photo, by=user, until=until)], ignore_conflicts=True)
        return bool(rows) and self.filter(photo=photo, by=user, put_off=False).exists()

    def put_off(self, user, photo_pk: int, now: datetime | None = None) -> None:
        """Not now: the photo comes back after a while, to anybody."""
        until = (now or timezone.now()) + timedelta(seconds=settings.REVIEW_TURN_SECONDS)
        self.filter(by=user, photo=photo_pk).update(put_off=True, until=until)


class ReviewTurn(models.Model):
    """Who is looking at a photo of the review queue at this moment, or has put it off."""

    photo = models.OneToOneField("shelter.Photo", models.CASCADE, related_name="review_turn", verbose_name=_("photo"))
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="review_turns", verbose_name=_("reviewed by")
    )
    until = models.DateTimeField(_("until"), db_index=True)
    put_off = models.BooleanField(_("put off"), default=False)

    objects = ReviewTurnQuerySet.as_manager()

    class Meta:
        verbose_name = _("turn in the review queue")

    def __str__(self):
        return f"{self.photo_id} {self.by}"
