"""Losses on logits, each with the targets that it needs. Softmax is a part of the loss, never of a network."""

import keras
import numpy as np

from ml import MLError


@keras.saving.register_keras_serializable("flair")
class KLDivergenceOfLogits(keras.losses.Loss):
    """Kullback-Leibler divergence (nats) of the softmax of (B, C) logits from (B, C) target distributions.

    Against one-hot targets it is the cross-entropy, up to the 1e-7 at which Keras clips probabilities. Raises
    `MLError` for integer targets, which Keras would stretch to (B, C) without a word.
    """

    def __init__(self, name="kl_divergence", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        if len(y_true.shape) != len(y_pred.shape) or y_true.shape[-1] != y_pred.shape[-1]:
            raise MLError(f"Expected one-hot targets of shape {y_pred.shape}. Received: {y_true.shape}.")
        return keras.losses.kl_divergence(y_true, keras.ops.softmax(y_pred))


SPARSE, KL = "sparse_categorical_crossentropy", "kl_divergence"
LOSSES = (SPARSE, KL)


def targets_of(loss_name: str, label_index: np.ndarray, num_classes: int) -> np.ndarray:
    """(N,) label indices as the loss wants them: (N,) int32, or (N, C) float32 one-hot."""
    _check(loss_name)
    return np.eye(num_classes, dtype=np.float32)[label_index] if loss_name == KL else label_index.astype(np.int32)


def compile_with(model: keras.Model, loss_name: str, learning_rate: float) -> None:
    """Adam and the named loss, with the metrics `accuracy` and `log_loss` (nats), which compare across losses."""
    _check(loss_name)
    if loss_name == KL:
        loss = KLDivergenceOfLogits()
        accuracy, log_loss = keras.metrics.CategoricalAccuracy, keras.metrics.CategoricalCrossentropy
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy, log_loss = keras.metrics.SparseCategoricalAccuracy, keras.metrics.SparseCategoricalCrossentropy
    metrics = [accuracy(name="accuracy"), log_loss(name="log_loss", from_logits=True)]
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=metrics)


def _check(loss_name: str) -> None:
    if loss_name not in LOSSES:
        raise MLError(f"Expected a loss among {', '.join(LOSSES)}. Received: {loss_name}.")
