"""A classifier before photos whose breed is known: every figure, and a report one can read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ml import MLError
from ml.data.datasets import Dataset, Item
from ml.data.views import prepared_square
from ml.evaluation.metrics import (
    confusion_matrix,
    coverage_accuracy,
    measure_answers,
    measure_without_dog,
    per_label,
    reliability,
    worst_pairs,
)
from ml.images.preprocessing import to_pixels
from ml.progress import Track, no_track
from ml.reports import Report, subplots
from ml.serving.inference import Classifier

MATRIX_LABELS = 40  # a matrix of more is a grey square


@dataclass(frozen=True)
class Examination:
    """What a classifier said of `items`: (N, C) logits and (N, D) features.

    Beside them (N,) the true labels' positions among its own.
    """

    classifier: Classifier
    dataset: Dataset
    items: list[Item]
    logits: np.ndarray
    embeddings: np.ndarray
    label_index: np.ndarray

    @property
    def probs(self) -> np.ndarray:
        return self.classifier.checkpoint.calibration(self.logits)

    @property
    def slugs(self) -> list[str]:
        return [label.slug for label in self.classifier.checkpoint.labels]

    def figures(self) -> dict:
        return measure_answers(self.classifier, self.logits, self.embeddings, self.label_index)

    @property
    def energies(self) -> np.ndarray:
        """(N,) nats."""
        return np.array([self.classifier.energy(*row) for row in zip(self.logits, self.embeddings, strict=True)])


def examine(classifier: Classifier, dataset: Dataset, items: list[Item], track: Track = no_track) -> Examination:
    """Answer every photo as in serving. Raises `MLError` for labels or steps that the classifier does not have."""
    checkpoint = classifier.checkpoint
    position = {label.slug: index for index, label in enumerate(checkpoint.labels)}
    foreign = sorted({item.label for item in items} - set(position))
    if foreign:
        shown = ", ".join(foreign[:5]) + (" …" if len(foreign) > 5 else "")
        raise MLError(f"Expected photos of the {len(position)} labels of {checkpoint.name}. Received: {shown}.")
    if dataset.steps and dataset.steps != checkpoint.steps:
        raise MLError(f"Expected photos prepared by {checkpoint.steps or 'no steps'}. Received: {dataset.steps}.")
    if not items:
        raise MLError("Expected photos to answer. Received: none.")

    def answer(item: Item) -> dict[str, np.ndarray]:
        square = prepared_square(dataset, item, checkpoint.image_size, checkpoint.steps)
        return classifier.session(to_pixels(square))

    answers = [answer(item) for item in track(items, "answering", len(items))]
    logits, embeddings = (np.stack([answer[name] for answer in answers]) for name in ("logits", "embedding"))
    return Examination(
        classifier, dataset, items, logits, embeddings, np.array([position[item.label] for item in items])
    )


def report_examination(
    examination: Examination, folder: Path, command: str, without_dog: np.ndarray | None = None
) -> dict:
    """Write `index.html` and `report.json` into `folder`; return the figures.

    `without_dog`: (M,) energies of photos without a dog, to hold against those of the dogs.
    """
    checkpoint, figures = examination.classifier.checkpoint, examination.figures()
    if without_dog is not None:
        figures["without_dog"] = measure_without_dog(without_dog, examination.energies, checkpoint.thresholds.energy)
    predicted = examination.logits.argmax(axis=1)
    matrix = confusion_matrix(predicted, examination.label_index, len(examination.slugs))
    report = Report(f"{checkpoint.name} {checkpoint.version} on {figures['n']} photos", command)
    _figures_section(report, figures)
    _curves_section(report, examination)
    _mistakes_section(report, examination, matrix, predicted)
    labels = per_label(predicted, examination.label_index, examination.slugs)
    report.section("Each breed, the hardest first")
    seen = sorted((row for row in labels if row["n"]), key=lambda row: row["recall"])
    report.table(
        ["breed", "photos", "found", "95 % interval", "right when named"],
        [[row["label"], row["n"], _share(row["recall"]), _interval(row["recall_interval"]), _share(row["precision"])]
         for row in seen],
    )  # fmt: skip
    pairs = [
        {"truth": examination.slugs[i], "called": examination.slugs[j], "photos": n} for i, j, n in worst_pairs(matrix)
    ]
    report.write(folder, {"figures": figures, "labels": labels, "worst_pairs": pairs, "confusion_matrix": matrix})
    return figures


def in_words(figures: dict) -> Iterator[str]:
    """Lines for a terminal."""
    yield (
        f"top-1 {_share(figures['top1'])} ({_interval(figures['top1_interval'])}) of {figures['n']} photos, "
        f"top-3 {_share(figures['top3'])}, loss {figures['loss']:.3f}, calibration error {_share(figures['ece'])}"
    )
    if few := figures["few_breeds"]:
        yield f"among {few['breeds']} breeds (mean of {few['draws']} draws): top-1 {_share(few['top1'])}"
    for level, row in figures["decisions"].items():
        right = f", right {_share(row['precision'])}" if "precision" in row else ""
        yield f"decision {level}: {_share(row['share'])} of photos{right}"
    if passed := figures.get("without_dog"):
        yield (
            f"of {passed['n']} photos without a dog {_share(passed['accepted'])} are taken for one, "
            f"{_share(passed['accepted_at_95'])} where 95 % of these dogs are"
        )


def _figures_section(report: Report, figures: dict) -> None:
    report.section("Figures")
    rows = [[f"top-{k}", _share(figures[f"top{k}"]), _interval(figures[f"top{k}_interval"])] for k in (1, 3, 5)]
    rows += [["log loss (nats)", f"{figures['loss']:.3f}", ""], ["calibration error", _share(figures["ece"]), ""]]
    for level, found in figures["decisions"].items():
        rows.append([f"decision {level}", _share(found["share"]), ""])
        if "precision" in found:
            rows.append([f"… and it is right ({level})", _share(found["precision"]), _interval(found["interval"])])
    if few := figures["few_breeds"]:
        rows.append([f"top-1 among {few['breeds']} breeds, mean of {few['draws']} draws", _share(few["top1"]), ""])
    if found := figures.get("without_dog"):
        for name, words in (("accepted", "taken for a dog"), ("accepted_at_95", "… where 95 % of dogs are")):
            rows.append([f"photos without a dog {words}", _share(found[name]), _interval(found[f"{name}_interval"])])
    report.table(["measure", "value", "95 % interval"], rows)


def _curves_section(report: Report, examination: Examination) -> None:
    figure, (left, right) = subplots(1, 2)
    bins = reliability(examination.probs, examination.label_index)
    confidence, accuracy = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
    spread = np.abs(np.array([row["interval"] for row in bins]).T - accuracy)
    left.plot([0, 1], [0, 1], linestyle=":", color="grey")
    left.errorbar(confidence, accuracy, yerr=spread, marker="o", capsize=2)
    left.set(title="reliability", xlabel="probability said", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02))
    right.plot(*coverage_accuracy(examination.probs, examination.label_index))
    right.set(title="coverage and accuracy", xlabel="share of photos answered, surest first", ylabel="share right")
    report.section("Can its probabilities be believed?")
    report.figure(figure, "Left: on the dotted line a probability means what it says. Right: accuracy if only the "
                  "surest photos are answered.")  # fmt: skip


def _mistakes_section(report: Report, examination: Examination, matrix: np.ndarray, predicted: np.ndarray) -> None:
    slugs = examination.slugs
    report.section("What it takes for what")
    if len(slugs) <= MATRIX_LABELS:
        figure, axis = subplots(size=(8, 7))
        axis.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(slugs)), slugs, rotation=90, fontsize=7)
        axis.set_yticks(range(len(slugs)), slugs, fontsize=7)
        axis.set(xlabel="called", ylabel="is")
        report.figure(figure, "Confusion matrix, shares of each row", photos=True)
    pairs = worst_pairs(matrix)
    report.table(["is", "called", "photos"], [[slugs[i], slugs[j], n] for i, j, n in pairs])
    report.images(
        (_picture(examination, which), f"{slugs[i]}, called {slugs[j]}")
        for i, j, _ in pairs[:8]
        for which in np.flatnonzero((examination.label_index == i) & (predicted == j))[:2]
    )


def _picture(examination: Examination, which: int) -> Image.Image:
    return prepared_square(examination.dataset, examination.items[which], 224, ())


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.1%} – {pair[1]:.1%}"
