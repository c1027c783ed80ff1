"""From a trained network to a checkpoint folder, every figure in which is measured on the exported file."""

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
from ml.checkpoint import load_checkpoint, seal_checkpoint, write_labels
from ml.datasets import SPLITS, Dataset
from ml.decision import Label, choose_thresholds, energy_of
from ml.evaluation import measure, measure_decisions
from ml.export import export_compressed, parity
from ml.familiarity import fit_familiarity
from ml.files import write_json
from ml.fusion import choose_agreement
from ml.inference import Classifier, SessionPool
from ml.models import fold_batch_norm, round_weights, save_as_float16
from ml.reviewed import is_reviewed
from ml.unseen import Trial, choose_familiarity, leave_breeds_out

MANTISSA_BITS = 5  # of each weight: costs no accuracy that could be measured, and half of the megabytes
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
    """Fold, round, export, calibrate on val, measure on val and test, seal. Returns the figures on test, those
    on the shelter's own reviewed photos under `reviewed`.

    Raises `MLError` where the exported file is not the same function as the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size, steps = origin.image_size, origin.steps
    shipped = fold_batch_norm(model, size)
    round_weights(shipped, MANTISSA_BITS)
    save_as_float16(shipped, folder / "model.keras")
    export_compressed(shipped, size, folder / "model.tflite.xz")
    session = SessionPool(folder / "model.tflite.xz")
    some = dataset.part("val")[:: max(1, len(dataset.part("val")) // 40)]
    difference = parity(shipped, session, centre_images(dataset, some, size, steps))
    if not difference <= PARITY_LIMIT:
        raise MLError(f"Expected an export equal to {PARITY_LIMIT} to the network. Received: {difference:.1e}.")
    say(f"exported; largest difference of a probability to Keras {difference:.1e}")

    answers = {split: session.answer_all(_images(dataset, split, size, steps)) for split in SPLITS}
    truth = {split: dataset.label_index(dataset.part(split)) for split in SPLITS}
    logits = {split: answer["logits"] for split, answer in answers.items()}
    features = {split: answer["embedding"] for split, answer in answers.items()}
    temperature = fit_temperature(logits["val"], truth["val"])
    probs = softmax(logits["val"], temperature)
    familiarity = fit_familiarity(features["train"], truth["train"])
    trials = leave_breeds_out(*(values[split] for split in SPLITS for values in (features, truth)))
    unfamiliar = choose_familiarity([on_val for on_val, _ in trials])
    thresholds = choose_thresholds(
        probs, energy_of(logits["val"]), truth["val"], labels,
        familiarity=familiarity(features["val"]), unfamiliar=unfamiliar,
    )  # fmt: skip
    thresholds = replace(thresholds, agreement=choose_agreement(probs, truth["val"]))
    familiarity.save(folder / "familiarity.npz")
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
    for split in ("val", "test"):
        decisions = [classifier.decide(*row) for row in zip(logits[split], features[split], strict=True)]
        figures[split] = measure(logits[split], truth[split], temperature)
        figures[split]["decisions"] = measure_decisions(decisions, truth[split], labels)
        figures[split]["unseen_breeds"] = _of_unseen_breeds(trials, split, unfamiliar)
        own = np.array([is_reviewed(item) for item in dataset.part(split)])
        if own.any():
            figures[split]["reviewed"] = measure(logits[split][own], truth[split][own], temperature)
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


def _of_unseen_breeds(trials: list[list[Trial]], split: str, unfamiliar: float) -> dict:
    """How many photos of breeds that a head never saw it calls by a breed, with thresholds that val gave it."""
    called = [
        (split_trial.called_breed(*on_val.thresholds(unfamiliar, 0.95)), int(split_trial.outside.sum()))
        for on_val, on_test in trials
        for split_trial in [on_val if split == "val" else on_test]
    ]
    n = sum(count for _, count in called)
    return {"n": n, "called_breed": round(sum(share * count for share, count in called) / n, 4) if n else None}


def _images(dataset: Dataset, split: str, image_size: int, steps: tuple[str, ...]):
    items = dataset.part(split)
    for start in range(0, len(items), 64):
        yield from centre_images(dataset, items[start : start + 64], image_size, steps)
