"""Animals, their photos, and the tokens with which scripts come in."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from breeds import words
from breeds.classifier import shrink_image
from breeds.models import Breed, BreedGroup, Decision, Prediction
from breeds.tasks import hint
from shelter.animals import Animal


class PhotoQuerySet(models.QuerySet):
    def search(self, text: str, breeds: list[Breed] | None = None) -> "PhotoQuerySet":
        """Each word in the breed (label, French or English name, synonym), in the group or in the dog's name.

        `dog` is no bare column, so that SQLite walks the photos once in the order of the list instead of gathering
        what each of thousands of dogs has in an index: bounded for every word, where that takes seconds for "a".
        """
        found = self.alias(dog=Coalesce("animal", 0))
        breeds = list(Breed.objects.all()) if breeds is None and words.fold(text) else breeds
        for word in words.fold(text).split():
            found = found.filter(
                Q(breed__in=[breed.pk for breed in breeds if words.matches(breed, word)])
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

    `decision`, `breed`, `group`, `probability` and `source` repeat the newest answer, so that lists need no other
    table; what a person decided is never overwritten by a classifier.
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
    sha256 = models.CharField("SHA-256", max_length=64, unique=True, editable=False)
    size = models.PositiveBigIntegerField(_("bytes"))
    width = models.PositiveIntegerField(_("width (pixels)"))
    height = models.PositiveIntegerField(_("height (pixels)"))
    media_type = models.CharField(_("media type"), max_length=20)
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="photos",
        verbose_name=_("uploaded by"),
    )  # fmt: skip
    uploaded_at = models.DateTimeField(_("uploaded"), default=timezone.now)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, db_index=True)

    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PENDING)
    decision = models.CharField(_("decision"), max_length=10, choices=Decision, blank=True)
    breed = models.ForeignKey(
        Breed, models.PROTECT, null=True, blank=True, related_name="photos", verbose_name=_("breed")
    )
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, blank=True)
    probability = models.FloatField(_("probability"), null=True, blank=True)
    source = models.CharField(_("source"), max_length=10, choices=Source, blank=True)
    # What lists sort by: a column, so that it can be indexed together with the key on every database.
    sureness = models.GeneratedField(
        expression=Coalesce("probability", 0.0), output_field=models.FloatField(), db_persist=True
    )

    objects = PhotoQuerySet.as_manager()

    THUMBNAILS = {"small": 240, "medium": 480}  # what lists show; pixels of the longer side

    class Meta:
        verbose_name = _("photo")
        ordering = ["-pk"]
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

    def enqueue(self, priority: int = Prediction.Priority.INTERACTIVE) -> Prediction:
        """Wish for an answer: the row now, a hint to the workers once it is committed. An open wish is kept."""
        with transaction.atomic():
            prediction = self.predictions.filter(status__in=["pending", "running"]).first()
            if prediction is None:
                prediction = self.predictions.create(priority=priority)
                type(self).objects.filter(pk=self.pk).update(status=self.Status.PENDING, updated_at=timezone.now())
                self.status = self.Status.PENDING
            transaction.on_commit(hint)
        return prediction

    def index_prediction(self, prediction: Prediction) -> None:
        """Take over the end of a prediction, unless a person has decided. One conditional update."""
        now = timezone.now()
        rows = type(self).objects.filter(pk=self.pk)
        if prediction.status == Prediction.Status.FAILED:
            rows.filter(status=self.Status.PENDING).update(status=self.Status.FAILED, updated_at=now)
            return
        rows.exclude(source=self.Source.HUMAN).update(
            decision=prediction.decision,
            breed=Breed.objects.filter(slug=prediction.label).first() if prediction.label else None,
            group=prediction.group,
            probability=prediction.probability,
            source=self.Source.MODEL,
        )
        rows.update(status=self.Status.DONE, updated_at=now)

    def delete_with_files(self) -> None:
        """The row first, its files once that is committed: never a row without a file."""
        files = [(file.storage, file.name) for file in (self.image, self.preview) if file]
        files += [(self.preview.storage, self.thumbnail_name(side)) for side in self.THUMBNAILS.values()]
        with transaction.atomic():
            self.delete()
            transaction.on_commit(lambda: [storage.delete(name) for storage, name in files])

    def thumbnail_name(self, side: int) -> str:
        return f"thumbnails/{side}/{self.sha256[:2]}/{self.sha256}.jpg"

    def open_thumbnail(self, side: int):
        """The preview in a smaller size: made when a page first shows it, then kept. Raises `FileNotFoundError`."""
        storage, name = self.preview.storage, self.thumbnail_name(side)
        try:
            return storage.open(name, "rb")
        except FileNotFoundError:
            with self.preview.open("rb") as file:
                content = shrink_image(file.read(), side)
            storage.save(name, ContentFile(content))
            return storage.open(name, "rb")

    def save_preview(self, content) -> None:
        name = self.preview.storage.save(f"previews/{self.sha256[:2]}/{self.sha256}.jpg", content)
        type(self).objects.filter(pk=self.pk).update(preview=name)
        self.preview.name = name

    @property
    def words(self) -> str:
        """One line for lists: what it looks like, or where it stands."""
        if self.status != self.Status.DONE:
            return str(self.get_status_display())
        return words.sentence(self.decision, self.breed, self.group, self.probability, by_person=self.by_person)

    @property
    def by_person(self) -> bool:
        return self.source == self.Source.HUMAN

    @cached_property
    def answer(self) -> "Answer":
        """The newest prediction in words."""
        prediction = self.predictions.without_vectors().select_related("version").order_by("-pk").first()
        if prediction is None:
            return Answer(self.words, [], "", "", None, "")
        breeds = Breed.objects.in_bulk([c["label"] for c in prediction.candidates[:3]], field_name="slug")
        return Answer(
            words=self.words,
            candidates=[
                AnswerCandidate(str(breeds.get(c["label"], c["label"])), c["probability"])
                for c in prediction.candidates[:3]
            ],
            model=prediction.version.name if prediction.version else "",
            version=prediction.version.version if prediction.version else "",
            finished_at=prediction.finished_at,
            error=refusal(prediction.error_code, self.original_name) if self.status == self.Status.FAILED else "",
            why=words.why(prediction.reasons),
        )


class SavedSearchQuerySet(models.QuerySet):
    def keep(self, user, name: str, query: str) -> bool:
        """Save the search, or change the one of that name; False where the user has as many as there may be."""
        if self.filter(user=user).exclude(name=name).count() >= SavedSearch.MOST:
            return False
        self.update_or_create(user=user, name=name, defaults={"query": query})
        return True


class SavedSearch(models.Model):
    """A search that somebody comes back to; `query` is that of the list's address."""

    MOST = 30

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="saved_searches", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=80)
    query = models.CharField(_("search"), max_length=1000)

    objects = SavedSearchQuerySet.as_manager()

    class Meta:
        verbose_name = _("saved search")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_search_per_name")]

    def __str__(self):
        return self.name


