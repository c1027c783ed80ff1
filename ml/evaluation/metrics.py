"""How good is it? Counts first, then one division, with its interval."""

from collections.abc import Callable

import numpy as np

from ml import MLError
from ml.serving.calibration import expected_calibration_error, log_loss, softmax


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap_interval(figure_of: Callable, n: int, *, resamples: int = 400, seed: int = 0) -> tuple[float, float]:
    """95 % interval of `figure_of((n,) indices of photos)` over photos drawn with replacement (Efron, 1979)."""
    rng = np.random.default_rng(seed)
    found = [figure_of(rng.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def measure(logits: np.ndarray, label_index: np.ndarray, calibration: Callable = softmax) -> dict:
    """(N, C) logits and (N,) true labels -> top-1/3/5, log loss (nats) and ECE (15 bins), with 95 % intervals."""
    if not np.isfinite(logits).all():
        raise MLError("Expected finite logits. Received: NaN or infinity.")
    probs = calibration(logits)
    n = len(label_index)
    rank = (probs >= probs[np.arange(n), label_index][:, None]).sum(axis=1) - 1  # a tie is no hit
    figures: dict = {"n": n}
    for k in (1, 3, 5):
        right = int((rank < k).sum())
        figures[f"top{k}"] = right / n
        figures[f"top{k}_interval"] = wilson_interval(right, n)
    figures["loss"] = log_loss(probs, label_index)
    figures["ece"] = expected_calibration_error(probs, label_index)
    for name, figure_of in (("loss", log_loss), ("ece", expected_calibration_error)):
        figures[f"{name}_interval"] = bootstrap_interval(
            lambda some, figure_of=figure_of: figure_of(probs[some], label_index[some]), n
        )
    return figures


def measure_answers(classifier, logits: np.ndarray, embeddings: np.ndarray, label_index: np.ndarray) -> dict:
    """Every figure of the (N, C) logits and (N, D) features that a `Classifier` gave photos of known breeds."""
    checkpoint = classifier.checkpoint
    decisions = [classifier.decide(*row) for row in zip(logits, embeddings, strict=True)]
    figures = measure(logits, label_index, checkpoint.calibration)
    figures["decisions"] = measure_decisions(decisions, label_index, checkpoint.labels)
    figures["few_breeds"] = measure_few_breeds(logits, label_index)
    return figures


def measure_few_breeds(
    logits: np.ndarray, label_index: np.ndarray, *, breeds: int = 20, draws: int = 200, seed: int = 0
) -> dict | None:
    """Mean top-1 over random choices of a few breeds, where the answer must be one of those; none of too few breeds.

    Many draws, because single ones differ by more than a percent.
    """
    present, rng = np.unique(label_index), np.random.default_rng(seed)
    if len(present) <= breeds:
        return None
    draw = [np.sort(rng.choice(present, breeds, replace=False)) for _ in range(draws)]
    right = np.full((draws, len(label_index)), np.nan)  # of each draw, the photos of its breeds
    for row, chosen in zip(right, draw, strict=True):
        rows = np.isin(label_index, chosen)
        row[rows] = chosen[logits[rows][:, chosen].argmax(axis=1)] == label_index[rows]
    top1 = np.nanmean(right, axis=1)
    return {
        "breeds": breeds,
        "draws": draws,
        "top1": float(top1.mean()),
        "interval": bootstrap_interval(lambda some: np.nanmean(right[:, some], axis=1).mean(), len(label_index)),
        "lowest": float(top1.min()),
    }


def measure_without_dog(energies: np.ndarray, of_dogs: np.ndarray, threshold: float) -> dict:
    """How many of the (N,) energies of photos without a dog pass for one: at the `threshold` that a checkpoint chose,
    and at the one that 95 % of the (M,) energies of dogs reach."""
    n, figures = len(energies), {"n": len(energies)}
    for name, least in (("accepted", threshold), ("accepted_at_95", float(np.quantile(of_dogs, 0.05)))):
        passed = int((energies >= least).sum())
        figures |= {name: passed / n, f"{name}_interval": wilson_interval(passed, n)}
    return figures


def measure_decisions(decisions: list, label_index: np.ndarray, labels) -> dict:
    """Share of photos that get each level, and how often the level was right (breed, or group)."""
    figures = {}
    for level in ("breed", "group", "unsure", "not_a_dog"):
        chosen = [(d, labels[i]) for d, i in zip(decisions, label_index, strict=True) if d.decision == level]
        figures[level] = {
            "share": len(chosen) / len(decisions),
            "share_interval": wilson_interval(len(chosen), len(decisions)),
        }
        if chosen and level in ("breed", "group"):
            attribute = "slug" if level == "breed" else "group"
            named = "label" if level == "breed" else "group"
            right = sum(getattr(d, named) == getattr(truth, attribute) for d, truth in chosen)
            figures[level] |= {"precision": right / len(chosen), "interval": wilson_interval(right, len(chosen))}
    return figures


def per_label(predicted: np.ndarray, label_index: np.ndarray, slugs: list[str]) -> list[dict]:
    """A row per label: photos of it, share of those found (recall, with interval), share right of those so called."""
    rows = []
    for i, slug in enumerate(slugs):
        truth, called = label_index == i, predicted == i
        right = int((truth & called).sum())
        rows.append(
            {
                "label": slug,
                "n": int(truth.sum()),
                "recall": right / truth.sum() if truth.any() else None,
                "recall_interval": wilson_interval(right, int(truth.sum())),
                "precision": right / called.sum() if called.any() else None,
            }
        )
    return rows


def confusion_matrix(predicted: np.ndarray, label_index: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) counts: rows are what a photo is, columns what it was called."""
    matrix = np.zeros((num_classes, num_classes), int)
    np.add.at(matrix, (label_index, predicted), 1)
    return matrix


def worst_pairs(matrix: np.ndarray, most: int = 10) -> list[tuple[int, int, int]]:
    """(truth, called, photos) of the most frequent mistakes."""
    mistakes = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, matrix.shape), strict=True)]
    return [(i, j, int(mistakes[i, j])) for i, j in pairs if mistakes[i, j]]


def reliability(probs: np.ndarray, label_index: np.ndarray, bins: int = 15) -> list[dict]:
    """Per bin of confidence that holds photos: their number, mean confidence, accuracy and its interval."""
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == label_index
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "n": int(chosen.sum()),
            "confidence": float(confidence[chosen].mean()),
            "accuracy": float(correct[chosen].mean()),
            "interval": wilson_interval(int(correct[chosen].sum()), int(chosen.sum())),
        }
        for chosen in (bin_index == b for b in range(bins))
        if chosen.any()
    ]


def coverage_accuracy(probs: np.ndarray, label_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share of photos answered, the surest first, and (N,) accuracy on them (El-Yaniv and Wiener, 2010)."""
    order = np.argsort(-probs.max(axis=1), kind="stable")
    correct = (probs.argmax(axis=1) == label_index)[order]
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(correct) / answered
