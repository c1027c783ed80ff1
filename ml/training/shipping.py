"""From a trained network to a checkpoint folder, every figure in which is measured on the exported file."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np

from ml import MLError
from ml.data.datasets import SPLITS, Dataset, Item
from ml.data.reviewed import is_reviewed
from ml.data.views import centre_images
from ml.evaluation.card import Origin, worst_labels
from ml.evaluation.metrics import measure, measure_answers, measure_without_dog, wilson_interval
from ml.files import whole_file, write_json
from ml.serving.calibration import fit_calibration
from ml.serving.checkpoint import Checkpoint, load_checkpoint, seal_checkpoint, write_labels
from ml.serving.decision import Label, Level, choose_thresholds, energy_of
from ml.serving.familiarity import fit_familiarity
from ml.serving.fusion import choose_agreement
from ml.serving.inference import Classifier, SessionPool
from ml.training.export import export_compressed, parity
from ml.training.folding import FLOAT16_MANTISSA_BITS, fold_batch_norm, round_weights, save_as_float16
from ml.training.unseen import Trial, energies_without_dog, leave_breeds_out

# A large network keeps 5 bits of each weight, a smaller one all of float16's 10, since it is small enough as it is:
# MobileNetV2 loses three points of accuracy to what EfficientNet-B4 does not notice. Figures are measured with them.
LARGE_MANTISSA_BITS, LARGE_PARAMETERS = 5, 6_000_000
PARITY_LIMIT = 1e-4  # of a probability, between Keras and the runtime


@dataclass(frozen=True)
class Answers:
    """What the exported file says of one split: (N, C) logits and (N, D) features, beside the (N,) true labels."""

    logits: np.ndarray
    features: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Shipped:
    """A sealed checkpoint, and the answers of its exported file to each split of its dataset."""

    classifier: Classifier
    dataset: Dataset
    answers: dict[str, Answers]

    @property
    def worst_labels(self) -> list[str]:
        return worst_labels(self.answers["test"].logits, self.answers["test"].truth, self.dataset.labels)


def ship(
    model: keras.Model, dataset: Dataset, labels: list[Label], folder: Path, origin: Origin, say: Callable[[str], None]
) -> Shipped:
    """Fold, round, export, calibrate on val, seal.

    Raises `MLError` where the exported file is not the same function as the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    session, network = _export(model, dataset, folder, origin, say)
    answers = {}
    for split in SPLITS:
        kept = folder.with_name(f"answers-{split}.npz")
        answers[split] = _known_answers(kept, network) or _answer_all(session, dataset, split, origin, kept, network)
    _write_choices(folder, answers, labels)
    seal_checkpoint(
        folder,
        name=origin.name,
        backbone=origin.backbone,
        image_size=origin.image_size,
        steps=origin.steps,
        created=datetime.now(UTC).date().isoformat(),
        git_commit=origin.git_commit,
        dataset_manifest=origin.dataset_manifest,
        command=origin.command,
        config=origin.config,
    )
    return Shipped(Classifier(load_checkpoint(folder)), dataset, answers)


def measure_shipped(
    shipped: Shipped, *, without_dog: Path | None = None, fewer_breeds: Path | None = None
) -> dict[str, dict]:
    """Figures on val and on test; those on the shelter's own reviewed photos are under `reviewed`.

    Under `without_dog` are those on the photos of that folder, under `breeds_left_out` (on test alone) the decisions of
    the checkpoint folder `fewer_breeds` on the breeds that it does not know.
    """
    classifier, dataset, answers = shipped.classifier, shipped.dataset, shipped.answers
    train, val, test = ((answers[split].features, answers[split].truth) for split in SPLITS)
    trials = leave_breeds_out(train, val, test)
    figures = {}
    for split in ("val", "test"):
        own = np.array([is_reviewed(item) for item in dataset.part(split)])
        figures[split] = _measure(classifier, answers[split], own)
        figures[split]["unseen_breeds"] = _of_unseen_breeds(trials, split)
        if without_dog:
            figures[split]["without_dog"] = _of_photos_without_dog(classifier, without_dog, split, answers[split])
    if fewer_breeds:
        figures["test"]["breeds_left_out"] = _of_breeds_left_out(Classifier.load(fewer_breeds), dataset)
    return figures


