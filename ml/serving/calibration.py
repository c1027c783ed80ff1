"""Probabilities that mean what they say (Guo et al., 2017, "On calibration of modern neural networks")."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar

MOST_DOUBT = 0.5


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, C) logits -> (N, C) probabilities, each row of which sums to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Calibration:
    """Ensemble temperature scaling (Zhang, Kailkhura and Han, 2020, "Mix-n-Match"), without its uniform part.

    Called with (N, C) logits it gives (N, C) probabilities: those after `temperature` (above 0), but for the share
    `doubt` (0 to 0.5) those of the logits as they came. One temperature alone has to be too sure at the top, or too
    timid in the middle. Neither changes the order of the labels.
    """

    temperature: float = 1.0
    doubt: float = 0.0

    def __post_init__(self):
        numbers = (self.temperature, self.doubt)
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"Expected a temperature and a doubt. Received: {numbers}.")
        if self.temperature <= 0 or not 0 <= self.doubt <= MOST_DOUBT:
            raise ValueError(f"Expected a temperature above 0 and a doubt of 0 to {MOST_DOUBT}. Received: {numbers}.")

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        probs = softmax(logits, self.temperature)
        return (1 - self.doubt) * probs + self.doubt * softmax(logits) if self.doubt else probs


def fit_calibration(logits: np.ndarray, label_index: np.ndarray) -> Calibration:
    """The one with the lowest log loss on held-out photos, (N, C) logits and (N,) labels."""
    start = (np.log(fit_temperature(logits, label_index)), 0.05)
    found = minimize(
        lambda x: log_loss(Calibration(np.exp(x[0]), float(np.clip(x[1], 0, MOST_DOUBT)))(logits), label_index),
        start, method="Nelder-Mead", bounds=[(np.log(0.2), np.log(5.0)), (0, MOST_DOUBT)],
    )  # fmt: skip
    return Calibration(float(np.exp(found.x[0])), float(found.x[1]))


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
