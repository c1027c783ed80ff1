"""How good is it? Counts first, then one division, with its interval."""

import numpy as np

from ml import MLError
from ml.calibration import expected_calibration_error, log_loss, softmax


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(centre - half), float(centre + half)


def measure(logits: np.ndarray, label_index: np.ndarray, temperature: float = 1.0) -> dict:
    """(N, C) logits and (N,) true labels -> top-1/3/5 with 95 % intervals, log loss (nats) and ECE (15 bins)."""
    if not np.isfinite(logits).all():
        raise MLError("Expected finite logits. Received: NaN or infinity.")
    probs = softmax(logits, temperature)
    n = len(label_index)
    rank = (probs >= probs[np.arange(n), label_index][:, None]).sum(axis=1) - 1  # a tie is no hit
    figures: dict = {"n": n}
    for k in (1, 3, 5):
        right = int((rank < k).sum())
        figures[f"top{k}"] = right / n
        figures[f"top{k}_interval"] = wilson_interval(right, n)
    figures["loss"] = log_loss(probs, label_index)
    figures["ece"] = expected_calibration_error(probs, label_index)
    return figures


def measure_decisions(decisions: list, label_index: np.ndarray, labels) -> dict:
    """Share of photos that get each level, and how often the level was right (breed, or group)."""
    figures = {}
    for level in ("breed", "group", "unsure", "not_a_dog"):
        chosen = [(d, labels[i]) for d, i in zip(decisions, label_index, strict=True) if d.decision == level]
        figures[level] = {"share": len(chosen) / len(decisions)}
        if chosen and level in ("breed", "group"):
            attribute = "slug" if level == "breed" else "group"
            named = "label" if level == "breed" else "group"
            right = sum(getattr(d, named) == getattr(truth, attribute) for d, truth in chosen)
            figures[level] |= {"precision": right / len(chosen), "interval": wilson_interval(right, len(chosen))}
    return figures
