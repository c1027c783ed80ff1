"""Photos: what was sent, and what the index says of it."""

from datetime import datetime

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from breeds import words
from breeds.classifier import shrink_image
from breeds.hints import hint
from breeds.models import Breed, BreedGroup, Decision, Prediction, Review
from shelter.models.animals import Animal
from shelter.models.fingerprints import Fingerprint
from shelter.models.webhooks import Delivery, Event

BLIND_ONE_IN = 20


class PhotoQuerySet(models.QuerySet):
    def with_content(self, *digests: str) -> "PhotoQuerySet":
        """Photos that were sent as, or are stored as, bytes of one of these SHA-256."""
        return self.filter(Q(sha256__in=digests) | Q(stored_sha256__in=digests))

    def with_twin(self) -> "PhotoQuerySet":
        return self.select_related("fingerprint__looks_like__animal")

    def awaiting_review(self) -> "PhotoQuerySet":
        """Answered by the classifier alone, the most useful first.

        Where photos of one dog disagree; what is unsure, mixed with every 20th sure one, to be shown blind; only a
        group; no dog; then breeds, the least probable first.
        """
        others = Photo.objects.filter(animal=OuterRef("animal"), decision=Decision.BREED).exclude(
            breed=OuterRef("breed")
        )
        disagrees = Q(animal__isnull=False) & Q(Exists(others))
        rank = Case(
            When(Q(decision=Decision.BREED) & disagrees, then=0),
            When(Q(decision=Decision.UNSURE) | Q(decision=Decision.BREED, draw=0), then=1),
            When(decision=Decision.GROUP, then=2),
            When(decision=Decision.NOT_A_DOG, then=3),
            default=4,
        )
        within = Case(When(decision=Decision.BREED, draw__gt=0, then=F("probability")), default=0.0)
        answered = self.filter(status=Photo.Status.DONE, source=Photo.Source.MODEL)
        return answered.annotate(draw=F("pk") % BLIND_ONE_IN).order_by(rank, within, "pk")

    def stuck(self, now: datetime | None = None) -> "PhotoQuerySet":
        """Photos that wait for the classifier for longer than anybody should."""
        return self.filter(pk__in=Prediction.objects.stuck(now).values("photo"))

    def classify_again(self, priority: int = Prediction.Priority.BULK) -> int:
        """Let the classifier look again; what is answered stays answered until then. Returns how many wait newly."""
        with transaction.atomic():
            count = Prediction.objects.wish_again(self, priority)
            self.filter(status=Photo.Status.FAILED).update(status=Photo.Status.PENDING, updated_at=timezone.now())
            transaction.on_commit(hint)
        return count

    def confirmable_as(self, breed: Breed) -> "PhotoQuerySet":
        """What the classifier alone calls this breed, the surest first; those that are to be shown blind stay away."""
        named = self.filter(status=Photo.Status.DONE, source=Photo.Source.MODEL, decision=Decision.BREED, breed=breed)
        return named.annotate(draw=F("pk") % BLIND_ONE_IN).exclude(draw=0).order_by("-probability", "pk")

    def confirmed(self) -> "PhotoQuerySet":
        """Those whose breed a person has named."""
        return self.filter(source=Photo.Source.HUMAN, decision__in=[Decision.BREED, Decision.CROSS])

    def search(self, text: str, breeds: list[Breed] | None = None) -> "PhotoQuerySet":
        """Each word in the breed (label, French or English name, synonym), in the group or in the dog's name.

        `dog` is no bare column, so that SQLite walks the photos once in the order of the list instead of gathering
        what each of thousands of dogs has in an index: bounded for every word, where that takes seconds for "a".
        """
        found = self.alias(dog=Coalesce("animal", 0))
        breeds = list(Breed.objects.all()) if breeds is None and words.fold(text) else breeds
        for word in words.fold(text).split():
            named = [breed.pk for breed in breeds if words.matches(breed, word)]
            found = found.filter(
                Q(breed__in=named)
                | Q(second_breed__in=named)
                | Q(group__in=[group for group in BreedGroup if words.group_matches(group, word)])
                | Q(dog__in=Animal.objects.search(word).values("pk"))
            )
        return found

    def file_under(self, animal: Animal | None) -> int:
        """File these photos under a dog, or under none; each leaves the dog it was filed under. Returns how many."""
        with transaction.atomic():
            moved = list(self.exclude(animal=animal).values_list("pk", flat=True))
            Animal.objects.filter(main_photo__in=moved).update(main_photo=None)
            return self.model.objects.filter(pk__in=moved).update(animal=animal, position=0, updated_at=timezone.now())