@dataclass(frozen=True)
class AnswerCandidate:
    name: str
    probability: float

    @property
    def percent(self) -> str:
        return words.percent(self.probability)


@dataclass(frozen=True)
class Answer:
    words: str
    candidates: list[AnswerCandidate]
    model: str
    version: str
    finished_at: datetime | None
    error: str
    why: list[str] = field(default_factory=list)


def refusal(reason: str, name: str) -> str:
    """A sentence for staff, with the file's own name, for a code of `ml.UnreadableImage` or of the queue."""
    sentences = {
        "empty": gettext("“%(name)s” is empty (0 bytes). Expected a photo."),
        "not_an_image": gettext("“%(name)s” is not a photo that Flair can read. Expected JPEG, PNG, WebP or HEIC."),
        "truncated": gettext("“%(name)s” is cut short: a part of the photo is missing. Send it again."),
        "too_many_pixels": gettext("“%(name)s” has too many pixels. Send a smaller copy of it."),
        "too_many_scans": gettext("“%(name)s” is built in a way that would block the server. Save it again as JPEG."),
        "too_large": gettext("“%(name)s” is larger than %(limit)s MB. Send a smaller copy of it."),
        "missing": gettext("The file of “%(name)s” is missing on the server. Tell an administrator."),
        "interrupted": gettext("“%(name)s” could not be looked at: the classifier was interrupted several times."),
        "passing": gettext("“%(name)s” could not be looked at: the server had a problem several times."),
    }
    sentence = sentences.get(reason) or gettext("“%(name)s” is damaged: it cannot be decoded.")
    return sentence % {"name": name, "limit": settings.MAX_PHOTO_BYTES // 1_000_000}


class ApiToken(models.Model):
    """A key for scripts. Only the hash of it is kept: the key is shown once, when it is made."""

    class Scope(models.TextChoices):
        READ = "read", _("read")
        UPLOAD = "upload", _("upload")
        REVIEW = "review", _("review")

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=100, blank=True)
    digest = models.CharField(_("SHA-256 of the key"), max_length=64, unique=True, editable=False)
    scopes = models.JSONField(_("scopes"), default=list)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        verbose_name = _("API token")
        ordering = ["-created_at"]

    def __str__(self):
        return f"{self.user} {' '.join(self.scopes)}"

    @property
    def scope_names(self) -> str:
        return ", ".join(str(self.Scope(scope).label) for scope in self.scopes if scope in self.Scope)

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    @classmethod
    def issue(cls, user, scopes, *, name: str = "", expires_at: datetime | None = None) -> tuple["ApiToken", str]:
        """A new token and its key, which cannot be had again."""
        key = f"flair_{secrets.token_urlsafe(32)}"
        token = cls.objects.create(
            user=user, name=name, digest=cls.digest_of(key), scopes=sorted(set(scopes)), expires_at=expires_at
        )
        return token, key

    @classmethod
    def find(cls, key: str, now: datetime | None = None) -> "ApiToken | None":
        now = now or timezone.now()
        return (
            cls.objects.select_related("user")
            .filter(digest=cls.digest_of(key), revoked_at=None, user__is_active=True)
            .filter(Q(expires_at=None) | Q(expires_at__gt=now))
            .first()
        )
