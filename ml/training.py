"""From photos to a checkpoint, in steps that each leave a file behind: a killed run goes on where it stopped.

1. split; 2. features of the frozen backbone, once, by the runtime; 3. a linear head on them, fitted in seconds;
4. optionally every layer fine-tuned, at one image size after another; 5. fold, round, export, calibrate, measure, seal.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ml import MLError
from ml.calibration import fit_temperature, log_loss, softmax
from ml.card import worst_labels, write_card
from ml.checkpoint import load_checkpoint, seal_checkpoint, write_json, write_labels
from ml.datasets import SPLITS, Dataset, Item, TrainingBatches, centre_images, load_dataset
from ml.decision import Label, choose_thresholds, energy_of
from ml.evaluation import measure, measure_decisions
from ml.export import export_litert, parity
from ml.inference import Classifier, Session
from ml.models import (
    LOGITS_LAYER,
    build_classifier,
    fold_batch_norm,
    freeze_batch_norm,
    round_to_float16,
    save_as_float16,
)
from ml.preprocessing import prepare_image

PARITY_LIMIT = 1e-4  # of a probability, between Keras and the runtime
HEAD_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # inverse regularisation of the head, chosen on val


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of a run. `stages`: (image size in pixels, epochs) of fine-tuning."""

    name: str
    backbone: str = "mobilenetv2"
    image_size: int = 224
    stages: tuple[tuple[int, int], ...] = ()
    learning_rate: float = 1e-4
    batch_size: int = 32
    label_smoothing: float = 0.05
    weight_decay: float = 0.01
    seed: int = 0


