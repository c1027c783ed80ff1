"""Photos: what was sent, and what the index says of it."""

from pathlib import PurePosixPath
from typing import ClassVar

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from breeds import words
from breeds.classifier import shrink_image
from breeds.hints import hint
from breeds.models import AnsweredPhoto, AnsweredPhotoQuerySet, Breed, BreedGroup, Decision, Prediction
from shelter.models.animals import Animal, search_words
from shelter.models.fingerprints import Fingerprint
from shelter.models.webhooks import Delivery, Event

# All columns that the facets count: one index has them, so that the facets read no row.
FACET_COLUMNS = [
    "status", "decision", "source", "group", "breed", "second_breed", "uploaded_by", "probability", "animal",
    "uploaded_at",
]  # fmt: skip


class PhotoQuerySet(AnsweredPhotoQuerySet["Photo"]):
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
        return answered.with_draw().order_by(rank, within, "pk")

    def of_breed(self, breed: Breed | int) -> "PhotoQuerySet":
        """Photos of this breed (or of the breed with this key), crosses with another breed included."""
        return self.filter(Q(breed=breed) | Q(second_breed=breed))

    def search(self, text: str, breeds: list[Breed] | None = None) -> "PhotoQuerySet":
        """Each word in the breed (label, French or English name, synonym), in the group or in the dog's name.

        `dog` is no bare column, so that SQLite walks the photos once in the order of the list instead of gathering
        what each of thousands of dogs has in an index: bounded for every word, where that takes seconds for "a".
        """
        photos = self.alias(dog=Coalesce("animal", 0))
        texts = search_words(text)
        if breeds is None:
            breeds = list(Breed.objects.all()) if texts else []
        for word in texts:
            named = [breed.pk for breed in breeds if words.matches(breed, word)]
            photos = photos.filter(
                Q(breed__in=named)
                | Q(second_breed__in=named)
                | Q(group__in=[group for group in BreedGroup if words.group_matches(group, word)])
                | Q(dog__in=Animal.objects.search(word).values("pk"))
            )
        return photos

    def file_under(self, animal: Animal | None) -> int:
        """File these photos under a dog, or under none; each leaves the dog it was filed under. Returns how many."""
        with transaction.atomic():
            moved = list(self.exclude(animal=animal).values_list("pk", flat=True))
            Animal.objects.filter(main_photo__in=moved).update(main_photo=None)
            return self.model.objects.filter(pk__in=moved).update(animal=animal, position=0, updated_at=timezone.now())


class Photo(AnsweredPhoto):
    """A photo of the shelter: its files, who sent it, and the dog it is filed under.

    `image` is the file as it was sent, without the position. The hash of the bytes as sent finds the photo again, and
    so does the hash of the bytes as stored, where they differ.
    """

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
    objects = PhotoQuerySet.as_manager()  # type: ignore[misc]  # in place of the base's manager

    # What `breeds.classifier.remove_location` removes has a number: raise it when more is removed, so that
    # `manage.py remove_locations` goes through the photos again. 0: nobody knows what the original still tells.
    POSITION_RULE = 1

    FILTERS: ClassVar = AnsweredPhoto.FILTERS | {"animal": "animal__name"}
    THUMBNAILS: ClassVar = {"small": 240, "medium": 480}  # what lists show; pixels of the longer side

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
            models.Index(fields=FACET_COLUMNS, name="photos_for_facets"),
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

    def index_prediction(self, prediction: Prediction, **columns) -> None:
        """As above, with the preview that `keep_look` saved before."""
        if self.preview:
            columns["preview"] = self.preview.name
        super().index_prediction(prediction, **columns)

    def announce(self, event: str) -> None:
        Delivery.objects.announce(Event(event), self.pk)

    def delete_with_files(self) -> None:
        """Delete the row, and its files once that is committed: no row is ever without its file."""
        files = [(file.storage, file.name) for file in (self.image, self.preview) if file.name]
        files += [(self.preview.storage, self.thumbnail_name(side)) for side in self.THUMBNAILS.values()]

        def delete_files() -> None:
            for storage, name in files:
                storage.delete(name)

        with transaction.atomic():
            self.delete()
            transaction.on_commit(delete_files)

    def read_original(self) -> bytes:
        with self.image.open("rb") as file:
            return file.read()

    def keep_look(self, preview: bytes, dhash: int) -> None:
        """Made once, whichever classifier looks at the photo."""
        is_new = not self.preview
        if is_new:  # `index_prediction` writes its name, together with the answer
            self.preview.name = self.preview.storage.save(self.preview_name, ContentFile(preview))
        if is_new or not Fingerprint.objects.filter(photo=self).exists():
            Fingerprint.objects.record(self, dhash)

    @property
    def thumbnail_url(self) -> str:
        return reverse("photo_file", args=[self.pk, "small"]) if self.preview else ""

    @property
    def dog_key(self) -> str:
        return f"animal-{self.animal_id}" if self.animal_id else ""

    @property
    def export_name(self) -> str:
        return self.sha256[:16] + PurePosixPath(self.image.name or "").suffix

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

    @property
    def already_sent(self) -> str:
        """Message for a file that is sent again: when the photo came, and under which dog it is filed."""
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
