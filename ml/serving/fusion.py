"""From several photos of one dog to one decision, and to the photo that seems to show another dog. Pure.

**One decision.** The calibrated probabilities are averaged as logarithms and normalised again (the geometric mean, or
logarithmic opinion pool; Genest and Zidek, 1986, "Combining probability distributions"; for classifiers Kittler et al.,
1998, "On combining classifiers"). A breed must then be possible in every photo, while the arithmetic mean keeps what a
single photo claims. The other end, the product of all probabilities, would be right for independent photos; photos of
one dog are not, they share its haircut and its yard, and the product would be too sure. The mean errs on the careful
side, so that the thresholds chosen for single photos keep more than their precision; `docs/results.md` has the figures.

**Another dog?** Two photos show the same breed or they do not. With P(breed | photo) from each and all breeds equally
likely beforehand, the evidence for "the same" over "any two" is the sum over breeds of p q / (1/C) (a Bayes factor;
Kass and Raftery, 1995). Its logarithm is 0 where a photo says nothing, up to log C where both are sure of one breed,
and far below 0 where they are sure of different ones. A photo is held against all others fused. It can tell breeds
apart, never two dogs of one breed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml.serving.decision import Decision, Label, Thresholds, decide

# Below this a probability is taken for this: a photo may not forbid a breed for ever. Close to the least float16.
LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Fusion:
    """The decision on one dog from (N,) photos.

    `used`: positions of the photos that went in; the others show no dog. Where none shows a dog, all went in, and the
    decision is `not_a_dog`. `agreements`: of each used photo with the others, in nats, 0 for a photo alone.
    `odd`: positions of the photos that seem to show another dog: the one that agrees least, or both of two.
    """

    decision: Decision
    used: tuple[int, ...]
    agreements: tuple[float, ...]
    odd: tuple[int, ...]


def fuse(
    probs: np.ndarray,
    energy: np.ndarray,
    labels: Sequence[Label],
    thresholds: Thresholds,
    top_k: int = 5,
    familiarity: np.ndarray | None = None,
) -> Fusion:
    """(N, C) calibrated probabilities and the (N,) energies of N >= 1 photos of one dog -> their one decision.

    Of their (N,) `familiarity`, the mean counts: that one photo in three resembles no breed is nothing unusual.
    Raises `ValueError` where the probabilities are not N distributions over `labels`.
    """
    probs, energy = np.asarray(probs, np.float64), np.asarray(energy, np.float64)
    if probs.ndim != 2 or probs.shape[1] != len(labels) or energy.shape != probs.shape[:1] or not len(probs):
        raise ValueError(
            f"Expected N rows of {len(labels)} probabilities and N energies. Received: {probs.shape}, {energy.shape}."
        )
    if not (probs >= 0).all() or not (np.abs(probs.sum(axis=1) - 1) <= 1e-3).all():
        raise ValueError(f"Expected probabilities that sum to 1. Received: sums {probs.sum(axis=1)}.")
    dogs = np.flatnonzero(energy >= thresholds.energy)
    used = dogs if len(dogs) else np.arange(len(probs))
    known = None if familiarity is None else float(np.asarray(familiarity)[used].mean())
    decision = decide(fuse_probabilities(probs[used]), float(energy[used].max()), labels, thresholds, top_k, known)
    agreements = agreement(probs[used])
    odd: np.ndarray = np.array([], int)
    if len(dogs) > 1 and agreements.min() < thresholds.agreement:
        odd = used if len(used) == 2 else used[[agreements.argmin()]]
    return Fusion(decision, *(tuple(values.tolist()) for values in (used, agreements, odd)))


def fuse_probabilities(probs: np.ndarray) -> np.ndarray:
    """(N, C) probabilities of N photos -> (C,), the normalised geometric mean. One photo comes out as it went in."""
    if len(probs) == 1:
        return probs[0]
    return _normalised(_logarithms(probs).mean(axis=0))


def agreement(probs: np.ndarray) -> np.ndarray:
    """(N, C) probabilities -> (N,) log Bayes factors (nats): does each photo show the breed that the others show?

    0 for a photo alone.
    """
    number, num_classes = probs.shape
    if number == 1:
        return np.zeros(1)
    logarithms = _logarithms(probs)
    others = (logarithms.sum(axis=0) - logarithms) / (number - 1)
    same = (_normalised(logarithms) * _normalised(others)).sum(axis=1)
    return np.log(num_classes * same)


def choose_agreement(
    probs: np.ndarray, label_index: np.ndarray, *, false_warnings: float = 0.02, groups: int = 3000, seed: int = 0
) -> float:
    """The highest threshold that warns of at most this share of dogs, on (N, C) probabilities of held-out photos.

    Draws `groups` groups of two, of three and of four photos of one breed each. At most 0: nobody is warned of a photo
    that speaks for the same breed. Where no breed has two photos it is the default of `Thresholds`.
    """
    rng, least = np.random.default_rng(seed), []
    for size in (2, 3, 4):
        for members in draw_groups(label_index, size, groups, rng):
            least.append(agreement(probs[members]).min())
    return min(0.0, float(np.quantile(least, false_warnings, method="lower"))) if least else Thresholds.agreement


def draw_groups(label_index: np.ndarray, size: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """(groups, size) positions: different photos of one breed, the breeds equally often; none where none has enough."""
    by_label = [np.flatnonzero(label_index == label) for label in np.unique(label_index)]
    enough = [positions for positions in by_label if len(positions) >= size]
    if not enough:
        return np.empty((0, size), int)
    return np.stack([rng.choice(enough[i], size, replace=False) for i in rng.integers(len(enough), size=groups)])


def _logarithms(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probs, LEAST_PROBABILITY))


def _normalised(logarithms: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logarithms - logarithms.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
