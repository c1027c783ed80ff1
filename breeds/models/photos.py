"""A photo as far as predictions and reviews know it: the index, the queue and the draw of blind photos.

`shelter.Photo` is the one model that fills this in. So nothing here imports `shelter`: the database knows both apps,
the imports do not.
"""

from datetime import datetime
from typing import ClassVar, Self, TypeVar, cast

from django.db import models, transaction
from django.db.models import F, Prefetch
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from breeds.hints import hint
from breeds.models.breeds import Breed, BreedGroup, Decision
from breeds.models.predictions import Prediction
from breeds.models.reviews import Review

# Of the photos that the classifier names a breed for, the review queue hides the answer of one in 20: reviews of these
# measure the classifier without bias.
BLIND_ONE_IN = 20


def photo_model() -> type["AnsweredPhoto"]:
    """The model that fills in `AnsweredPhoto`. The only reflection in `breeds`: a test refuses any other."""
    return cast("type[AnsweredPhoto]", Prediction._meta.get_field("photo").related_model)


PhotoRow = TypeVar("PhotoRow", bound="AnsweredPhoto")


class AnsweredPhotoQuerySet(models.QuerySet[PhotoRow]):
    def with_draw(self) -> Self:
        """Annotate `draw`: 0 for photos that are drawn to be reviewed blind (as `AnsweredPhoto.is_drawn`)."""
        return self.annotate(draw=F("pk") % BLIND_ONE_IN)

    def confirmable(self) -> Self:
        """Photos that the classifier alone named a breed for, without the photos drawn to be reviewed blind."""
        named = self.filter(
            status=AnsweredPhoto.Status.DONE, source=AnsweredPhoto.Source.MODEL, decision=Decision.BREED
        )
        return named.with_draw().exclude(draw=0)

    def confirmable_as(self, breed: Breed) -> Self:
        """The confirmable photos of this breed, the surest first."""
        return self.confirmable().filter(breed=breed).order_by("-probability", "pk")

    def confirmed(self) -> Self:
        """Photos whose breed a person named."""
        return self.filter(source=AnsweredPhoto.Source.HUMAN, decision__in=[Decision.BREED, Decision.CROSS])

    def with_standing_reviews(self) -> Self:
        """Prefetch `standing_reviews`, by one query for all photos."""
        return self.prefetch_related(standing_reviews_prefetch())

    def stuck(self, now: datetime | None = None) -> Self:
        """Photos that have waited too long for the classifier."""
        return self.filter(pk__in=Prediction.objects.stuck(now).values("photo"))

    def classify_again(self, priority: int = Prediction.Priority.BULK) -> int:
        """Queue these photos again; each keeps its answer until the new one is there. Returns how many wait newly."""
        with transaction.atomic():
            count = Prediction.objects.request_again(self, priority)
            self.filter(status=AnsweredPhoto.Status.FAILED).update(
                status=AnsweredPhoto.Status.PENDING, updated_at=timezone.now()
            )
            transaction.on_commit(hint)
        return count


def standing_reviews_prefetch() -> Prefetch:
    return Prefetch("reviews", Review.objects.standing().with_names(), to_attr="standing_reviews")


