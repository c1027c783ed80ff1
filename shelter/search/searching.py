"""The search for photos: its filters, the photos that match, and how many would match after each further choice."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode

from django import forms
from django.contrib.auth import get_user_model
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from breeds.models import Breed, BreedGroup, Decision
from breeds.words import percent, person
from shelter.models import Photo, PhotoQuerySet

ORDERS = {
    "newest": ("-id", "-id"),
    "oldest": ("id", "id"),
    "surest": ("-sureness", "-id"),
    "unsurest": ("sureness", "id"),
}
BANDS = {"90": (0.9, 2.0), "70": (0.7, 0.9), "50": (0.5, 0.7), "0": (0.0, 0.5)}
# The facets whose values are columns: one grouped query counts them all.
COLUMNS = {
    "decision": "decision",
    "source": "source",
    "status": "status",
    "group": "group",
    "breed": "breed_id",
    "uploader": "uploaded_by_id",
}
FEW = 2000
DAYS = [MinValueValidator(date(1990, 1, 1)), MaxValueValidator(date(2200, 1, 1))]


@dataclass(frozen=True)
class Choice:
    """One value of a facet; `query` is the search with it, or without it where it is chosen already."""

    value: str
    label: str
    count: int
    chosen: bool
    query: str


@dataclass(frozen=True)
class Facet:
    name: str
    title: str
    choices: list[Choice]

    @property
    def first(self) -> list[Choice]:
        """What is shown at once; a chosen value is never hidden behind "more"."""
        return self.choices[:10] + [choice for choice in self.choices[10:] if choice.chosen]

    @property
    def more(self) -> list[Choice]:
        return [choice for choice in self.choices[10:] if not choice.chosen]


class DateInput(forms.DateInput):
    """The browser's own calendar, which wants ISO dates in every language."""

    input_type = "date"

    def __init__(self, attrs=None):
        super().__init__(attrs, format="%Y-%m-%d")


