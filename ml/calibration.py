"""Probabilities that mean what they say (Guo et al., 2017, "On calibration of modern neural networks")."""

import numpy as np
from scipy.optimize import minimize_scalar


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, C) logits -> (N, C) probabilities, each row of which sums to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def log_loss(probs: np.ndarray, label_index: np.ndarray) -> float:
    """Mean negative log probability (nats) of the true labels."""
    return float(-np.log(np.maximum(probs[np.arange(len(probs)), label_index], 1e-12)).mean())


def fit_temperature(logits: np.ndarray, label_index: np.ndarray) -> float:
    """The temperature in [0.2, 5] with the lowest log loss on held-out photos."""
    found = minimize_scalar(
        lambda log_t: log_loss(softmax(logits, np.exp(log_t)), label_index),
        bounds=(np.log(0.2), np.log(5.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


def expected_calibration_error(probs: np.ndarray, label_index: np.ndarray, bins: int = 15) -> float:
    """ECE in [0, 1]: mean gap between confidence and accuracy over equal-width bins, weighted by their photos."""
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == label_index
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.abs(np.bincount(bin_index, confidence, minlength=bins) - np.bincount(bin_index, correct, minlength=bins))
    return float(gaps.sum() / len(probs))