class AnsweredPhoto(models.Model):
    """A photo that can be classified and reviewed.

    `decision`, `breed`, `second_breed` (of a cross), `group`, `probability` and `source` are the index: they repeat the
    standing review, else the newest answer, so that lists need no other table. A person's decision is never overwritten
    by a classifier.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("waiting for the classifier")
        DONE = "done", _("answered")
        FAILED = "failed", _("failed")

    class Source(models.TextChoices):
        MODEL = "model", _("classifier")
        HUMAN = "human", _("person")

    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PENDING)
    decision = models.CharField(_("decision"), max_length=10, choices=Decision, blank=True)
    breed = models.ForeignKey(
        Breed, models.PROTECT, null=True, blank=True, related_name="photos", verbose_name=_("breed")
    )
    second_breed = models.ForeignKey(
        Breed, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("second breed")
    )
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, blank=True)
    probability = models.FloatField(_("probability"), null=True, blank=True)
    source = models.CharField(_("source"), max_length=10, choices=Source, blank=True)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, db_index=True)
    # Lists sort by this column, because a column can be indexed together with the key on every database.
    sureness = models.GeneratedField(
        expression=Coalesce("probability", 0.0), output_field=models.FloatField(), db_persist=True
    )

    objects = AnsweredPhotoQuerySet["AnsweredPhoto"].as_manager()

    INDEX: ClassVar = ["decision", "breed", "second_breed", "group", "probability", "source", "updated_at"]
    # Filters of `manage.py repredict --filter NAME=VALUE`, and the column of each.
    FILTERS: ClassVar = {
        "status": "status", "decision": "decision", "breed": "breed__slug", "group": "group", "source": "source",
    }  # fmt: skip

    class Meta:
        abstract = True

    def read_original(self) -> bytes:
        """The stored file. Raises `FileNotFoundError` where it is missing."""
        raise NotImplementedError

    def keep_look(self, preview: bytes, dhash: int) -> None:
        """Keep the preview (JPEG) and the 64-bit difference hash that the classifier's worker made."""
        raise NotImplementedError

    def announce(self, event: str) -> None:
        """Tell subscribers `prediction.done`, `prediction.failed` or `review.changed`, in the caller's transaction."""
        raise NotImplementedError

    @property
    def thumbnail_url(self) -> str:
        """Address of a small picture; empty while there is none."""
        raise NotImplementedError

    @property
    def dog_key(self) -> str:
        """The same text for all photos of one dog, so that no split divides them; empty where the dog is unknown."""
        raise NotImplementedError

    @property
    def export_name(self) -> str:
        """The file name of this photo in a training set."""
        raise NotImplementedError

    def index_prediction(self, prediction: Prediction, **columns) -> None:
        """Copy the end of a prediction into the index, unless a person has decided. One conditional update.

        `columns` are written by the same update, where the photo could be classified.
        """
        now = timezone.now()
        rows = type(self).objects.filter(pk=self.pk)
        if prediction.status == Prediction.Status.FAILED:
            if rows.filter(status=self.Status.PENDING).update(status=self.Status.FAILED, updated_at=now):
                self.announce("prediction.failed")
            return
        columns |= {"status": self.Status.DONE, "updated_at": now}
        if not self._index_answer(prediction, **columns):
            rows.update(**columns)  # a person has decided
        self.announce("prediction.done")

    def _index_answer(self, prediction: Prediction, **columns) -> int:
        """One conditional update, which writes `columns` as well; 0 where a person has decided."""
        breed = Breed.objects.filter(slug=prediction.label).values("pk") if prediction.label else None
        rows = type(self).objects.filter(pk=self.pk).exclude(source=self.Source.HUMAN)
        return rows.update(
            decision=prediction.decision,
            breed=breed,
            second_breed=None,
            group=prediction.group,
            probability=prediction.probability,
            source=self.Source.MODEL,
            **columns,
        )

    def index_review(self, review: Review | None) -> None:
        """Copy the standing review into the index; without one, the classifier's newest answer again."""
        self.follow(review)
        type(self).objects.filter(pk=self.pk).update(**{name: getattr(self, name) for name in self.INDEX})
        if review is None and (answer := self.newest_answer):
            self._index_answer(answer)
        self.announce("review.changed")

    def follow(self, review: Review | None) -> None:
        """Set the index of this object by a review. The caller writes the columns of `INDEX`."""
        self.decision = review.decision if review else ""
        self.breed = review.breed if review else None
        self.second_breed = review.second_breed if review else None
        self.group = review.group if review else ""
        self.probability = None
        self.source = self.Source.HUMAN if review else ""
        self.updated_at = timezone.now()

    @property
    def by_person(self) -> bool:
        return self.source == self.Source.HUMAN

    @property
    def is_drawn(self) -> bool:
        """Is this photo drawn to be reviewed blind? (As `AnsweredPhotoQuerySet.with_draw`.)"""
        return self.pk % BLIND_ONE_IN == 0

    def hides(self, answer: Prediction | None) -> bool:
        """Is this a sure answer that the review queue does not show?"""
        return answer is not None and answer.decision == Decision.BREED and self.is_drawn

    @property
    def newest_answer(self) -> Prediction | None:
        return Prediction.objects.answers().filter(photo=self.pk).order_by("-pk").first()

    @cached_property
    def standing_reviews(self) -> list[Review]:
        """The reviews that nobody withdrew, the newest first."""
        return list(Review.objects.standing().filter(photo=self.pk).with_names())

    @property
    def standing_review(self) -> Review | None:
        """The review that counts: the newest that nobody withdrew."""
        return next(iter(self.standing_reviews), None)
