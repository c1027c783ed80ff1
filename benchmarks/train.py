"""How much faster is Flair's way to train a head on a frozen backbone than the plain way with Keras?

    python -m benchmarks.train --dataset DIR --weights FILE [--photos 512] [--breeds 120]

Both get the same network, the same photos, already chosen, and all cores, one after the other in one process.

- plain: photos decoded once into memory; then `fit` runs each of them through the frozen backbone in every epoch
  (10 epochs of batches of 32, Adam 1e-3, no augmentation), with the accuracy on val after each. Its best epoch counts.
- Flair: the backbone exported to the runtime, features of each photo computed once (decoding included), and a
  logistic regression by L-BFGS, whose strength is chosen on val. Once with nothing cached, and once more.
"""

import argparse
import hashlib
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import keras

from ml.data.datasets import SPLITS, Dataset, Item, choose_breeds
from ml.data.loading import load_dataset
from ml.data.views import centre_images
from ml.training.features import backbone_file, embed
from ml.training.heads import fit_head
from ml.training.networks import LOGITS_LAYER, build_classifier

IMAGE_SIZE = 224


class Stopwatch:
    """Seconds of each named part, added up over repeats: on the clock, and of processor time over all cores.

    The second hardly depends on what else the machine does.
    """

    def __init__(self):
        self.clock: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str):
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.clock[name] += time.perf_counter() - clock
        self.processor[name] += time.process_time() - processor


def sample(dataset: Dataset, train: int, val: int, seed: int) -> Dataset:
    """At most so many photos of train and val, as evenly over the breeds as can be; none of test."""
    chosen = []
    for split, number in (("train", train), ("val", val)):
        by_label: dict[str, list[Item]] = defaultdict(list)
        for item in sorted(dataset.part(split), key=lambda i: hashlib.sha256(f"{seed}:{i.sha256}".encode()).digest()):
            by_label[item.label].append(item)
        rounds = [item for turn in zip_longest(*by_label.values()) for item in turn if item]
        chosen += rounds[: max(number, len(by_label))]
    return Dataset(dataset.root, chosen, dataset.steps, dataset.image_size)


def plain_way(dataset: Dataset, backbone: str, weights: Path | None, epochs: int) -> tuple[Stopwatch, float]:
    """Seconds of each part, and the best accuracy on val of all epochs."""
    watch, accuracies = Stopwatch(), []
    with watch.part("network"):
        model = build_classifier(backbone, len(dataset.labels), weights=weights)
        for layer in model.layers:
            layer.trainable = layer.name == LOGITS_LAYER
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    with watch.part("decode"):
        images = {split: centre_images(dataset, dataset.part(split), IMAGE_SIZE) for split in ("train", "val")}
        index = {split: dataset.label_index(dataset.part(split)) for split in ("train", "val")}
    for _ in range(epochs):
        with watch.part("fit"):
            model.fit(images["train"], index["train"], batch_size=32, verbose=0)
        with watch.part("validate"):
            figures = model.evaluate(images["val"], index["val"], batch_size=32, verbose=0, return_dict=True)
        accuracies.append(figures["accuracy"])
    return watch, max(accuracies)


def flairs_way(dataset: Dataset, backbone: str, weights: Path | None, cache_dir: Path) -> tuple[Stopwatch, float]:
    """Seconds of each part, and the accuracy on val."""
    watch, parts = Stopwatch(), [dataset.part(split) for split in ("train", "val")]
    with watch.part("network"):
        model = build_classifier(backbone, len(dataset.labels), weights=weights)
    with watch.part("export"):
        runtime_file = backbone_file(model, IMAGE_SIZE, cache_dir)
    with watch.part("features"):
        train, val = (embed(runtime_file, dataset, items, cache_dir, IMAGE_SIZE) for items in parts)
    with watch.part("head"):
        train_index, val_index = map(dataset.label_index, parts)
        kernel, bias = fit_head(train, val, train_index, val_index)
    return watch, float(((val @ kernel + bias).argmax(axis=1) == val_index).mean())


def compare(dataset: Dataset, backbone: str, weights: Path | None, epochs: int, say=print) -> dict:
    """Both ways, one after the other; returns seconds, accuracies and ratios, and says them."""
    keras.utils.set_random_seed(0)
    figures: dict = {split: len(dataset.part(split)) for split in SPLITS}
    say(f"{len(dataset.labels)} breeds, {figures['train']} photos to train on, {figures['val']} of val")
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "Flair, cold": lambda: flairs_way(dataset, backbone, weights, Path(folder)),
            "Flair, warm": lambda: flairs_way(dataset, backbone, weights, Path(folder)),
            "plain Keras": lambda: plain_way(dataset, backbone, weights, epochs),
        }
        for name, way in ways.items():
            watch, accuracy = way()
            figures[name] = {"clock": watch.clock, "processor": watch.processor, "accuracy": accuracy}
            for kind, parts in (("on the clock", watch.clock), ("of processor time", watch.processor)):
                listed = ", ".join(f"{part} {seconds:.2f}" for part, seconds in parts.items())
                say(f"{name}: {sum(parts.values()):7.2f} s {kind} ({listed})")
            say(f"{name}: val accuracy {accuracy:.1%}")
    figures["ratios"] = {kind: ratios(figures, kind) for kind in ("clock", "processor")}
    for kind, named in figures["ratios"].items():
        for name, ratio in named.items():
            say(f"{name}: {ratio:.1f} times as fast by the {kind}")
    return figures


def ratios(figures: dict, kind: str) -> dict[str, float]:
    """Seconds of the plain way over those of Flair's."""
    plain, cold, warm = (figures[name][kind] for name in ("plain Keras", "Flair, cold", "Flair, warm"))
    total = sum(plain.values())
    return {
        "cold": total / sum(cold.values()),
        "cold, network exported before": total / (sum(cold.values()) - cold["export"]),
        "warm": total / sum(warm.values()),
    }


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="weights file of the backbone (default: random)")
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--photos", type=int, default=512, help="of the train split")
    parser.add_argument("--val-photos", type=int, help="of the val split (default: a quarter of --photos)")
    parser.add_argument("--breeds", default="", help="3, 20, 50, 120 or names with commas (default: all)")
    parser.add_argument("--epochs", type=int, default=10, help="of the plain way")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    labels = choose_breeds(chosen.dataset, chosen.breeds) if chosen.breeds else None
    dataset = load_dataset(chosen.dataset, seed=chosen.seed, labels=labels)
    dataset = sample(dataset, chosen.photos, chosen.val_photos or chosen.photos // 4, chosen.seed)
    return compare(dataset, chosen.backbone, chosen.weights, chosen.epochs)


if __name__ == "__main__":
    main()
