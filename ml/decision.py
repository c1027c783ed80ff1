"""From calibrated probabilities to an answer one may act on. Pure: numbers in, a `Decision` out.

The levels, from the first that fits: `not_a_dog`, `breed` when that is sure, `group` when only that is sure,
`unsure`. Wild canids keep their probability but are never offered as the breed of a shelter's dog.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

# A threshold that no probability reaches.
NEVER = 1.1


class Level(StrEnum):
    NOT_A_DOG = "not_a_dog"
    BREED = "breed"
    GROUP = "group"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Label:
    """One class of the network. `group` is an FCI-style group; `wild` marks dingo, dhole and the like."""

    slug: str
    group: str
    wild: bool = False


@dataclass(frozen=True)
class Thresholds:
    """`energy`: least log-sum-exp of the logits (nats) that still is a dog; `breed`, `group`: least probability."""

    energy: float
    breed: float
    group: float


@dataclass(frozen=True)
class Candidate:
    label: str
    probability: float


@dataclass(frozen=True)
class Decision:
    """`label` and `group` are empty where the level does not name one; `probability` belongs to what it names.

    For `unsure` and `not_a_dog` it is that of the first candidate. `candidates`: best first, without wild canids.
    """

    decision: Level
    label: str
    group: str
    probability: float
    candidates: tuple[Candidate, ...]


def energy_of(logits: np.ndarray) -> np.ndarray:
    """(N, C) logits -> (N,) log-sum-exp, the negative free energy of Liu et al. (2020): low for what is no dog."""
    highest = logits.max(axis=-1)
    return highest + np.log(np.exp(logits - highest[..., None]).sum(axis=-1))


def group_probabilities(probs: np.ndarray, labels: Sequence[Label]) -> dict[str, float]:
    """(C,) probabilities -> the summed probability of every group that can be offered."""
    sums: dict[str, float] = defaultdict(float)
    for label, probability in zip(labels, probs, strict=True):
        if not label.wild:
            sums[label.group] += float(probability)
    return dict(sums)


def decide(
    probs: np.ndarray, energy: float, labels: Sequence[Label], thresholds: Thresholds, top_k: int = 5
) -> Decision:
    """One photo's (C,) calibrated probabilities and the energy of its logits -> its decision.

    Raises `ValueError` where the probabilities are not one distribution over `labels`.
    """
    probs = np.asarray(probs, np.float64)
    if probs.shape != (len(labels),) or not (probs >= 0).all() or not abs(probs.sum() - 1) <= 1e-3:
        raise ValueError(f"Expected {len(labels)} probabilities that sum to 1. Received: shape {probs.shape}, {probs}.")
    offered = [i for i in np.argsort(-probs, kind="stable") if not labels[i].wild]
    candidates = tuple(Candidate(labels[i].slug, float(probs[i])) for i in offered[:top_k])
    best = labels[offered[0]]
    groups = group_probabilities(probs, labels)
    group = max(groups, key=groups.__getitem__)
    if energy < thresholds.energy:
        return Decision(Level.NOT_A_DOG, "", "", candidates[0].probability, candidates)
    if candidates[0].probability >= thresholds.breed:
        return Decision(Level.BREED, best.slug, best.group, candidates[0].probability, candidates)
    if groups[group] >= thresholds.group:
        return Decision(Level.GROUP, "", group, groups[group], candidates)
    return Decision(Level.UNSURE, "", "", candidates[0].probability, candidates)


def choose_thresholds(
    probs: np.ndarray,
    energy: np.ndarray,
    label_index: np.ndarray,
    labels: Sequence[Label],
    *,
    breed_precision: float = 0.95,
    group_precision: float = 0.95,
    dogs_accepted: float = 0.99,
) -> Thresholds:
    """Choose on held-out dogs, (N, C) probs, (N,) energy, (N,) label_index: the lowest thresholds that keep precision.

    Groups are judged on the photos that are left when the breed is not sure.
    """
    offered = np.where([label.wild for label in labels], 0.0, probs)
    confidence = offered.max(axis=1)
    breed = _lowest_threshold(confidence, offered.argmax(axis=1) == label_index, breed_precision)
    left = confidence < breed
    best, right = [], []
    for row, truth in zip(probs[left], label_index[left], strict=True):
        groups = group_probabilities(row, labels)
        name = max(groups, key=groups.__getitem__)
        best.append(groups[name])
        right.append(name == labels[truth].group)
    group = _lowest_threshold(np.array(best), np.array(right, bool), group_precision)
    return Thresholds(float(np.quantile(energy, 1 - dogs_accepted)), breed, group)


def _lowest_threshold(scores: np.ndarray, correct: np.ndarray, precision: float) -> float:
    """The lowest score from which on the share of correct answers is at least `precision`; else `NEVER`."""
    order = np.argsort(-scores, kind="stable")
    scores, running = scores[order], np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    ends_a_tie = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # equal scores are accepted together
    enough = np.flatnonzero((running >= precision) & ends_a_tie)
    return float(scores[enough[-1]]) if len(enough) else NEVER
