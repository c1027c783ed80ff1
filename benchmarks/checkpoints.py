"""Which classifier would a machine of two cores want? Several checkpoints on the same photos, side by side.

    python -m benchmarks.checkpoints CHECKPOINT … --dataset DIR [--whole DIR] [--rounds 30] [--threads 2]

A table of accuracy, milliseconds and megabytes. Accuracy is that of the exported files on the test split of
`--dataset`, and on all photos of `--whole`; the milliseconds are those of the network and of the whole way from the
bytes of a 5 MP JPEG to the decision, all checkpoints in turn; the megabytes are those of the folder and of the file
that is served.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.racing import made_jpeg, race, say_table
from ml.data.datasets import Dataset
from ml.data.loading import load_dataset, scan_dataset
from ml.evaluation.metrics import measure
from ml.images.preprocessing import prepare_image
from ml.progress import track
from ml.serving.checkpoint import checkpoint_in
from ml.serving.inference import Classifier, SessionPool

HEADS = ["checkpoint", "pixels", "top-1", "95 % interval", "top-3", "whole photos, top-1", "top-3",
         "network ms", "5 MP JPEG to decision ms", "folder MB", "served file MB"]  # fmt: skip


def accuracy(classifier: Classifier, dataset: Dataset, split: str) -> dict:
    """Figures (`ml.evaluation.metrics.measure`) on the photos of a split whose breeds the classifier knows."""
    checkpoint = classifier.checkpoint
    position = {label.slug: index for index, label in enumerate(checkpoint.labels)}
    items = [item for item in dataset.part(split) if item.label in position]
    if not items:
        raise SystemExit(f"Expected photos of breeds that {checkpoint.name} knows. Received: none.")
    images = (prepare_image(dataset.read(item), checkpoint.image_size, checkpoint.steps)
              for item in track(items, checkpoint.name))  # fmt: skip
    logits = SessionPool(checkpoint.model_path).answer_all(images)["logits"]
    return measure(logits, np.array([position[item.label] for item in items]), checkpoint.calibration)


def times(classifiers: list[Classifier], data: bytes, rounds: int) -> list[tuple[float, float]]:
    """Median milliseconds of (network alone, bytes to decision) of each, all taking turns."""
    candidates = {}
    for number, classifier in enumerate(classifiers):
        pixels = prepare_image(data, classifier.checkpoint.image_size, classifier.checkpoint.steps)
        candidates[number, "network"] = lambda classifier=classifier, pixels=pixels: classifier.session(pixels)
        candidates[number, "whole"] = lambda classifier=classifier: classifier.classify(data)
    figures = race(candidates, rounds)
    return [tuple(figures[number, part]["median"] for part in ("network", "whole"))
            for number in range(len(classifiers))]  # fmt: skip


def megabytes(*paths: Path) -> float:
    return sum(path.stat().st_size for path in paths) / 1e6


def row_of(classifier: Classifier, milliseconds: tuple, crops: Dataset, whole: Dataset | None) -> list[str]:
    checkpoint = classifier.checkpoint
    own, far = accuracy(classifier, crops, "test"), accuracy(classifier, whole, "all") if whole else None
    low, high = own["top1_interval"]
    return [
        f"{checkpoint.name} {checkpoint.version}",
        str(checkpoint.image_size),
        *(f"{own['top1']:.1%}", f"{low:.1%} – {high:.1%}", f"{own['top3']:.1%}"),
        *((f"{far['top1']:.1%}", f"{far['top3']:.1%}") if far else ("", "")),
        *(f"{value:.1f}" for value in milliseconds),
        f"{megabytes(*(path for path in checkpoint.folder.iterdir() if path.is_file())):.1f}",
        f"{megabytes(checkpoint.model_path):.1f}",
    ]


def main(arguments: list[str] | None = None) -> list[list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="folders of runs or checkpoints")
    parser.add_argument("--dataset", type=Path, required=True, help="its test split counts")
    parser.add_argument("--whole", type=Path, help="whole photos, all of which count")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    classifiers = [Classifier.load(checkpoint_in(folder), chosen.threads) for folder in chosen.checkpoints]
    milliseconds = times(classifiers, made_jpeg(), chosen.rounds)
    crops, whole = load_dataset(chosen.dataset), scan_dataset(chosen.whole) if chosen.whole else None
    rows = [row_of(*found, crops, whole) for found in zip(classifiers, milliseconds, strict=True)]
    print(f"{chosen.threads} thread(s)")
    say_table(HEADS, rows)
    return rows


if __name__ == "__main__":
    main()
