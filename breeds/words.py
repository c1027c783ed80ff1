"""Answers as people say them, in the active language.

The model only ever says "looks like"; "is" is said once a person has.
"""

import unicodedata

from django.utils.formats import number_format
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from breeds.models import Breed, BreedGroup, Decision, Prediction, Review


def percent(probability: float) -> str:
    """0.6158 -> « 61,6 % » in French, "61.6%" in English."""
    figure = number_format(round(probability * 100, 1), 1)  # number_format alone cuts instead of rounding
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
    """What a person said, in one line for lists."""
    named = {
        "breed": breed.name if breed else "",
        "second": second_breed.name if second_breed else "",
        "group": BreedGroup(group).label if group else "",
    }
    if decision == Decision.CROSS:
        return _("Cross of %(breed)s and %(second)s, confirmed") % named
    if decision == Decision.BREED:
        return _("%(breed)s, confirmed") % named
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
        "person": review.by.get_full_name() or review.by.get_username(),
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


def fold(text) -> str:
    """Lower case, without accents and punctuation: what a search compares."""
    decomposed = unicodedata.normalize("NFKD", str(text).lower())
    kept = "".join(c if c.isalnum() else " " for c in decomposed if not unicodedata.combining(c))
    return " ".join(kept.split())


def matches(breed: Breed, text: str) -> bool:
    return any(fold(text) in fold(name) for name in (breed.slug, breed.name_fr, breed.name_en, *breed.synonyms))
