"""One answer for one animal, from the answers to its photos."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from django.utils.translation import gettext as _

from breeds import classifier as classifiers
from breeds import words
from breeds.models import Breed, ClassifierVersion, Prediction, unpack_floats


@dataclass(frozen=True)
class FusedAnswer:
    """What one version says of all photos of an animal; the fields up to `reasons` are those of a `Prediction`.

    `photos`: the ids of those that were fused. `left_out`: of those in which it saw no dog. `odd`: of those that seem
    to show another dog: one, or both of two.
    """

    decision: str
    label: str
    group: str
    probability: float
    candidates: list[dict]
    reasons: list[dict]
    version: ClassifierVersion
    photos: tuple[int, ...]
    left_out: tuple[int, ...]
    odd: tuple[int, ...]

    @cached_property
    def words(self) -> str:
        breed = Breed.objects.filter(slug=self.label).first() if self.label else None
        return words.sentence(self.decision, breed, self.group, self.probability)

    @property
    def why(self) -> list[str]:
        return words.why(self.reasons)

    @property
    def warning(self) -> str:
        """Empty, or the question whether a photo shows another dog."""
        if not self.odd:
            return ""
        if len(self.odd) == len(self.photos):
            return _("Another dog? These two photos do not seem to show the same breed.")
        return _("Another dog? One photo does not seem to show the same breed as the others.")


def fuse_answers(predictions: Iterable[Prediction]) -> FusedAnswer | None:
    """Fuse the newest answer to each photo by the version that answered most of them (of equals, the newest).

    `predictions`: those of one animal's photos, `with_vectors`, of any versions. None where there are none.
    """
    by_version: dict[ClassifierVersion, dict[int, Prediction]] = defaultdict(dict)
    for prediction in sorted(predictions, key=lambda prediction: prediction.pk):
        if prediction.version.thresholds:  # a version registered before Flair kept them cannot decide anew
            by_version[prediction.version][prediction.photo_id] = prediction
    if not by_version:
        return None
    version = max(by_version, key=lambda version: (len(by_version[version]), version.pk))
    photos, answers = list(by_version[version]), list(by_version[version].values())
    probs = np.stack([unpack_floats(answer.probs) for answer in answers]).astype(float)
    found = classifiers.fuse(
        probs / probs.sum(axis=1, keepdims=True), np.array([answer.energy for answer in answers]), version
    )
    decision = found.decision
    return FusedAnswer(
        decision=str(decision.decision),
        label=decision.label,
        group=decision.group,
        probability=decision.probability,
        candidates=[asdict(candidate) for candidate in decision.candidates],
        reasons=[asdict(reason) for reason in decision.reasons],
        version=version,
        photos=tuple(photos[i] for i in found.used),
        left_out=tuple(photo for i, photo in enumerate(photos) if i not in found.used),
        odd=tuple(photos[i] for i in found.odd),
    )
