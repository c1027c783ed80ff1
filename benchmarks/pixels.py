"""How many pixels should the network see?

    python -m benchmarks.pixels --dataset DIR [--checkpoint ml/bundled] [--split val] [--sizes 224 256 288]

The same network, exported for several sizes, on the same photos: what it gains by a dog that it sees larger than in
training (Touvron et al., 2019, "Fixing the train-test resolution discrepancy"), and what that costs. The log loss is
that after a temperature of its own for each size; the milliseconds are those of one thread, all sizes in turn.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.racing import race, say_table
from benchmarks.views import figures_of
from ml.data.datasets import Dataset
from ml.data.loading import load_dataset, scan_dataset
from ml.data.views import centre_images
from ml.serving.calibration import fit_temperature, softmax
from ml.serving.checkpoint import Checkpoint, load_checkpoint
from ml.serving.inference import Session, SessionPool
from ml.training.export import export_litert

HEADS = ["pixels", "top-1", "95 % interval", "top-3", "loss", "network ms", "times the first"]


def exported(checkpoint: Checkpoint, sizes: list[int], folder: Path) -> dict[int, Path]:
    """{size: runtime file} of the checkpoint's Keras network."""
    import keras

    network = keras.saving.load_model(checkpoint.folder / "model.keras", compile=False)
    files = {size: folder / f"{size}.tflite" for size in sizes}
    for size, path in files.items():
        export_litert(network, size, path)
    return files


def measure(files: dict[int, Path], checkpoint: Checkpoint, dataset: Dataset, split: str, rounds: int = 30) -> dict:
    """Figures by size: those of `benchmarks.views.figures_of`, and the median `milliseconds`."""
    position = {label.slug: index for index, label in enumerate(checkpoint.labels)}
    items = [item for item in dataset.part(split) if item.label in position]
    label_index, figures, candidates = np.array([position[item.label] for item in items]), {}, {}
    for size, path in files.items():
        images = centre_images(dataset, items, size, checkpoint.steps)
        logits = SessionPool(path).answer_all(images)["logits"]
        figures[size] = figures_of(softmax(logits, fit_temperature(logits, label_index)), label_index)
        candidates[size] = partial(Session(path), images[0])
    for size, row in race(candidates, rounds).items():
        figures[size]["milliseconds"] = row["median"]
    return figures


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=Path("ml/bundled"))
    parser.add_argument("--split", choices=["val", "test", "all"], default="val")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 256, 288])
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args(arguments)
    checkpoint = load_checkpoint(chosen.checkpoint)
    dataset = scan_dataset(chosen.dataset) if chosen.split == "all" else load_dataset(chosen.dataset)
    with tempfile.TemporaryDirectory() as folder:
        files = exported(checkpoint, chosen.sizes, Path(folder))
        figures = measure(files, checkpoint, dataset, chosen.split, chosen.rounds)
    first = next(iter(figures.values()))["milliseconds"]
    say_table(HEADS, [_row(size, row, first) for size, row in figures.items()])
    return figures


def _row(size: int, row: dict, first: float) -> list[str]:
    low, high = row["top1_interval"]
    return [str(size), f"{row['top1']:.1%}", f"{low:.1%} – {high:.1%}", f"{row['top3']:.1%}", f"{row['loss']:.3f}",
            f"{row['milliseconds']:.1f}", f"{row['milliseconds'] / first:.2f}"]  # fmt: skip


if __name__ == "__main__":
    main()
