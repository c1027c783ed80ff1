"""Answers as people say them, in the active language.

The model only ever says "looks like"; "is" is said once a person has.
"""

import unicodedata
from functools import cache, lru_cache

from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from breeds.catalogue import read_catalogue
from breeds.models import Breed, BreedGroup, Decision, Prediction, Review

LANGUAGES = ("fr", "en")
LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss"})


def percent(probability: float, digits: int = 1) -> str:
    """0.6158 -> « 61,6 % » in French, "61.6%" in English; 0.9998 -> "99.9%", since it is not certain.

    Without `digits`, as for shares of many photos, it is rounded as usual.
    """
    rounded = round(probability * 100, digits)  # number_format alone cuts instead of rounding
    if digits and probability < 1:
        rounded = min(rounded, 100 - 10**-digits)
    figure = number_format(rounded, digits)
    return f"{figure}\u00a0%" if (get_language() or "fr").startswith("fr") else f"{figure}%"


def sentence(decision: str, breed: Breed | None, group: str, probability: float | None) -> str:
    """What the model says."""
    share = percent(probability) if probability is not None else ""
    if decision == Decision.BREED and breed:
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


def decided(decision: str, breed: Breed | None, second_breed: Breed | None, group: str) -> str:
    """What a person said, in one line for lists, which begins with a capital letter."""
    named = {
        "breed": breed.name if breed else "",
        "second": second_breed.name if second_breed else "",
        "group": BreedGroup(group).label if group else "",
    }
    if decision == Decision.CROSS:
        return _("Cross of %(breed)s and %(second)s, confirmed") % named
    if decision == Decision.BREED:
        return capfirst(_("%(breed)s, confirmed") % named)
    if decision == Decision.GROUP:
        return _("Group “%(group)s”, confirmed") % named
    if decision == Decision.NOT_A_DOG:
        return _("Not a dog, confirmed")
    return _("Breed cannot be told, says a person")


def confirmable(prediction: Prediction) -> str:
    """What somebody says who confirms this answer, for the button; empty where it names nothing."""
    breed = Breed.objects.filter(slug=prediction.label).first() if prediction.label else None
    if breed and breed.name_en[0].lower() in "aeiou":
        return _("Yes, it is an %(breed)s") % {"breed": breed.name}
    if breed:
        return _("Yes, it is a %(breed)s") % {"breed": breed.name}
    if prediction.decision == Decision.GROUP:
        return _("Yes, it is of the group “%(group)s”") % {"group": BreedGroup(prediction.group).label}
    return ""


def verdict(review: Review) -> str:
    """What a person said, and who."""
    said = {
        "breed": review.breed.name if review.breed else "",
        "second": review.second_breed.name if review.second_breed else "",
        "group": BreedGroup(review.group).label if review.group else "",
        "person": person(review.by),
    }
    if review.decision == Decision.CROSS:
        return _("It is a cross of %(breed)s and %(second)s (confirmed by %(person)s)") % said
    if review.decision == Decision.BREED and review.breed.name_en[0].lower() in "aeiou":
        return _("It is an %(breed)s (confirmed by %(person)s)") % said
    if review.decision == Decision.BREED:
        return _("It is a %(breed)s (confirmed by %(person)s)") % said
    if review.decision == Decision.GROUP:
        return _("It is a dog of the group “%(group)s” (confirmed by %(person)s)") % said
    if review.decision == Decision.NOT_A_DOG:
        return _("There is no dog in this photo (confirmed by %(person)s)") % said
    return _("The breed cannot be told (looked at by %(person)s)") % said


def person(user) -> str:
    """The name under which pages and tables show a user: the full name, or else the login."""
    return (user.get_full_name() or user.get_username()) if user else ""


def name_of(label: str) -> str:
    """The name of a label in the active language, without a query."""
    entry = read_catalogue().get(label)
    if entry is None:
        return label.replace("_", " ")
    return entry.name_fr if (get_language() or "fr").startswith("fr") else entry.name_en


def looks_like(decision: str, label: str, group: str, probability: float | None) -> str:
    """`sentence` of an answer as rows hold it, without a query."""
    entry = read_catalogue().get(label)
    names = (entry.name_fr, entry.name_en) if entry else (label.replace("_", " "),) * 2
    breed = Breed(slug=label, name_fr=names[0], name_en=names[1]) if label else None
    return sentence(decision, breed, group, probability)


def why(reasons: list[dict]) -> list[str]:
    """A sentence or two for each reason of `ml.serving.decision.Reason`, as stored in a prediction."""
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
        "breeds_close": _("“%(breed)s” is the likeliest (%(share)s), “%(other)s” comes next (%(runner_up)s)."),
        "unfamiliar": _("“%(breed)s” comes closest, but this dog may be of a breed that Flair does not know."),
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
    if threshold is None or code == "unfamiliar":
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
