"""What pages say of a photo: the newest answer of the classifier and what a person said of it, in words and bars."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import prefetch_related_objects

from breeds import words
from breeds.models import Breed, Prediction, standing_reviews_prefetch
from shelter.intake.refusals import refusal

SHOWN_CANDIDATES = 3
LEAST_SHOWN = 0.05  # a candidate below this probability gets no bar, unless it is the first


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
    candidates: list[AnswerCandidate] = field(default_factory=list)
    model: str = ""
    version: str = ""
    finished_at: datetime | None = None
    error: str = ""
    why: list[str] = field(default_factory=list)


def answers_of(photos: Iterable) -> dict[int, Answer]:
    """Key of a photo -> its answer. At most four queries, however many photos."""
    photos = list(photos)
    newest = Prediction.objects.without_vectors().select_related("version").newest_of(photos)
    prefetch_related_objects(photos, standing_reviews_prefetch())
    slugs = {one["label"] for prediction in newest.values() for one in shown_candidates(prediction.candidates)}
    breeds = Breed.objects.in_bulk(slugs, field_name="slug") if slugs else {}
    return {photo.pk: _answer_of(photo, newest.get(photo.pk), breeds) for photo in photos}


def shown_candidates(candidates: list[dict]) -> list[dict]:
    """The candidates that get a bar: the first, and at most two others with 5 % or more."""
    return candidates[:1] + [one for one in candidates[1:SHOWN_CANDIDATES] if one["probability"] >= LEAST_SHOWN]


def _answer_of(photo, prediction: Prediction | None, breeds: dict[str, Breed]) -> Answer:
    said = words.verdict(photo.standing_review) if photo.by_person and photo.standing_review else photo.words
    if prediction is None:
        return Answer(said)
    version = prediction.version
    return Answer(
        words=said,
        candidates=[
            AnswerCandidate(str(breeds.get(one["label"], one["label"])), one["probability"])
            for one in shown_candidates(prediction.candidates)
        ],
        model=version.name if version else "",
        version=version.version if version else "",
        finished_at=prediction.finished_at,
        error=refusal(prediction.error_code, photo.original_name) if photo.status == photo.Status.FAILED else "",
        why=words.why(prediction.reasons),
    )
