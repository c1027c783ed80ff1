"""Does looking at a whole photo more than once pay for its milliseconds?

    python -m benchmarks.views --dataset DIR [--checkpoint ml/bundled] [--split all]

The same photos through several ways of looking, one after the other in one process. Each way gives the network one or
more squares of a photo; the log-probabilities of several are averaged, as those of several photos are. A second look
goes where the class activation map of the first points to (Zhou et al., 2016, "Learning deep features for
discriminative localization"); its map is computed by Keras, whose time is not counted: a network exported with its
map would give it almost for nothing.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ml.data.loading import load_dataset, scan_dataset
from ml.evaluation.metrics import wilson_interval
from ml.images.preprocessing import decode_image, decoded_side, to_pixels, to_square_image
from ml.progress import track
from ml.serving.calibration import log_loss
from ml.serving.fusion import fuse_probabilities
from ml.serving.inference import Classifier

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photo


def centre(image: Image.Image, share: float = 1.0) -> Box:
    """The square in the middle, of this share of the shorter side."""
    width, height = image.size
    side = share * min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def ends(image: Image.Image) -> list[Box]:
    """The largest squares at both ends of the longer side."""
    width, height = image.size
    side = min(width, height)
    return [(0, 0, side, side), (width - side, height - side, width, height)]


def cut(image: Image.Image, box: Box, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def padded(image: Image.Image, size: int) -> Image.Image:
    """The whole photo, with grey where it is no square."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), (124, 116, 104))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return to_square_image(canvas, size)


class SecondLook:
    """Finds in a centre view the square that its best label rests on."""

    def __init__(self, classifier: Classifier, margin: float = 0.15):
        import keras

        from ml.training.networks import EMBEDDING_LAYER, LOGITS_LAYER

        network = keras.saving.load_model(classifier.checkpoint.folder / "model.keras")
        pooled = network.get_layer(EMBEDDING_LAYER)
        self.maps = keras.Model(network.input, pooled.input)
        self.kernel = np.asarray(network.get_layer(LOGITS_LAYER).kernel)
        self.margin = margin

    def __call__(self, image: Image.Image, view: np.ndarray, best: int) -> Box:
        """(H, W, 3) uint8 centre view of `image` and its best label -> where to look again."""
        features = np.asarray(self.maps(view[None].astype(np.float32)))[0]
        activation = features @ self.kernel[:, best]
        rows, columns = np.nonzero(activation >= (activation.min() + activation.max()) / 2)
        left, top, right, _ = centre(image)
        cell = (right - left) / len(activation)
        middle = (columns.min() + columns.max() + 1) / 2 * cell + left, (rows.min() + rows.max() + 1) / 2 * cell + top
        reach = max(np.ptp(columns), np.ptp(rows)) + 1
        side = min(right - left, reach * cell * (1 + 2 * self.margin))
        x, y = (float(np.clip(m - side / 2, 0, end - side)) for m, end in zip(middle, image.size, strict=True))
        return x, y, x + side, y + side


def ways_to_look(classifier: Classifier) -> dict[str, Callable[[Image.Image], list[Image.Image]]]:
    """Name -> the squares of a photo that it shows the network."""
    size, steps = classifier.checkpoint.image_size, classifier.checkpoint.steps
    if steps:
        raise SystemExit(f"Expected a checkpoint that sees colour. Received: one of steps {steps}.")
    second = SecondLook(classifier)

    def again(image: Image.Image) -> Image.Image:
        view = to_pixels(to_square_image(image, size))
        return cut(image, second(image, view, int(classifier.session(view)["logits"].argmax())), size)

    return {
        "centre, as served": lambda image: [to_square_image(image, size)],
        "centre, 80 % of it": lambda image: [cut(image, centre(image, 0.8), size)],
        "whole, padded": lambda image: [padded(image, size)],
        "centre and whole": lambda image: [to_square_image(image, size), padded(image, size)],
        "centre and mirrored": lambda image: [
            (square := to_square_image(image, size)), square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ],
        "centre and both ends": lambda image: [
            to_square_image(image, size), *(cut(image, box, size) for box in ends(image))
        ],
        "second look alone": lambda image: [again(image)],
        "centre and second look": lambda image: [to_square_image(image, size), again(image)],
    }  # fmt: skip


def measure(classifier: Classifier, photos: list[bytes], label_index: np.ndarray, say=print) -> dict:
    """Figures of each way, said as they come. `milliseconds` are those of the network runs alone, a photo's median."""
    checkpoint, figures = classifier.checkpoint, {}
    images = [decode_image(data, decoded_side(checkpoint.image_size)) for data in photos]
    for name, look in ways_to_look(classifier).items():
        probs, times = [], []
        for image in track(images, name):
            squares = [to_pixels(square) for square in look(image)]
            start = time.perf_counter()
            logits = np.stack([classifier.session(square)["logits"] for square in squares])
            times.append(1000 * (time.perf_counter() - start))
            probs.append(fuse_probabilities(checkpoint.calibration(logits)))
        figures[name] = row = figures_of(np.stack(probs), label_index) | {"milliseconds": float(np.median(times))}
        low, high = row["top1_interval"]
        say(f"{name}: top-1 {row['top1']:.1%} ({low:.1%} – {high:.1%}), top-3 {row['top3']:.1%}, "
            f"loss {row['loss']:.3f}, {row['milliseconds']:.1f} ms")  # fmt: skip
    return figures


def figures_of(probs: np.ndarray, label_index: np.ndarray) -> dict:
    """Of (N, C) probabilities and (N,) true positions."""
    best = np.argsort(-probs, axis=1)[:, :3] == label_index[:, None]
    right = int(best[:, 0].sum())
    return {
        "top1": right / len(probs),
        "top1_interval": wilson_interval(right, len(probs)),
        "top3": float(best.any(axis=1).mean()),
        "loss": log_loss(probs, label_index),
    }


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=Path("ml/bundled"))
    parser.add_argument("--split", choices=["val", "test", "all"], default="all")
    parser.add_argument("--photos", type=int, help="at most so many")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    classifier = Classifier.load(chosen.checkpoint, chosen.threads)
    position = {label.slug: index for index, label in enumerate(classifier.checkpoint.labels)}
    dataset = scan_dataset(chosen.dataset) if chosen.split == "all" else load_dataset(chosen.dataset)
    items = [item for item in dataset.items if item.split == chosen.split and item.label in position]
    items = items[:: max(1, len(items) // chosen.photos)] if chosen.photos else items
    print(f"{len(items)} photos, {classifier.checkpoint.name} {classifier.checkpoint.version}")
    return measure(
        classifier, [dataset.read(item) for item in items], np.array([position[item.label] for item in items])
    )


if __name__ == "__main__":
    main()
