"""Answers as people say them, in the active language. The model only ever says "looks like"."""

import unicodedata
from functools import cache, lru_cache

from django.utils.formats import number_format
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from breeds.catalogue import read_catalogue
from breeds.models import Breed, BreedGroup, Decision

LANGUAGES = ("fr", "en")
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


def name_of(label: str) -> str:
    """The name of a label in the active language, without a query."""
    entry = read_catalogue().get(label)
    if entry is None:
        return label.replace("_", " ")
    return entry.name_fr if (get_language() or "fr").startswith("fr") else entry.name_en


def why(reasons: list[dict]) -> list[str]:
    """A sentence or two for each reason of `ml.decision.Reason`, as stored in a prediction."""
    return [_because(reason) for reason in reasons]


def _because(reason: dict) -> str:
    code, names, threshold = reason["code"], reason["names"], reason["threshold"]
    if code == "no_dog":
        return _("Nothing in this photo looks like a dog.")
    facts = {
        "share": percent(reason["value"]),
        "threshold": percent(threshold) if threshold is not None else "",
        "runner_up": percent(reason["runner_up"]) if reason["runner_up"] is not None else "",
    }
    if code in ("group_sure", "group_not_sure"):
        facts["group"] = BreedGroup(names[0]).label if names[0] in BreedGroup.values else names[0]
    else:
        facts |= {"breed": name_of(names[0]), "other": name_of(names[-1])}
    sentences = {
        "breed_sure": _("“%(breed)s” reaches %(share)s."),
        "breeds_close": _("The first two breeds are too close: “%(breed)s” %(share)s, “%(other)s” %(runner_up)s."),
        "breed_not_sure": _("No breed stands out: the closest, “%(breed)s”, reaches %(share)s only."),
        "group_sure": _("The breeds of the group “%(group)s” together reach %(share)s."),
        "group_not_sure": _("No group stands out either: the closest, “%(group)s”, reaches %(share)s only."),
        "wild_canid_masked": _(
            "A wild canid (%(breed)s) seemed likelier: %(share)s. Flair never offers one for a shelter's dog."
        ),
    }
    return f"{sentences[code] % facts} {_least(code, threshold, facts)}".strip()


def _least(code: str, threshold: float | None, facts: dict) -> str:
    """What it takes to be named, as a sentence of its own."""
    if threshold is None:
        return ""
    if code in ("group_sure", "group_not_sure"):
        if threshold > 1:
            return _("This classifier names no group on its own.")
        return _("Flair names a group from %(threshold)s.") % facts
    if threshold > 1:
        return _("This classifier names no breed on its own.")
    return _("Flair names a breed from %(threshold)s.") % facts


def in_languages(say) -> dict[str, str]:
    """{"fr": …, "en": …}: what `say()` gives in each language."""
    said = {}
    for language in LANGUAGES:
        with override(language):
            said[language] = say()
    return said


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
    return tuple(in_languages(lambda: str(group.label)).values())
