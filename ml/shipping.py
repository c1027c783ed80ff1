"""From a trained network to a checkpoint folder, every figure in which is measured on the exported file."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np

from ml import MLError
from ml.augmentation import centre_images
from ml.calibration import fit_temperature, softmax
from ml.card import worst_labels, write_card
from ml.checkpoint import load_checkpoint, seal_checkpoint, write_json, write_labels
from ml.datasets import SPLITS, Dataset
from ml.decision import Label, choose_thresholds, energy_of
from ml.evaluation import measure, measure_decisions
from ml.export import export_litert, parity
from ml.fusion import choose_agreement
from ml.inference import Classifier, Session
from ml.models import fold_batch_norm, round_to_float16, save_as_float16

PARITY_LIMIT = 1e-4  # of a probability, between Keras and the runtime


@dataclass(frozen=True)
class Origin:
    """Where a network comes from, for `info.json` and the card. `recipe` says in words how it was trained."""

    name: str
    backbone: str
    image_size: int
    steps: tuple[str, ...]
    recipe: str
    command: str
    config: dict
    git_commit: str
    training_seconds: float


def ship(
    model: keras.Model, dataset: Dataset, labels: list[Label], folder: Path, origin: Origin, say: Callable[[str], None]
) -> dict:
    """Fold, round, export, calibrate on val, measure on val and test, seal. Returns the figures on test.

    Raises `MLError` where the exported file is not the same function as the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size, steps = origin.image_size, origin.steps
    shipped = fold_batch_norm(model, size)
    round_to_float16(shipped)
    save_as_float16(shipped, folder / "model.keras")
    export_litert(shipped, size, folder / "model.tflite")
    session = Session(folder / "model.tflite", num_threads=os.cpu_count() or 1)
    some = dataset.part("val")[:: max(1, len(dataset.part("val")) // 40)]
    difference = parity(shipped, session, centre_images(dataset, some, size, steps))
    if not difference <= PARITY_LIMIT:
        raise MLError(f"Expected an export equal to {PARITY_LIMIT} to the network. Received: {difference:.1e}.")
    say(f"exported; largest difference of a probability to Keras {difference:.1e}")

    truth = {split: dataset.label_index(dataset.part(split)) for split in ("val", "test")}
    logits = {
        split: np.stack([session(image)["logits"] for image in _images(dataset, split, size, steps)]) for split in truth
    }
    temperature = fit_temperature(logits["val"], truth["val"])
    probs = softmax(logits["val"], temperature)
    thresholds = choose_thresholds(probs, energy_of(logits["val"]), truth["val"], labels)
    thresholds = replace(thresholds, agreement=choose_agreement(probs, truth["val"]))
    write_labels(folder, labels)
    write_json(folder / "calibration.json", {"temperature": temperature, "fitted_on": "val"})
    write_json(folder / "decision.json", {"thresholds": asdict(thresholds), "chosen_on": "val"})
    seal_checkpoint(
        folder,
        name=origin.name,
        backbone=origin.backbone,
        image_size=size,
        steps=steps,
        created=datetime.now(UTC).date().isoformat(),
        git_commit=origin.git_commit,
        dataset_manifest=dataset.manifest_hash,
        command=origin.command,
        config=origin.config,
    )
    classifier = Classifier(load_checkpoint(folder))
    figures = {}
    for split in truth:
        decisions = [classifier.decide(row) for row in logits[split]]
        figures[split] = measure(logits[split], truth[split], temperature)
        figures[split]["decisions"] = measure_decisions(decisions, truth[split], labels)
        figures[split]["training_seconds"] = round(origin.training_seconds, 1)
        write_json(folder / f"metrics-{split}.json", figures[split])
    write_card(
        folder,
        checkpoint=classifier.checkpoint,
        recipe=origin.recipe,
        command=origin.command,
        counts={split: len(dataset.part(split)) for split in SPLITS},
        manifest=dataset.manifest_hash,
        figures=figures["test"],
        worst=worst_labels(logits["test"], truth["test"], dataset.labels),
    )
    return figures["test"]


def _images(dataset: Dataset, split: str, image_size: int, steps: tuple[str, ...]):
    items = dataset.part(split)
    for start in range(0, len(items), 64):
        yield from centre_images(dataset, items[start : start + 64], image_size, steps)