class PhotoSearch(forms.Form):
    """The filters of the list. Unknown values are ignored."""

    q = forms.CharField(required=False, max_length=100)
    breed = forms.SlugField(required=False)
    group = forms.ChoiceField(required=False, choices=BreedGroup.choices)
    decision = forms.ChoiceField(required=False, choices=Decision.choices)
    status = forms.ChoiceField(required=False, choices=Photo.Status.choices)
    source = forms.ChoiceField(required=False, choices=Photo.Source.choices)
    probability = forms.ChoiceField(required=False, choices=[(band, band) for band in BANDS])
    filed = forms.ChoiceField(required=False, choices=[("yes", _("with a record")), ("no", _("without a record"))])
    uploader = forms.IntegerField(required=False, min_value=1, max_value=2**31)
    since = forms.DateField(required=False, validators=DAYS, widget=DateInput())
    until = forms.DateField(required=False, validators=DAYS, widget=DateInput())
    sort = forms.ChoiceField(
        required=False,
        choices=[
            ("newest", _("newest first")),
            ("oldest", _("oldest first")),
            ("surest", _("highest probability first")),
            ("unsurest", _("lowest probability first")),
        ],
    )

    @cached_property
    def values(self) -> dict[str, str]:
        """Every filter as it stands in an address; empty where nothing is asked."""
        self.full_clean()
        return {name: str(self.cleaned_data.get(name) or "") for name in self.fields}

    @property
    def query(self) -> str:
        return self.query_with()

    def query_with(self, **changes: str) -> str:
        return urlencode({name: value for name, value in (self.values | changes).items() if value})

    @property
    def is_filtered(self) -> bool:
        return any(value for name, value in self.values.items() if name != "sort")

    @property
    def order(self) -> tuple[str, str]:
        return ORDERS[self.values["sort"] or "newest"]

    @cached_property
    def breeds(self) -> dict[int, Breed]:
        return Breed.objects.in_bulk()

    @cached_property
    def selected(self) -> dict[str, str | int]:
        """Facet in `COLUMNS` -> its selected value, as the column has it; 0 for an unknown breed."""
        selected = {name: self.values[name] for name in COLUMNS if self.values[name]}
        if "breed" in selected:
            keys = {breed.slug: breed.pk for breed in self.breeds.values()}
            selected["breed"] = keys.get(selected["breed"], 0)
        if "uploader" in selected:
            selected["uploader"] = int(selected["uploader"])
        return selected

    def photos(self) -> PhotoQuerySet:
        """All photos of the search, for exports."""
        photos = self._without_facets()
        for name, value in self.selected.items():
            photos = photos.of_breed(value) if name == "breed" else photos.filter(**{COLUMNS[name]: value})
        return photos

    def shown(self) -> PhotoQuerySet:
        """The same, in the form in which one page of it is found quickest.

        Where few photos match, walking the whole list in its order until 49 of them are met is slow (500 ms for none,
        by probability). They are then looked up first, from the index of the facets alone, and sorted afterwards.
        """
        photos = self.photos()
        if self.is_filtered and self.count <= FEW:
            return Photo.objects.filter(pk__in=list(photos.order_by().values_list("pk", flat=True)))
        if self.values["probability"]:
            low, high = BANDS[self.values["probability"]]
            photos = photos.filter(sureness__gte=low, sureness__lt=high)  # where to begin in the index of the order
        return photos

    def _without_facets(self) -> PhotoQuerySet:
        values, photos = self.values, Photo.objects.all()
        if values["q"]:
            photos = photos.search(values["q"], list(self.breeds.values()))
        if values["probability"]:
            low, high = BANDS[values["probability"]]
            photos = photos.filter(probability__gte=low, probability__lt=high)
        if values["filed"]:
            photos = photos.filter(animal__isnull=values["filed"] == "no")
        if day := self.cleaned_data.get("since"):
            photos = photos.filter(uploaded_at__gte=_midnight(day))
        if day := self.cleaned_data.get("until"):
            photos = photos.filter(uploaded_at__lt=_midnight(day + timedelta(days=1)))
        return photos

    @cached_property
    def _counted(self) -> tuple[int, dict[str, Counter]]:
        """(photos found, facet -> value -> how many photos it would find). One query.

        A value of one facet is counted under the choices in all the others, so that a choice can be changed.
        """
        at_least = {f"from_{band}": Count("pk", filter=Q(probability__gte=low)) for band, (low, _high) in BANDS.items()}
        cells = self._without_facets().order_by().values(*COLUMNS.values(), "second_breed_id")
        counts = {name: Counter() for name in [*COLUMNS, "probability", "filed"]}
        total = 0
        for cell in cells.annotate(photos=Count("*"), filed=Count("animal"), **at_least):
            mismatches = [name for name, value in self.selected.items() if value not in _values(cell, name)]
            if len(mismatches) > 1:
                continue  # changing one choice does not find these photos
            for name in mismatches or COLUMNS:
                for value in _values(cell, name):
                    counts[name][value] += cell["photos"]
            if not mismatches:
                total += cell["photos"]
                counts["filed"].update(yes=cell["filed"], no=cell["photos"] - cell["filed"])
                surer = 0
                for band in BANDS:  # the surest first
                    counts["probability"][band] += cell[f"from_{band}"] - surer
                    surer = cell[f"from_{band}"]
        return total, counts

    @property
    def count(self) -> int:
        return self._counted[0]

    def facets(self) -> list[Facet]:
        counts = self._counted[1]
        users = get_user_model().objects.in_bulk([pk for pk in counts["uploader"] if pk])
        people = {pk: person(user) for pk, user in users.items()}
        slugs = Counter({self.breeds[pk].slug: n for pk, n in counts["breed"].items() if pk})
        names = {breed.slug: breed.name for breed in self.breeds.values()}
        return [
            self._facet("decision", _("Answer"), counts["decision"], dict(Decision.choices)),
            self._facet("source", _("Verified"), counts["source"], SOURCES),
            self._facet("status", _("Status"), counts["status"], dict(Photo.Status.choices)),
            self._facet("probability", _("Probability"), counts["probability"], _band_names(), by_count=False),
            self._facet("group", _("Group"), counts["group"], dict(BreedGroup.choices)),
            self._facet("breed", _("Breed"), slugs, names),
            self._facet("filed", _("Dog"), counts["filed"], dict(self.fields["filed"].choices), by_count=False),
            self._facet("uploader", _("Sent by"), counts["uploader"], people),
        ]

    def _facet(self, name: str, title: str, counts: Counter, labels: dict, by_count: bool = True) -> Facet:
        values = [value for value, _count in counts.most_common()] if by_count else list(labels)
        if name != "uploader":  # the name of a person stays as it is
            labels = {value: capfirst(str(label)) for value, label in labels.items()}
        selected = self.values[name]
        if selected and selected not in map(str, values):
            values.append(selected)
        return Facet(
            name,
            title,
            [
                Choice(
                    value=str(value),
                    label=str(labels.get(value, value)),
                    count=counts[value],
                    chosen=str(value) == selected,
                    query=self.query_with(**{name: "" if str(value) == selected else str(value)}),
                )
                for value in values
                if value and (counts[value] or str(value) == selected)
            ],
        )


def _values(cell: dict, name: str) -> list:
    """The values of a facet under which these photos count: crosses under both breeds."""
    second = [cell["second_breed_id"]] if name == "breed" and cell["second_breed_id"] else []
    return [cell[COLUMNS[name]], *second]


SOURCES = {Photo.Source.HUMAN: _("verified by a person"), Photo.Source.MODEL: _("not verified yet")}


def _band_names() -> dict[str, str]:
    names = {}
    for band, (low, high) in BANDS.items():
        spread = {"low": percent(low, 0), "high": percent(min(high, 1.0), 0)}
        names[band] = (_("%(low)s and more") if high > 1 else _("%(low)s to %(high)s")) % spread
    return names


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
