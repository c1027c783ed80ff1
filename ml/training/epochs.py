"""Epoch after epoch, with a state after each: the loop that every recipe shares."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from ml.files import whole_file, write_json
from ml.serving.calibration import log_loss, softmax
from ml.training.batches import TrainingBatches


class EpochLoop:
    """Trains a compiled network in a run folder and goes on where an earlier attempt was killed.

    `batches_of(epoch)` gives the batches of epoch 1, 2, …; `validate(model)` figures with at least `val_top1` and
    `val_loss`. With `patience`, training stops after so many epochs without a lower `val_loss`, and the weights of
    the best epoch are taken.
    """

    def __init__(
        self,
        folder: Path,
        batches_of: Callable[[int], TrainingBatches],
        validate: Callable[[keras.Model], dict],
        say: Callable[[str], None],
        patience: int | None = None,
    ):
        self.folder, self.batches_of, self.validate, self.say = folder, batches_of, validate, say
        self.patience = patience
        self.history_path, self.best_path = folder / "history.json", folder / "best.weights.h5"

    def run(self, model: keras.Model, epochs: int) -> tuple[keras.Model, list[dict]]:
        """Returns the trained network and a row per epoch; row 0 is the network as it came."""
        history = json.loads(self.history_path.read_text()) if self.history_path.exists() else []
        if history:
            model = keras.saving.load_model(self._state(len(history) - 1))
        else:
            history.append({"epoch": 0, **self.validate(model), "seconds": 0.0})
            self._keep(model, history)
            self.say(f"before training: {in_words(history[-1])}")
        while len(history) <= epochs and not self._is_worn_out(history):
            history.append(self._epoch(model, len(history)))
            self._keep(model, history)
            self.say(f"epoch {len(history) - 1} of {epochs}: {in_words(history[-1])}")
        if self.patience:
            model.load_weights(self.best_path)
        return model, history

    def _epoch(self, model: keras.Model, epoch: int) -> dict:
        start = time.monotonic()
        fitted = model.fit(self.batches_of(epoch), epochs=1, verbose=int(sys.stdout.isatty()))
        figures = {f"train_{name}": values[0] for name, values in fitted.history.items()}
        return {"epoch": epoch, **figures, **self.validate(model), "seconds": round(time.monotonic() - start, 1)}

    def _is_worn_out(self, history: list[dict]) -> bool:
        best = min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])
        return bool(self.patience) and len(history) - 1 - best >= self.patience

    def _state(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.keras"

    def _keep(self, model: keras.Model, history: list[dict]) -> None:
        """First the state, then the figures: the state that counts is the one of the last figures."""
        epoch = len(history) - 1
        with whole_file(self._state(epoch)) as partial:
            model.save(partial)
        if self.patience and history[-1]["val_loss"] <= min(row["val_loss"] for row in history):
            with whole_file(self.best_path) as partial:
                model.save_weights(partial)
        write_json(self.history_path, history)
        for earlier in range(epoch):
            self._state(earlier).unlink(missing_ok=True)


def in_words(figures: dict) -> str:
    shown = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    return ", ".join(shown)


def validate(logits: np.ndarray, label_index: np.ndarray) -> dict:
    """Top-1 and log loss of (N, num_classes) logits."""
    top1 = float((logits.argmax(axis=1) == label_index).mean())
    return {"val_top1": round(top1, 4), "val_loss": round(log_loss(softmax(logits), label_index), 4)}


def predict_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) uint8 -> (N, num_classes) logits."""
    return np.concatenate([model.predict_on_batch(images[i : i + 64]) for i in range(0, len(images), 64)])