class TrainingRun:
    """One run in one folder; `say` receives a line for people about each step."""

    def __init__(
        self, config: TrainingConfig, folder: Path, weights: Path | None, say: Callable[[str], None], command: str = ""
    ):
        self.config, self.folder, self.weights, self.say, self.command = config, folder, weights, say, command
        self.checkpoint_dir = folder / "checkpoint"

    def train(self, dataset_folder: Path, group_of: Callable[[str], tuple[str, bool]]) -> dict:
        """Run all steps and return the figures on the test split.

        `group_of` gives (FCI-style group, is it a wild canid) of a label. Raises `MLError` for a folder that holds
        another run.
        """
        self._claim_folder()
        keras.utils.set_random_seed(self.config.seed)
        dataset = load_dataset(dataset_folder, seed=self.config.seed)
        self._claim_dataset(dataset)
        counts = {split: len(dataset.part(split)) for split in ("train", "val", "test")}
        self.say(f"{len(dataset.labels)} breeds, photos: {counts}")
        labels = [Label(slug, *group_of(slug)) for slug in dataset.labels]
        model, share = self._with_head(dataset), 0.0
        if self.config.stages:
            model, share = self._fine_tuned(model, dataset)
        return self._ship(model, dataset, labels, share)

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config_path, config = self.folder / "config.json", json.loads(json.dumps(asdict(self.config)))
        if config_path.exists() and json.loads(config_path.read_text()) != config:
            raise MLError(f"Expected a new folder or an interrupted run of the same settings. Received: {self.folder}.")
        write_json(config_path, config)

    def _claim_dataset(self, dataset: Dataset) -> None:
        """What an earlier attempt left behind counts only for the same photos in the same split."""
        path = self.folder / "dataset.json"
        if path.exists() and json.loads(path.read_text())["manifest_hash"] != dataset.manifest_hash:
            raise MLError(f"Expected a new folder, or the photos with which {self.folder} was begun. Received: others.")
        dataset.save_manifest(self.folder / "manifest.json")
        write_json(path, {"manifest_hash": dataset.manifest_hash})

    # -- the linear head on features of the frozen backbone ------------------------------------------------------

    def _with_head(self, dataset: Dataset) -> keras.Model:
        model = build_classifier(self.config.backbone, len(dataset.labels), weights=self.weights)
        path = self.folder / "head.weights.h5"
        if not path.exists():
            features = self._features(model, dataset)
            kernel, bias = fit_head(
                *(features[split] for split in ("train", "val")),
                *(dataset.label_index(dataset.part(split)) for split in ("train", "val")),
                say=self.say,
            )
            model.get_layer(LOGITS_LAYER).set_weights([kernel, bias])
            with whole_file(path) as partial:
                model.save_weights(partial)
        model.load_weights(path)
        return model

    def _features(self, model: keras.Model, dataset: Dataset) -> dict[str, np.ndarray]:
        """{split: (N, D) float32 embeddings of the centre view}, kept in `features.npz`."""
        path = self.folder / "features.npz"
        if not path.exists():
            start = time.monotonic()
            runtime_file = self.folder / "backbone.tflite"
            export_litert(model, self.config.image_size, runtime_file)
            session = Session(runtime_file, num_threads=os.cpu_count() or 1)
            parts = {split: self._embed(session, dataset, dataset.part(split)) for split in ("train", "val")}
            with whole_file(path) as partial:
                np.savez(partial, **parts)
            self.say(f"features of {sum(map(len, parts.values()))} photos in {time.monotonic() - start:.0f} s")
        return dict(np.load(path))

    def _embed(self, session: Session, dataset: Dataset, items: list[Item]) -> np.ndarray:
        size = self.config.image_size
        return np.stack([session(prepare_image(dataset.read(item), size))["embedding"] for item in items])

    # -- every layer ---------------------------------------------------------------------------------------------

    def _fine_tuned(self, model: keras.Model, dataset: Dataset) -> tuple[keras.Model, float]:
        """Train all weights but the batch statistics, then average them with where they started.

        Returns the network and the share of the tuned weights in it. After each epoch its state is kept, then its
        figures; the state that counts is the one of the last figures, so a run may be killed between any two lines.
        """
        before = model.get_weights()
        history_path = self.folder / "history.json"
        history = json.loads(history_path.read_text()) if history_path.exists() else []
        val_images = centre_images(dataset, dataset.part("val"), self.config.image_size)
        val_index = dataset.label_index(dataset.part("val"))
        if history:
            model = keras.saving.load_model(self._state(len(history) - 1))
        else:
            self._compile(model, len(dataset.part("train")))
            history.append({"epoch": 0, **validate(model, val_images, val_index)})
            self._keep(model, history, history_path)
            self.say(f"head alone: {history[-1]}")
        sizes = [size for size, epochs in self.config.stages for _ in range(epochs)]
        for epoch, size in list(enumerate(sizes, start=1))[len(history) - 1 :]:
            start = time.monotonic()
            batches = TrainingBatches(
                dataset,
                dataset.part("train"),
                image_size=size,
                batch_size=self.config.batch_size,
                seed=self.config.seed,
                epoch=epoch,
            )
            fitted = model.fit(batches, epochs=1, verbose=0)
            figures = {"epoch": epoch, "size": size, "train_loss": fitted.history["loss"][0]}
            figures |= validate(model, val_images, val_index) | {"seconds": round(time.monotonic() - start)}
            history.append(figures)
            self._keep(model, history, history_path)
            self.say(f"epoch {epoch} of {len(sizes)}: {figures}")
        return self._averaged(model, before, val_images, val_index)

    def _averaged(self, tuned: keras.Model, before: list[np.ndarray], val_images, val_index):
        """Go back a part of the way to the linear head's network, as far as val likes it (WiSE-FT, Wortsman 2022).

        The share of the tuned weights with the lowest log loss on val, after its own temperature, wins.
        """
        after = tuned.get_weights()
        best_loss, best_share, best_weights = np.inf, 1.0, after
        for share in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            mixed = [a * share + b * (1 - share) for a, b in zip(after, before, strict=True)]
            tuned.set_weights(mixed)
            logits = predict_logits(tuned, val_images)
            loss = log_loss(softmax(logits, fit_temperature(logits, val_index)), val_index)
            top1 = (logits.argmax(axis=1) == val_index).mean()
            self.say(f"{share:.1f} of the tuned weights: val top-1 {top1:.4f}, loss {loss:.4f}")
            if loss < best_loss:
                best_loss, best_share, best_weights = loss, share, mixed
        tuned.set_weights(best_weights)
        return tuned, best_share

    def _compile(self, model: keras.Model, num_photos: int) -> None:
        freeze_batch_norm(model)
        steps = -(-num_photos // self.config.batch_size)
        total = steps * sum(epochs for _, epochs in self.config.stages)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, decay_steps=max(total - steps, 1), warmup_target=self.config.learning_rate, warmup_steps=steps
        )
        model.compile(
            keras.optimizers.AdamW(schedule, weight_decay=self.config.weight_decay, clipnorm=1.0),
            SmoothedCrossentropy(self.config.label_smoothing),
        )

    def _state(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.keras"

    def _keep(self, model: keras.Model, history: list[dict], history_path: Path) -> None:
        epoch = len(history) - 1
        with whole_file(self._state(epoch)) as partial:
            model.save(partial)
        with whole_file(history_path) as partial:
            write_json(partial, history)
        for earlier in range(epoch):
            self._state(earlier).unlink(missing_ok=True)

    # -- what is shipped -----------------------------------------------------------------------------------------

    def _ship(self, model: keras.Model, dataset: Dataset, labels: list[Label], share: float) -> dict:
        """Write the checkpoint folder. Every figure in it is measured on the exported file, from JPEG bytes."""
        folder, size = self.checkpoint_dir, self.config.image_size
        folder.mkdir(exist_ok=True)
        shipped = fold_batch_norm(model, size)
        round_to_float16(shipped)
        save_as_float16(shipped, folder / "model.keras")
        export_litert(shipped, size, folder / "model.tflite")
        session = Session(folder / "model.tflite", num_threads=os.cpu_count() or 1)
        difference = parity(shipped, session, centre_images(dataset, dataset.part("val")[::50], size))
        if not difference <= PARITY_LIMIT:
            raise MLError(f"Expected an export equal to {PARITY_LIMIT} to the network. Received: {difference:.1e}.")
        self.say(f"exported; largest difference of a probability to Keras {difference:.1e}")

        logits, truth = {}, {}
        for split in ("val", "test"):
            items = dataset.part(split)
            logits[split] = np.stack([session(prepare_image(dataset.read(item), size))["logits"] for item in items])
            truth[split] = dataset.label_index(items)
        temperature = fit_temperature(logits["val"], truth["val"])
        thresholds = choose_thresholds(
            softmax(logits["val"], temperature), energy_of(logits["val"]), truth["val"], labels
        )
        write_labels(folder, labels)
        write_json(folder / "calibration.json", {"temperature": temperature, "fitted_on": "val"})
        write_json(folder / "decision.json", {"thresholds": asdict(thresholds), "chosen_on": "val"})
        seal_checkpoint(
            folder,
            name=self.config.name,
            backbone=self.config.backbone,
            image_size=size,
            created=datetime.now(UTC).date().isoformat(),
            git_commit=git_commit(),
            dataset_manifest=dataset.manifest_hash,
            config=asdict(self.config),
        )
        classifier = Classifier(load_checkpoint(folder))
        figures = {}
        for split in ("val", "test"):
            decisions = [classifier.decide(row) for row in logits[split]]
            figures[split] = measure(logits[split], truth[split], temperature)
            figures[split]["decisions"] = measure_decisions(decisions, truth[split], labels)
            write_json(folder / f"metrics-{split}.json", figures[split])
        write_card(
            folder,
            checkpoint=classifier.checkpoint,
            config=self.config,
            command=self.command,
            share=share,
            counts={split: len(dataset.part(split)) for split in SPLITS},
            manifest=dataset.manifest_hash,
            figures=figures["test"],
            worst=worst_labels(logits["test"], truth["test"], dataset.labels),
        )
        return figures["test"]


@keras.saving.register_keras_serializable("flair")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of (B, C) logits with (B,) integer labels, softened by label smoothing (Szegedy et al., 2016)."""

    def __init__(self, smoothing: float, name="smoothed_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        num_classes = y_pred.shape[-1]
        y_true = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32"), num_classes)
        y_true = y_true * (1 - self.smoothing) + self.smoothing / num_classes
        return keras.ops.categorical_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


def fit_head(train, val, train_index, val_index, *, say=lambda line: None) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression by L-BFGS on (N, D) features; its strength is chosen on val.

    Returns the kernel (D, C) and bias (C,) of a dense layer on the raw features, float32.
    """
    scaler = StandardScaler().fit(train)
    scaler.scale_ = np.maximum(scaler.scale_, 0.01)  # what hardly varies is not blown up beyond what float16 holds
    best_loss, best = np.inf, None
    for strength in HEAD_STRENGTHS:
        start = time.monotonic()
        kernel, bias = _dense(
            LogisticRegression(C=strength, max_iter=300, tol=1e-3).fit(scaler.transform(train), train_index)
        )
        kernel, bias = kernel / scaler.scale_[:, None], bias - (scaler.mean_ / scaler.scale_) @ kernel
        logits = val @ kernel + bias
        loss, top1 = log_loss(softmax(logits), val_index), (logits.argmax(axis=1) == val_index).mean()
        say(f"head with C={strength}: val top-1 {top1:.3f}, loss {loss:.3f}, {time.monotonic() - start:.1f} s")
        if loss < best_loss:
            best_loss, best = loss, (kernel.astype(np.float32), bias.astype(np.float32))
    return best


def _dense(fitted: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (D, C) and bias (C,); of two classes scikit-learn keeps one column, half of which is each one's share."""
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if kernel.shape[1] == 1:
        return np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
    return kernel, bias


def validate(model: keras.Model, images: np.ndarray, label_index: np.ndarray) -> dict:
    """Top-1 and log loss of (N, H, W, 3) uint8 images."""
    logits = predict_logits(model, images)
    top1 = float((logits.argmax(axis=1) == label_index).mean())
    return {"val_top1": round(top1, 4), "val_loss": round(log_loss(softmax(logits), label_index), 4)}


def predict_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, C) logits."""
    return np.concatenate([model.predict_on_batch(images[i : i + 64]) for i in range(0, len(images), 64)])


@contextmanager
def whole_file(path: Path):
    """Write to a neighbour of `path` that takes its place once the block is done: there is never half a file."""
    partial = path.with_name("partial-" + path.name)
    yield partial
    partial.replace(path)


def git_commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=sys.path[0] or "."
    )
    return found.stdout.strip() or "unknown"