def _export(model: keras.Model, dataset: Dataset, folder: Path, origin: Origin, say: Callable) -> tuple:
    """Write the network in both its forms, and see on some photos of val that they are one function.

    Returns the runtime and a hash of the weights in it.
    """
    shipped = fold_batch_norm(model, origin.image_size)
    round_weights(shipped, mantissa_bits(shipped.count_params()))
    save_as_float16(shipped, folder / "model.keras")
    export_compressed(shipped, origin.image_size, folder / "model.tflite.xz")
    session = SessionPool(folder / "model.tflite.xz")
    some = dataset.part("val")[:: max(1, len(dataset.part("val")) // 40)]
    difference = parity(shipped, session, centre_images(dataset, some, origin.image_size, origin.steps))
    if not difference <= PARITY_LIMIT:
        raise MLError(f"Expected an export equal to {PARITY_LIMIT} to the network. Received: {difference:.1e}.")
    say(f"exported; largest difference of a probability to Keras {difference:.1e}")
    return session, hashlib.sha256(b"".join(weight.tobytes() for weight in shipped.get_weights())).hexdigest()


def mantissa_bits(parameters: int) -> int:
    """How many bits each weight of a network of so many parameters keeps after the leading one."""
    return LARGE_MANTISSA_BITS if parameters > LARGE_PARAMETERS else FLOAT16_MANTISSA_BITS


def _known_answers(path: Path, network: str) -> Answers | None:
    """Those that an earlier attempt left in `path`, if it was this network that gave them."""
    try:
        with np.load(path) as kept:
            is_same = str(kept["network"]) == network
            return Answers(*(kept[name] for name in Answers.__dataclass_fields__)) if is_same else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _answer_all(
    session: SessionPool, dataset: Dataset, split: str, origin: Origin, kept: Path, network: str
) -> Answers:
    """Minutes for a large network: what comes after may be repeated without it."""
    items = dataset.part(split)
    found = _answers_to(items, session, dataset, origin)
    answers = Answers(found["logits"], found["embedding"], dataset.label_index(items))
    with whole_file(kept) as partial, partial.open("wb") as file:
        np.savez(file, network=np.array(network), **vars(answers))
    return answers


def _answers_to(items: list[Item], session: SessionPool, dataset: Dataset, way_in: Origin | Checkpoint) -> dict:
    parts = (items[start : start + 64] for start in range(0, len(items), 64))
    return session.answer_all(
        image for part in parts for image in centre_images(dataset, part, way_in.image_size, way_in.steps)
    )


def _write_choices(folder: Path, answers: dict[str, Answers], labels: list[Label]) -> None:
    """Everything but the network that decides an answer: labels, calibration, thresholds, familiarity."""
    train, val = answers["train"], answers["val"]
    calibration = fit_calibration(val.logits, val.truth)
    probs, familiarity = calibration(val.logits), fit_familiarity(train.features, train.truth)
    energy, distance = energy_of(val.logits), familiarity.distance(val.features)
    weight = float(energy.std() / distance.std()) if distance.std() else 0.0  # both count alike
    dogs = energy - weight * distance
    thresholds = choose_thresholds(probs, dogs, val.truth, labels, familiarity=familiarity(val.features))
    thresholds = replace(thresholds, agreement=choose_agreement(probs, val.truth), distance=weight)
    familiarity.save(folder / "familiarity.npz")
    write_labels(folder, labels)
    write_json(folder / "calibration.json", asdict(calibration) | {"fitted_on": "val"})
    write_json(folder / "decision.json", {"thresholds": asdict(thresholds), "chosen_on": "val"})


def _measure(classifier: Classifier, answers: Answers, own: np.ndarray) -> dict:
    """Figures on all photos, and under `reviewed` on the shelter's `own` (N,) bool."""
    logits, truth = answers.logits, answers.truth
    figures = measure_answers(classifier, logits, answers.features, truth)
    if own.any():
        figures["reviewed"] = measure(logits[own], truth[own], classifier.checkpoint.calibration)
    return figures


def _of_photos_without_dog(classifier: Classifier, folder: Path, split: str, dogs: Answers) -> dict:
    energies = energies_without_dog(classifier, folder, split)
    of_dogs = np.array([classifier.energy(*row) for row in zip(dogs.logits, dogs.features, strict=True)])
    return measure_without_dog(energies, of_dogs, classifier.checkpoint.thresholds.energy)


def left_out_items(checkpoint: Checkpoint, dataset: Dataset) -> list[Item]:
    """The photos of breeds that a checkpoint does not know, of every split. Raises `MLError` for none."""
    known = {label.slug for label in checkpoint.labels}
    items = [item for item in dataset.items if item.label not in known]
    if not items:
        raise MLError(f"Expected a checkpoint that lacks some of these breeds. Received: {checkpoint.name} of all.")
    return items


def _of_breeds_left_out(classifier: Classifier, dataset: Dataset) -> dict:
    """What a classifier of the same recipe decides on every photo of the breeds that no part of it was trained on."""
    checkpoint, items = classifier.checkpoint, left_out_items(classifier.checkpoint, dataset)
    found = _answers_to(items, SessionPool(checkpoint.model_path), dataset, checkpoint)
    decisions = [classifier.decide(*row).decision for row in zip(found["logits"], found["embedding"], strict=True)]
    called = {level: decisions.count(level) for level in Level}
    of_known = json.loads((checkpoint.folder / "metrics-test.json").read_text())["decisions"]["breed"]
    return {
        "version": checkpoint.version,
        "stages": json.loads((checkpoint.folder / "info.json").read_text())["config"]["stages"],
        "known_breeds": len(checkpoint.labels),
        "breeds": len({item.label for item in items}),
        "n": len(items),
        **{str(level): round(count / len(items), 4) for level, count in called.items()},
        "breed_interval": wilson_interval(called[Level.BREED], len(items)),
        "known": {"share": of_known["share"], "precision": of_known.get("precision")},  # that get a breed, on its test
    }


def _of_unseen_breeds(trials: list[list[Trial]], split: str) -> dict:
    """How many photos of breeds that a head never saw it calls by a breed, with thresholds that val gave it."""
    called = [
        (split_trial.called_breed(*on_val.thresholds()), int(split_trial.outside.sum()))
        for on_val, on_test in trials
        for split_trial in [on_val if split == "val" else on_test]
    ]
    n, named = sum(count for _, count in called), round(sum(share * count for share, count in called))
    return {"n": n, "called_breed": round(named / n, 4) if n else None, "interval": wilson_interval(named, n)}
