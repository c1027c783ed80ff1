"""From calibrated probabilities to an answer one may act on. Pure: numbers in, a `Decision` out.

The levels, from the first that fits: `not_a_dog`, `breed` when that is sure, `group` when only that is sure,
`unsure`. Each decision says why: which value was held against which threshold.

Wild canids are masked: never offered as the breed or group of a shelter's dog. Their probability stays with them and
is not shared out among the others, so that it counts as doubt: a photo that is 90 % dingo has at most 10 % left for
any breed. Dividing by what remains would turn "this is no dog of a shelter" into the certainty of whichever breed came
second. And nothing is named that is less likely than all wild canids together, however low a threshold is.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

# A threshold that no probability reaches.
NEVER = 1.1
# Asked of val, to have 95 % on other photos: the lowest threshold that suits some photos suits others a little less.
PRECISION = 0.9625
# The share of val's dogs that get a breed, to have 75 % of other photos'. What a classifier could name beyond it is
# given for turning down dogs of breeds that it does not know.
NAMED = 0.77


class Level(StrEnum):
    NOT_A_DOG = "not_a_dog"
    BREED = "breed"
    GROUP = "group"
    UNSURE = "unsure"


class Because(StrEnum):
    """The codes of reasons. Stable: they are stored, and answered by the API."""

    NO_DOG = "no_dog"
    BREED_SURE = "breed_sure"
    BREEDS_CLOSE = "breeds_close"
    BREED_NOT_SURE = "breed_not_sure"
    UNFAMILIAR = "unfamiliar"
    GROUP_SURE = "group_sure"
    GROUP_NOT_SURE = "group_not_sure"
    WILD_CANID_MASKED = "wild_canid_masked"


@dataclass(frozen=True)
class Label:
    """One class of the network. `group` is an FCI-style group; `wild` marks dingo, dhole and the like."""

    slug: str
    group: str
    wild: bool = False


@dataclass(frozen=True)
class Thresholds:
    """`energy`: least energy (nats) that still is a dog; `breed`, `group`: least probability.

    `distance`: nats that each unit of the features' distance to the nearest breed (`ml.serving.familiarity`) takes off
    the log-sum-exp of the logits to give that energy.
    `familiarity`: least `ml.serving.familiarity` of a photo that a breed is named for.
    `agreement`: least `ml.serving.fusion.agreement` (nats) of a photo with the other photos of the same dog. The
    default is what val gave for the first bundled classifier; a checkpoint made since brings its own.
    """

    energy: float
    breed: float
    group: float
    agreement: float = -0.34
    familiarity: float | None = None
    distance: float = 0.0


@dataclass(frozen=True)
class Candidate:
    label: str
    probability: float


@dataclass(frozen=True)
class Reason:
    """One comparison that led to a decision.

    | code | `value` | `threshold` | `names` | `runner_up` |
    |---|---|---|---|---|
    | `no_dog` | energy of the photo | least energy of a dog | | |
    | `breed_sure` | probability of the best breed | for a breed | that breed | that of the next breed |
    | `breeds_close` | the same, too low; with the next breed's it would do | for a breed | both | that of the next |
    | `breed_not_sure` | the same, too low even with the next breed's | for a breed | that breed | that of the next |
    | `unfamiliar` | familiarity of the photo, too low for a breed however sure | for a breed | the best breed | |
    | `group_sure`, `group_not_sure` | probability of the best group | for a group | that group | |
    | `wild_canid_masked` | probability of all wild canids together | | the likeliest of them | |

    `threshold` is that of the checkpoint, or the probability of all wild canids together where that is higher. One
    above 1 is never reached: val gave none that keeps the promised precision.
    """

    code: Because
    value: float
    threshold: float | None = None
    names: tuple[str, ...] = ()
    runner_up: float | None = None


@dataclass(frozen=True)
class Decision:
    """`label` and `group` are empty where the level does not name one; `probability` belongs to what it names.

    For `unsure` and `not_a_dog` it is that of the first candidate. `candidates`: best first, without wild canids.
    `reasons`: in the order of the comparisons.
    """

    decision: Level
    label: str
    group: str
    probability: float
    candidates: tuple[Candidate, ...]
    reasons: tuple[Reason, ...] = ()


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
    probs: np.ndarray,
    energy: float,
    labels: Sequence[Label],
    thresholds: Thresholds,
    top_k: int = 5,
    familiarity: float | None = None,
) -> Decision:
    """One photo's (C,) calibrated probabilities and its energy -> its decision.

    With its `familiarity`, no breed is named for a photo that resembles none of them enough. Raises `ValueError` where
    the probabilities are not one distribution over `labels`.
    """
    probs = np.asarray(probs, np.float64)
    if probs.shape != (len(labels),) or not (probs >= 0).all() or not abs(probs.sum() - 1) <= 1e-3:
        raise ValueError(f"Expected {len(labels)} probabilities that sum to 1. Received: shape {probs.shape}, {probs}.")
    offered = [i for i in np.argsort(-probs, kind="stable") if not labels[i].wild]
    candidates = tuple(Candidate(labels[i].slug, float(probs[i])) for i in offered[:top_k])
    best, probability = labels[offered[0]], float(probs[offered[0]])
    if energy < thresholds.energy:
        no_dog = Reason(Because.NO_DOG, float(energy), thresholds.energy)
        return Decision(Level.NOT_A_DOG, "", "", probability, candidates, (no_dog,))
    masked = float(probs[_wild(labels)].sum())
    least = max(thresholds.breed, masked)
    reasons: tuple[Reason, ...] = (
        _why_breed([Candidate(labels[i].slug, float(probs[i])) for i in offered[:2]], least),
    )
    least_familiar = thresholds.familiarity
    if probability >= least and least_familiar is not None and familiarity is not None and familiarity < least_familiar:
        reasons = (Reason(Because.UNFAMILIAR, float(familiarity), least_familiar, (best.slug,)),)
    elif probability >= least:
        return Decision(Level.BREED, best.slug, best.group, probability, candidates, reasons)
    groups = group_probabilities(probs, labels)
    group = max(groups, key=groups.__getitem__)
    least = max(thresholds.group, masked)
    code = Because.GROUP_SURE if groups[group] >= least else Because.GROUP_NOT_SURE
    reasons += (Reason(code, groups[group], least, (group,)),)
    if masked > probability:
        likeliest = max(_wild(labels), key=probs.__getitem__)
        reasons += (Reason(Because.WILD_CANID_MASKED, masked, names=(labels[likeliest].slug,)),)
    if code == Because.GROUP_SURE:
        return Decision(Level.GROUP, "", group, groups[group], candidates, reasons)
    return Decision(Level.UNSURE, "", "", probability, candidates, reasons)


def _why_breed(best: list[Candidate], threshold: float) -> Reason:
    """The best breed, held against the threshold; `best` is that breed and, where there is one, the next."""
    names, runner_up = tuple(c.label for c in best), best[1].probability if len(best) > 1 else None
    value = best[0].probability
    if value >= threshold:
        return Reason(Because.BREED_SURE, value, threshold, names[:1], runner_up)
    if runner_up is not None and value + runner_up >= threshold:
        return Reason(Because.BREEDS_CLOSE, value, threshold, names, runner_up)
    return Reason(Because.BREED_NOT_SURE, value, threshold, names[:1], runner_up)


def _wild(labels: Sequence[Label]) -> list[int]:
    return [index for index, label in enumerate(labels) if label.wild]


def choose_thresholds(
    probs: np.ndarray,
    energy: np.ndarray,
    label_index: np.ndarray,
    labels: Sequence[Label],
    *,
    breed_precision: float = PRECISION,
    group_precision: float = PRECISION,
    dogs_accepted: float = 0.99,
    familiarity: np.ndarray | None = None,
) -> Thresholds:
    """Choose on held-out dogs, (N, C) probs, (N,) energy, (N,) label_index: the lowest thresholds that keep precision.

    With their (N,) `familiarity`, the least one for a breed, too (`choose_breed`). Groups are judged on the photos that
    are left when the breed is not sure.
    """
    offered, masked = np.where([label.wild for label in labels], 0.0, probs), probs[:, _wild(labels)].sum(axis=1)
    confidence, right = offered.max(axis=1), offered.argmax(axis=1) == label_index
    may = confidence >= masked  # `decide` names nothing that is less likely than the wild canids
    if familiarity is None or not may.any():
        breed, known = lowest_threshold(confidence[may], right[may], breed_precision), None
    else:
        named = NAMED / may.mean()
        breed, known = choose_breed(confidence[may], right[may], familiarity[may], breed_precision, named)
        may &= familiarity >= known
    left = ~may | (confidence < breed)
    best, right = [], []
    for row, truth, least in zip(probs[left], label_index[left], masked[left], strict=True):
        groups = group_probabilities(row, labels)
        name = max(groups, key=groups.__getitem__)
        if groups[name] >= least:
            best.append(groups[name])
            right.append(name == labels[truth].group)
    group = lowest_threshold(np.array(best), np.array(right, bool), group_precision)
    return Thresholds(float(np.quantile(energy, 1 - dogs_accepted)), breed, group, familiarity=known)


def choose_breed(
    confidence: np.ndarray,
    right: np.ndarray,
    familiarity: np.ndarray,
    precision: float = PRECISION,
    named: float = NAMED,
) -> tuple[float, float]:
    """The least probability and the least familiarity of a photo that a breed is named for, by N held-out dogs.

    As many as can be are turned down as unfamiliar, up to half, while breeds are `precision` right and the share
    `named` of the dogs still gets one: the more of that, the fewer dogs of other breeds are given the name of one that
    is known. A classifier that is too weak to name so many gives a twentieth of what it could.
    """
    options = []
    for turned_down in np.linspace(0, 0.5, 51):
        least = float(np.quantile(familiarity, turned_down))
        known = familiarity >= least
        breed = lowest_threshold(confidence[known], right[known], precision)
        options.append(((known & (confidence >= breed)).mean(), breed, least))
    enough = min(named, 0.95 * max(share for share, _, _ in options))
    return next(option[1:] for option in reversed(options) if option[0] >= enough) if enough else options[0][1:]


def lowest_threshold(scores: np.ndarray, correct: np.ndarray, precision: float) -> float:
    """The lowest score from which on the share of correct answers is at least `precision`; else `NEVER`."""
    order = np.argsort(-scores, kind="stable")
    scores, running = scores[order], np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    ends_a_tie = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # equal scores are accepted together
    enough = np.flatnonzero((running >= precision) & ends_a_tie)
    return float(scores[enough[-1]]) if len(enough) else NEVER
