"""What a classifier says of what it never saw: breeds, by leaving some out, and photos without a dog."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml import BadDataset
from ml.images.preprocessing import prepare_image
from ml.serving.calibration import softmax
from ml.serving.decision import choose_breed
from ml.serving.familiarity import fit_familiarity
from ml.serving.inference import Classifier
from ml.training.heads import fit_head

FOLDS = 5
HEAD_STRENGTH = (0.005,)  # between those that val chose for 120 breeds


@dataclass(frozen=True)
class Trial:
    """What classifiers say that never saw some of the breeds: a row per photo, `outside` those of the unseen breeds.

    `confidence`: probability of the best breed; `right`: it is the true one.
    """

    confidence: np.ndarray
    right: np.ndarray
    familiarity: np.ndarray
    outside: np.ndarray

    def thresholds(self) -> tuple[float, float]:
        """Of the breed's probability and of familiarity, as `ml.serving.decision.choose_thresholds` has them."""
        return choose_breed(*(found[~self.outside] for found in (self.confidence, self.right, self.familiarity)))

    def called_breed(self, breed: float, familiarity: float) -> float:
        """Share of the photos of unseen breeds that would be called one of the seen ones."""
        called = (self.confidence >= breed) & (self.familiarity >= familiarity)
        return float(called[self.outside].mean()) if self.outside.any() else 0.0


def leave_breeds_out(train, val, test, *, seed: int = 0) -> list[list[Trial]]:
    """Each breed is left out of one of `FOLDS` linear heads. A split is its (N, D) features and (N,) label indices.

    Returns the trials of each head on `val` and on `test`.
    """
    (train, train_index), (val, val_index), (test, test_index) = train, val, test
    num_classes = int(train_index.max()) + 1
    if num_classes < 3:
        return []
    fold_of = np.random.default_rng(seed).permutation(num_classes) % FOLDS
    trials = []
    for fold in range(min(FOLDS, num_classes - 1)):
        kept = np.flatnonzero(fold_of != fold)
        position = np.full(num_classes, -1)
        position[kept] = np.arange(len(kept))
        index, val_position = position[train_index], position[val_index]
        seen, val_seen = index >= 0, val_position >= 0
        kernel, bias = fit_head(
            train[seen], val[val_seen], index[seen], val_position[val_seen], strengths=HEAD_STRENGTH
        )
        familiarity = fit_familiarity(train[seen], index[seen])
        trials.append(
            [_trial(features @ kernel + bias, familiarity(features), position[truth])
             for features, truth in ((val, val_index), (test, test_index))]
        )  # fmt: skip
    return trials


def _trial(logits: np.ndarray, familiarity: np.ndarray, position: np.ndarray) -> Trial:
    probs = softmax(logits)
    return Trial(probs.max(axis=1), probs.argmax(axis=1) == position, familiarity, position < 0)


def energies_without_dog(
    classifier: Classifier, folder: Path, half: str | None = None, answer: Callable | None = None
) -> np.ndarray:
    """(N,) energies that `classifier` gives the photos below `folder`: of all, or of the `half` `val` or `test`.

    The halves are divided by content, so that what was chosen on one may be measured on the other. `answer`: what
    runs the network, that of the classifier if none. Raises `BadDataset` for no photos, `UnreadableImage`.
    """
    photos = [Path(root) / name for root, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    contents = [path.read_bytes() for path in sorted(photos)]
    if half:
        contents = [data for data in contents if hashlib.sha256(data).digest()[0] % 2 == (half == "test")]
    if not contents:
        raise BadDataset(f"Expected photos without a dog below {folder}. Received: none.")
    size, steps = classifier.checkpoint.image_size, classifier.checkpoint.steps
    answers = map(answer or classifier.session, (prepare_image(data, size, steps) for data in contents))
    return np.array([classifier.energy(found["logits"], found["embedding"]) for found in answers])
