"""The dogs themselves: the record of an animal, how it is found, and which photo stands for it."""

import re
from datetime import date

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Case, Count, Exists, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from breeds import words
from breeds.fusion import FusedAnswer, fuse_answers
from breeds.models import Decision, Prediction

LEAST_CHIP_DIGITS = 3  # fewer digits are in the microchip of nearly every dog


class FoldedField(models.CharField):
    """Another field as a search compares it: without accents and case, written whenever the row is saved.

    A column of our own, because SQLite cannot fold accents and PostgreSQL needs an extension for it. `update()` does
    not pass here: a name is changed by `save()`.
    """

    def __init__(self, *args, source: str = "name", **options):
        self.source = source
        super().__init__(*args, **{"max_length": 200} | options | {"editable": False})

    def deconstruct(self):
        name, path, args, options = super().deconstruct()
        return name, path, args, {key: options[key] for key in options if key != "editable"} | {"source": self.source}

    def pre_save(self, model_instance, add):
        folded = words.fold(getattr(model_instance, self.source))[: self.max_length]
        setattr(model_instance, self.attname, folded)
        return folded


def clean_microchip(text: str) -> str:
    """The 15 digits of a transponder (ISO 11784), however they were typed; an empty text stays empty."""
    digits = re.sub(r"[\s.\-]", "", text)
    if not digits:
        return ""
    received = {"received": text.strip()}
    if not re.fullmatch(r"[0-9]{15}", digits):
        raise ValidationError(_("Expected the 15 digits of a microchip. Received: %(received)s."), params=received)
    if not 1 <= int(digits[:3]) <= 998 or not int(digits[3:]):
        raise ValidationError(
            _("Expected a microchip that begins with a country (250 for France) or a maker. Received: %(received)s."),
            params=received,
        )
    return digits


def search_words(text: str) -> list[str]:
    """The folded words of a search. Digits alone are one word, however a microchip is spaced: “250 268-500.123 456”."""
    digits = re.sub(r"[\s.\-]", "", text)
    return [digits] if re.fullmatch(r"[0-9]+", digits) else words.fold(text).split()


def date_errors(born: date | None, arrived: date | None, born_about: bool) -> dict[str, str]:
    """What cannot be of the dates of a record: field -> sentence."""
    today = timezone.localdate()
    days = (("born_on", born), ("arrived_on", arrived))
    errors = {name: gettext("This date is in the future.") for name, day in days if day and day > today}
    if born and arrived and born > arrived and not born_about:
        errors.setdefault(
            "arrived_on", gettext("This is before the dog was born. If the birth is a guess, tick its box.")
        )
    return errors


class AnimalQuerySet(models.QuerySet["Animal"]):
    def search(self, text: str) -> "AnimalQuerySet":
        """Each word anywhere in the name, accents and case ignored; digits also anywhere in the microchip."""
        animals = self
        for word in search_words(text):
            condition = Q(name_folded__contains=word)
            if word.isdecimal() and len(word) >= LEAST_CHIP_DIGITS:
                condition |= Q(microchip__contains=word)
            animals = animals.filter(condition)
        return animals

    def called(self, text: str) -> "Animal | None":
        """The dog that a person means by “Rex” or “Rex (12)”; None where there is none of that name yet.

        Raises `ValidationError` where several dogs have the name: which of them only a person can say.
        """
        if numbered := re.fullmatch(r"(.*)\(([0-9]{1,18})\)", text.strip(), re.DOTALL):
            named = self.filter(pk=int(numbered[2])).first()
            if named and words.fold(numbered[1]) in ("", named.name_folded):
                return named
            raise ValidationError(
                _("“%(name)s”: no dog of that name has that number. For a new dog, leave the number out."),
                params={"name": text.strip()},
            )
        namesakes = list(self.filter(name_folded=words.fold(text)).order_by("pk")[:6])
        if len(namesakes) > 1:
            raise ValidationError(
                _("Several dogs are called %(name)s. Choose one of them: %(choices)s."),
                params={"name": text.strip(), "choices": ", ".join(animal.numbered for animal in namesakes)},
            )
        return namesakes[0] if namesakes else None

    def with_covers(self) -> "AnimalQuerySet":
        """Each with `cover_id`, the photo that stands for it, and `photo_count`; no query per row."""
        photos = apps.get_model("shelter", "Photo").objects.filter(animal=OuterRef("pk")).order_by()
        return self.annotate(
            cover_id=Coalesce("main_photo", Subquery(photos.order_by("position", "pk").values("pk")[:1])),
            photo_count=Coalesce(Subquery(photos.values("animal").annotate(n=Count("pk")).values("n")), 0),
        )


