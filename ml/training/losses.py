"""Losses on logits, each with the targets that it needs. Softmax is a part of the loss, never of a network."""

import keras
import numpy as np


@keras.saving.register_keras_serializable("flair")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of (B, C) logits, softened by label smoothing (Szegedy et al., 2016).

    Targets are (B,) integer labels, or (B, C) probabilities, for example of a teacher. From such targets the
    Kullback-Leibler divergence differs only by their own entropy: it has the same gradient, and the same value where
    they are one-hot.
    """

    def __init__(self, smoothing: float = 0.0, name="smoothed_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        num_classes = y_pred.shape[-1]
        if len(y_true.shape) < 2 or y_true.shape[-1] != num_classes:
            y_true = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32"), num_classes)
        y_true = y_true * (1 - self.smoothing) + self.smoothing / num_classes
        return keras.ops.categorical_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


SPARSE, KL = "sparse_categorical_crossentropy", "kl_divergence"
LOSSES = (SPARSE, KL)


def targets_of(loss_name: str, label_index: np.ndarray, num_classes: int) -> np.ndarray:
    """(N,) label indices as the loss wants them: (N,) int32, or (N, C) float32 one-hot."""
    return np.eye(num_classes, dtype=np.float32)[label_index] if loss_name == KL else label_index.astype(np.int32)


def compile_with(model: keras.Model, loss_name: str, learning_rate: float) -> None:
    """Adam and the named loss, with the metrics `accuracy` and `log_loss` (nats), which compare across losses."""
    if loss_name == KL:
        loss = SmoothedCrossentropy()
        accuracy, log_loss = keras.metrics.CategoricalAccuracy, keras.metrics.CategoricalCrossentropy
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy, log_loss = keras.metrics.SparseCategoricalAccuracy, keras.metrics.SparseCategoricalCrossentropy
    metrics = [accuracy(name="accuracy"), log_loss(name="log_loss", from_logits=True)]
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=metrics)