class Photo(models.Model):
    """A photo and what the index says of it.

    `decision`, `breed`, `second_breed` (of a cross), `group`, `probability` and `source` repeat the newest answer, so
    that lists need no other table; what a person decided is never overwritten by a classifier. `image` is what was
    sent without its position: the hash of the bytes as sent finds the photo again, and so does that of the bytes as
    stored, where they differ.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("waiting for the classifier")
        DONE = "done", _("answered")
        FAILED = "failed", _("failed")

    class Source(models.TextChoices):
        MODEL = "model", _("classifier")
        HUMAN = "human", _("person")

    animal = models.ForeignKey(
        Animal, models.SET_NULL, null=True, blank=True, related_name="photos", verbose_name=_("animal")
    )
    position = models.IntegerField(_("place among the photos of its animal"), default=0, editable=False)
    image = models.FileField(_("original"), max_length=200, editable=False)
    preview = models.FileField(_("preview"), max_length=200, blank=True, editable=False)
    original_name = models.CharField(_("file name"), max_length=255)
    sha256 = models.CharField(_("SHA-256 as sent"), max_length=64, unique=True, editable=False)
    stored_sha256 = models.CharField(
        _("SHA-256 as stored, where it differs"), max_length=64, unique=True, null=True, blank=True, editable=False
    )
    size = models.PositiveBigIntegerField(_("bytes"))
    width = models.PositiveIntegerField(_("width (pixels)"))
    height = models.PositiveIntegerField(_("height (pixels)"))
    media_type = models.CharField(_("media type"), max_length=20)
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="photos",
        verbose_name=_("uploaded by"),
    )  # fmt: skip
    uploaded_at = models.DateTimeField(_("uploaded"), default=timezone.now)
    taken_at = models.DateTimeField(_("taken, by the camera's clock"), null=True, blank=True, editable=False)
    position_rule = models.PositiveSmallIntegerField(
        _("rule by which the position was removed"), default=0, editable=False
    )
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, db_index=True)

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
    # What lists sort by: a column, so that it can be indexed together with the key on every database.
    sureness = models.GeneratedField(
        expression=Coalesce("probability", 0.0), output_field=models.FloatField(), db_persist=True
    )

    objects = PhotoQuerySet.as_manager()

    # What `breeds.classifier.remove_location` removes has a number: raise it when more is removed, so that
    # `manage.py remove_locations` goes through the photos again. 0: nobody knows what the original still tells.
    POSITION_RULE = 1

    INDEX = ["decision", "breed", "second_breed", "group", "probability", "source", "updated_at"]
    THUMBNAILS = {"small": 240, "medium": 480}  # what lists show; pixels of the longer side

    class Meta:
        verbose_name = _("photo")
        ordering = ["-pk"]
        permissions = [("view_original", "Can open the original of a photo")]
        indexes = [
            models.Index(fields=["breed", "-id"], name="photos_by_breed"),
            models.Index(fields=["group", "-id"], name="photos_by_group"),
            models.Index(fields=["decision", "-id"], name="photos_by_decision"),
            models.Index(fields=["status", "-id"], name="photos_by_status"),
            models.Index(fields=["uploaded_by", "-id"], name="photos_by_uploader"),
            models.Index(fields=["animal", "position", "id"], name="photos_by_animal"),
            models.Index(fields=["sureness", "id"], name="photos_by_sureness"),
            # All that the facets count: they are read from this index alone.
            models.Index(
                fields=[
                    "status",
                    "decision",
                    "source",
                    "group",
                    "breed",
                    "second_breed",
                    "uploaded_by",
                    "probability",
                    "animal",
                    "uploaded_at",
                ],
                name="photos_for_facets",
            ),
        ]

    def __str__(self):
        return self.original_name

    def get_absolute_url(self):
        return reverse("photo", args=[self.pk])

    def store(self, priority: int) -> Prediction:
        """Save this new row and its wish for an answer, in the caller's transaction: nobody can have asked before."""
        self.save(force_insert=True)
        prediction = self.predictions.create(priority=priority)
        if priority > Prediction.Priority.BULK:
            transaction.on_commit(hint)
        return prediction

    def enqueue(self, priority: int = Prediction.Priority.INTERACTIVE) -> Prediction:
        """Wish for an answer: the row now, a hint to the workers once it is committed.

        An open wish is kept, and becomes as urgent as this one. A bulk import sends its hints itself, one for many.
        """
        with transaction.atomic():
            prediction = self.predictions.filter(status__in=["pending", "running"]).first()
            if prediction is None:
                prediction = self.predictions.create(priority=priority)
                type(self).objects.filter(pk=self.pk).update(status=self.Status.PENDING, updated_at=timezone.now())
                self.status = self.Status.PENDING
            elif prediction.priority < priority:
                self.predictions.filter(pk=prediction.pk).update(priority=priority)
            if priority > Prediction.Priority.BULK:
                transaction.on_commit(hint)
        return prediction

    def index_prediction(self, prediction: Prediction) -> None:
        """Take over the end of a prediction, unless a person has decided. One conditional update."""
        now = timezone.now()
        rows = type(self).objects.filter(pk=self.pk)
        if prediction.status == Prediction.Status.FAILED:
            if rows.filter(status=self.Status.PENDING).update(status=self.Status.FAILED, updated_at=now):
                Delivery.objects.announce(Event.PREDICTION_FAILED, self.pk)
            return
        state = {"status": self.Status.DONE, "updated_at": now}
        if self.preview:
            state["preview"] = self.preview.name  # which `keep_look` made on the way
        if not self._index_answer(prediction, **state):
            rows.update(**state)  # a person has decided
        Delivery.objects.announce(Event.PREDICTION_DONE, self.pk)

    def _index_answer(self, prediction: Prediction, **state) -> int:
        """One conditional update, which writes `state` as well; 0 where a person has decided."""
        breed = Breed.objects.filter(slug=prediction.label).values("pk") if prediction.label else None
        return (
            type(self)
            .objects.filter(pk=self.pk)
            .exclude(source=self.Source.HUMAN)
            .update(
                decision=prediction.decision,
                breed=breed,
                second_breed=None,
                group=prediction.group,
                probability=prediction.probability,
                source=self.Source.MODEL,
                **state,
            )
        )

    def index_review(self, review: Review | None) -> None:
        """Follow the review that stands; where none does any more, the classifier's newest answer again."""
        self.follow(review)
        type(self).objects.filter(pk=self.pk).update(**{name: getattr(self, name) for name in self.INDEX})
        if review is None and (answer := self.newest_answer):
            self._index_answer(answer)
        Delivery.objects.announce(Event.REVIEW_CHANGED, self.pk)

    def follow(self, review: Review | None) -> None:
        """What the index says while this review counts, in this object alone: whoever calls it writes `INDEX`."""
        self.decision = review.decision if review else ""
        self.breed = review.breed if review else None
        self.second_breed = review.second_breed if review else None
        self.group = review.group if review else ""
        self.probability = None
        self.source = self.Source.HUMAN if review else ""
        self.updated_at = timezone.now()

    def delete_with_files(self) -> None:
        """The row first, its files once that is committed: never a row without a file."""
        files = [(file.storage, file.name) for file in (self.image, self.preview) if file]
        files += [(self.preview.storage, self.thumbnail_name(side)) for side in self.THUMBNAILS.values()]
        with transaction.atomic():
            self.delete()
            transaction.on_commit(lambda: [storage.delete(name) for storage, name in files])

    def keep_look(self, preview, dhash: int) -> None:
        """What pages show of the photo, and what finds its twins: made once, whatever classifier looks at it."""
        is_new = not self.preview
        if is_new:  # `index_prediction` writes its name, together with the answer
            self.preview.name = self.preview.storage.save(self.preview_name, preview)
        if is_new or not Fingerprint.objects.filter(photo=self).exists():
            Fingerprint.objects.record(self, dhash)

    @property
    def twin(self) -> "Photo | None":
        """The older photo that this one looks like, as far as the classifier's worker has looked."""
        fingerprint = getattr(self, "fingerprint", None)
        return fingerprint.looks_like if fingerprint else None

    def thumbnail_name(self, side: int) -> str:
        return f"thumbnails/{side}/{self.sha256[:2]}/{self.sha256}.jpg"

    def thumbnail(self, side: int) -> str:
        """The name of the preview in a smaller size: made when a page first shows it. Raises `FileNotFoundError`."""
        storage, name = self.preview.storage, self.thumbnail_name(side)
        if not storage.exists(name):
            with self.preview.open("rb") as file:
                content = shrink_image(file.read(), side)
            storage.save(name, ContentFile(content))
        return name

    @property
    def preview_name(self) -> str:
        return f"previews/{self.sha256[:2]}/{self.sha256}.jpg"

    def save_preview(self, content) -> None:
        name = self.preview.storage.save(self.preview_name, content)
        type(self).objects.filter(pk=self.pk).update(preview=name)
        self.preview.name = name

    @property
    def already_sent(self) -> str:
        """Where whoever sends it again finds it."""
        date = date_format(localtime(self.uploaded_at), "DATE_FORMAT")
        if self.animal:
            return gettext("Already sent on %(date)s, filed under %(animal)s.") % {"date": date, "animal": self.animal}
        return gettext("Already sent on %(date)s.") % {"date": date}

    @property
    def words(self) -> str:
        """One line for lists: what it is or looks like, or where it stands."""
        if self.by_person:
            return words.decided(self.decision, self.breed, self.second_breed, self.group)
        if self.status != self.Status.DONE:
            return str(self.get_status_display())
        return words.sentence(self.decision, self.breed, self.group, self.probability)

    @property
    def by_person(self) -> bool:
        return self.source == self.Source.HUMAN

    def hides(self, answer: Prediction | None) -> bool:
        """Is this a sure answer that the review queue does not show, so that what people say measures it fairly?"""
        return bool(answer) and answer.decision == Decision.BREED and self.pk % BLIND_ONE_IN == 0

    @property
    def newest_answer(self) -> Prediction | None:
        return self.predictions.filter(status=Prediction.Status.DONE).order_by("-pk").first()

    @cached_property
    def standing_review(self) -> Review | None:
        """What a person said last and did not take back."""
        return self.reviews.standing().select_related("by", "breed", "second_breed").first()
