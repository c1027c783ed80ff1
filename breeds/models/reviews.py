"""What people say of a photo: rows that are only ever appended."""

from dataclasses import dataclass

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from breeds.models.append_only import AppendOnly, AppendOnlyQuerySet
from breeds.models.breeds import Breed, BreedGroup, Decision
from breeds.models.predictions import Prediction


class ReviewRefused(Exception):
    """A review that cannot be kept: `code` for scripts, the text for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Recorded:
    """What became of a review: `is_new` is false where the same person had just said the same.

    `before` stood until now, `newer` is an answer of the classifier that came after the one that was reviewed.
    """

    review: "Review"
    is_new: bool
    before: "Review | None" = None
    newer: Prediction | None = None


class ReviewQuerySet(AppendOnlyQuerySet["Review"]):
    def standing(self) -> "ReviewQuerySet":
        """Reviews that nobody withdrew, the newest first: the first one of a photo counts."""
        return self.exclude(verdict=Review.Verdict.WITHDRAW).filter(withdrawal=None).order_by("-pk")

    def with_names(self) -> "ReviewQuerySet":
        """With the breeds and the reviewer that `words.verdict` names."""
        return self.select_related("by", "breed", "second_breed")

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
        return locked, locked.standing_review


def _group_of(breed: Breed | None, second_breed: Breed | None) -> str:
    """The group that a breed is of, or both."""
    if breed is None or (second_breed and second_breed.group != breed.group):
        return ""
    return breed.group


def _confirmed(prediction: Prediction | None) -> dict:
    """Breed and group of a review that confirms this answer."""
    breed = Breed.objects.filter(slug=prediction.label).first() if prediction and prediction.label else None
    if prediction is None or (breed is None and prediction.decision != Decision.GROUP):
        raise ReviewRefused(
            "nothing_to_confirm", gettext("There is no breed or group here to confirm. Name the breed.")
        )
    return {"breed": breed, "group": prediction.group}


class Review(AppendOnly):
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

        @classmethod
        def sayable(cls) -> list[tuple]:
            """Choices that name what the photo shows; a withdrawal names a review instead."""
            return [(value, label) for value, label in cls.choices if value != cls.WITHDRAW]

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

    objects = ReviewQuerySet.as_manager()  # type: ignore[misc]  # in place of the base's manager

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

    @property
    def decision(self) -> str:
        """What the photo's index says while this review counts."""
        if self.verdict == self.Verdict.CONFIRM and self.breed_id is None:
            return Decision.GROUP
        decisions: dict[str, Decision] = {
            self.Verdict.CROSS: Decision.CROSS,
            self.Verdict.NOT_A_DOG: Decision.NOT_A_DOG,
            self.Verdict.CANNOT_TELL: Decision.UNSURE,
        }
        return decisions.get(self.verdict, Decision.BREED)
