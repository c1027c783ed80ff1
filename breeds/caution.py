"""When a reviewer should think of the French law on dogs of categories 1 and 2.

A classifier decides nothing here: the law looks at morphology and pedigree, and a vet's assessment decides. So it is
worked out for one page at a time, and is stored, exported and searched nowhere.
"""

from collections.abc import Iterable

from django.conf import settings

from breeds.models import Decision, Prediction, unpack_floats

# The types named by the order of 27 April 1999 (Staffordshire and American Staffordshire terrier with the so-called pit
# bulls, mastiff with the so-called boerbulls, tosa, rottweiler), as far as the catalogue has a name for them.
CONCERNED = frozenset({
    "american_staffordshire_terrier", "american_pit_bull_terrier", "boerboel", "bull_mastiff", "english_mastiff",
    "rottweiler", "tosa",
})  # fmt: skip
FROM_PROBABILITY = 0.05  # of all of them together


def may_see_cautions(user) -> bool:
    """Reviewers alone, where the shelter wants cautions at all."""
    return settings.LEGAL_CAUTION and user.has_perm("breeds.use_review_queue")


def is_called_for(photos: Iterable) -> bool:
    """Do the breeds concerned together pass the threshold in one of these photos, or did a person name one? One query.

    Photos in which a person saw no dog are left out.
    """
    if not settings.LEGAL_CAUTION:
        return False
    photos = [photo for photo in photos if not (photo.by_person and photo.decision == Decision.NOT_A_DOG)]
    if any(photo.by_person and _names_one(photo) for photo in photos):
        return True
    answers = Prediction.objects.answers().select_related("version")
    answers = answers.only("photo", "decision", "candidates", "probs", "version__labels")
    newest = answers.newest_of(photos).values()
    return any(summed_probability(answer) >= FROM_PROBABILITY for answer in newest)


def _names_one(photo) -> bool:
    return any(breed and breed.slug in CONCERNED for breed in (photo.breed, photo.second_breed))


def summed_probability(answer: Prediction) -> float:
    """Of all breeds concerned, in [0, 1]; of an answer whose probabilities were not kept, of its candidates."""
    if answer.decision == Decision.NOT_A_DOG:
        return 0.0
    labels = answer.version.labels
    if answer.probs is None or len(answer.probs) != 2 * len(labels):
        return sum(one["probability"] for one in answer.candidates if one["label"] in CONCERNED)
    shares = zip(labels, unpack_floats(answer.probs), strict=True)
    return float(sum(float(share) for label, share in shares if label in CONCERNED))
