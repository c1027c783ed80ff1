"""Answers as people say them, in the active language. The model only ever says "looks like"."""

import unicodedata
from functools import cache, lru_cache

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from breeds.models import Breed, BreedGroup, Decision

LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss"})


def percent(probability: float, digits: int = 1) -> str:
    """0.6158 -> « 61,6 % » in French, "61.6%" in English."""
    figure = number_format(round(probability * 100, digits), digits)  # number_format alone cuts instead of rounding
    return f"{figure}\u00a0%" if (get_language() or "fr").startswith("fr") else f"{figure}%"


def sentence(decision: str, breed: Breed | None, group: str, probability: float | None, *, by_person=False) -> str:
    share = percent(probability) if probability is not None else ""
    if decision == Decision.BREED and breed:
        if by_person:
            return _("%(breed)s, confirmed") % {"breed": breed.name}
        named = {"breed": breed.name, "share": share}
        if breed.name_en[0].lower() in "aeiou":
            return _("Looks like an %(breed)s (%(share)s)") % named
        return _("Looks like a %(breed)s (%(share)s)") % named
    if decision == Decision.GROUP and group:
        return _("Looks like a dog of the group “%(group)s” (%(share)s)") % {
            "group": BreedGroup(group).label,
            "share": share,
        }
    if decision == Decision.NOT_A_DOG:
        return _("No dog recognised in this photo")
    return _("I cannot tell this breed")


@lru_cache(maxsize=20_000)
def fold(text) -> str:
    """Lower case, without accents and punctuation: what a search compares."""
    decomposed = unicodedata.normalize("NFKD", str(text).lower().translate(LIGATURES))
    kept = "".join(c if c.isalnum() else " " for c in decomposed if not unicodedata.combining(c))
    return " ".join(kept.split())


def matches(breed: Breed, text: str) -> bool:
    return any(fold(text) in fold(name) for name in (breed.slug, breed.name_fr, breed.name_en, *breed.synonyms))


def group_matches(group: BreedGroup, text: str) -> bool:
    """By its French or its English name, whatever language the page speaks."""
    return any(fold(text) in fold(name) for name in group_names(group))


@cache
def group_names(group: BreedGroup) -> tuple[str, ...]:
    names = []
    for language, _name in settings.LANGUAGES:
        with override(language):
            names.append(str(group.label))
    return tuple(names)