class Animal(models.Model):
    class Status(models.TextChoices):
        PRESENT = "present", _("at the shelter")
        FOSTERED = "fostered", _("with a foster family")
        ADOPTED = "adopted", _("adopted")
        RETURNED = "returned", _("back with its owner")
        GONE = "gone", _("gone otherwise")

    class Sex(models.TextChoices):
        FEMALE = "female", _("female")
        MALE = "male", _("male")
        UNKNOWN = "unknown", _("unknown")

    name = models.CharField(_("name"), max_length=100)
    name_folded = FoldedField(_("name without accents"), source="name", default="")
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PRESENT)
    sex = models.CharField(_("sex"), max_length=10, choices=Sex, default=Sex.UNKNOWN)
    born_on = models.DateField(_("born on"), null=True, blank=True)
    born_about = models.BooleanField(_("the date of birth is a guess"), default=False)
    arrived_on = models.DateField(_("arrived on"), null=True, blank=True)
    microchip = models.CharField(_("microchip"), max_length=15, blank=True)
    notes = models.TextField(_("notes"), blank=True)
    main_photo = models.ForeignKey(
        "shelter.Photo", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("main photo")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    updated_at = models.DateTimeField(_("changed"), auto_now=True, db_index=True)

    objects = AnimalQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("animal"), _("animals")
        ordering = ["name_folded", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["microchip"],
                condition=~Q(microchip=""),
                name="one_animal_per_microchip",
                violation_error_message=_("Another dog already has this microchip."),
            )
        ]
        indexes = [
            models.Index(fields=["name_folded", "id"], name="animals_by_name"),
            models.Index(fields=["status", "name_folded", "id"], name="animals_by_status"),
        ]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("animal", args=[self.pk])

    @property
    def numbered(self) -> str:
        """The name and what makes it unique; `AnimalQuerySet.called` understands it."""
        return f"{self.name} ({self.pk})"

    @property
    def is_here(self) -> bool:
        return self.status in (self.Status.PRESENT, self.Status.FOSTERED)

    def age(self, today: date | None = None) -> str:
        """« 3 ans », “7 months”; empty where the birth is not known."""
        if self.born_on is None:
            return ""
        today = today or timezone.localdate()
        months = 12 * (today.year - self.born_on.year) + today.month - self.born_on.month
        months = max(0, months - (today.day < self.born_on.day))
        if months < 24:
            age = ngettext("%(n)d month", "%(n)d months", months) % {"n": months}
        else:
            age = ngettext("%(n)d year", "%(n)d years", months // 12) % {"n": months // 12}
        return gettext("about %(age)s") % {"age": age} if self.born_about else age

    @property
    def birth(self) -> str:
        """The date as far as it is known: the day, or for a guess the month."""
        if self.born_on is None:
            return ""
        if self.born_about:
            return gettext("about %(month)s") % {"month": date_format(self.born_on, "F Y")}
        return date_format(self.born_on, "DATE_FORMAT")

    @property
    def microchip_spaced(self) -> str:
        """250 268 500 123 456: as vets read it aloud."""
        return " ".join(self.microchip[start : start + 3] for start in range(0, len(self.microchip), 3))

    @cached_property
    def answer(self) -> FusedAnswer | None:
        """What the classifier says of all photos together; photos in which a person saw no dog are left out.

        What people decided stands beside it, in the photos (`Photo.by_person`), and is never overwritten.
        """
        no_dog = Q(photo__source="human", photo__decision=Decision.NOT_A_DOG)
        return fuse_answers(Prediction.objects.with_vectors().filter(photo__animal=self).exclude(no_dog))

    def choose_main(self, photo_id: int) -> bool:
        """Let one of its own photos stand for it; False where the photo is not one of them (any more)."""
        own = self.photos.filter(pk=photo_id)
        rows = type(self).objects.filter(Exists(own), pk=self.pk)
        return bool(rows.update(main_photo=photo_id, updated_at=timezone.now()))

    def order_photos(self, photo_ids: list[int]) -> None:
        """Show these photos in this order; those that are not named come after them. One update.

        Positions end at -1, so that a photo which is filed later (position 0) stands last by itself.
        """
        places = [When(pk=pk, then=Value(place)) for place, pk in enumerate(photo_ids, -len(photo_ids))]
        if places:
            self.photos.update(position=Case(*places, default=Value(0)))

    def move_photo(self, photo_id: int, step: int) -> None:
        """Show a photo `step` places later (earlier, where it is negative)."""
        order = list(self.photos.order_by("position", "pk").values_list("pk", flat=True))
        if photo_id in order:
            here = order.index(photo_id)
            order.insert(max(0, here + step), order.pop(here))
            self.order_photos(order)
