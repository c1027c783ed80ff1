"""How quick is the classifier as Flair serves it, beside other runtimes for the same network and other decoders?

    make bench-classifier ARGS="--dataset DIR --photos 300 --rounds 30"
    python -m benchmarks.classifier [--checkpoint ml/bundled] [--dataset DIR] [--jpeg FILE] [--threads 1 2]

For each number of threads a process of its own, since TensorFlow takes its number once; in it, side by side:

- networks: LiteRT as served, Keras `predict`, `tf.function`, ONNX Runtime and OpenVINO, each first compared with Keras
  on the same photos and left out of the race where a probability differs by more than `PARITY_LIMIT`;
- decoders: from the bytes of a 5 MP JPEG to the pixels of the network, by several libraries;
- the whole way, from bytes to decision, beside decoding alone and the network alone.

Candidates take turns, in another order every round, so that whatever else the machine does falls on all of them;
medians count. Runtimes that are not installed are named and left out (`requirements-bench.txt` has them).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.decoders import DECODED, decoders
from benchmarks.networks import SERVED, convert, networks
from benchmarks.racing import load, made_jpeg, race, say_table, speed
from ml.evaluation.metrics import wilson_interval
from ml.images.preprocessing import decode_image, decoded_side, prepare_image, render_preview, to_square_image
from ml.serving.inference import Classifier

PARITY_LIMIT = 1e-3  # of a probability, against Keras


def photos_of(dataset: Path | None, number: int, checkpoint) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, S, S, C) uint8 and (N,) label positions, evenly over val; without a dataset made pictures, without labels."""
    size, steps = checkpoint.image_size, checkpoint.steps
    if dataset is None:
        made = [prepare_image(made_jpeg((320, 240), seed), size, steps) for seed in range(min(number, 16))]
        return np.stack(made), None
    from ml.data.loading import load_dataset

    position = {label.slug: index for index, label in enumerate(checkpoint.labels)}
    found = load_dataset(dataset, seed=0)
    items = [item for item in found.part("val") if item.label in position]
    items = items[:: max(1, len(items) // number)][:number]
    images = np.stack([prepare_image(found.read(item), size, steps) for item in items])
    return images, np.array([position[item.label] for item in items])


def compare_networks(loaded: dict[str, Callable], images, label_index, calibration: Callable, rounds: int) -> dict:
    """Parity with the first network that Keras runs (else the served one), accuracy, and milliseconds of each."""
    reference = next((name for name in loaded if name.startswith(("Keras", "tf."))), SERVED)
    probs = {name: calibration(np.stack([run(image) for image in images])) for name, run in loaded.items()}
    figures: dict = {}
    for name, found in probs.items():
        figures[name] = {"difference": float(np.abs(found - probs[reference]).max()), "reference": reference}
        if label_index is not None:
            right = int((found.argmax(axis=1) == label_index).sum())
            figures[name] |= {"top1": right / len(images), "interval": wilson_interval(right, len(images))}
    equal = {name: run for name, run in loaded.items() if figures[name]["difference"] <= PARITY_LIMIT}
    turns = {name: (lambda run=run: run(images[0])) for name, run in equal.items()}
    for name, milliseconds in race(turns, rounds).items():
        figures[name] |= milliseconds
    return figures


def compare_decoders(loaded: dict[str, Callable], data: bytes, rounds: int) -> dict:
    """Milliseconds of each, and how far its pixels are from those of Pillow at full scale (of 255, on average)."""
    exact = loaded["Pillow at full scale"](data).astype(np.float32)
    figures = race({name: (lambda decode=decode: decode(data)) for name, decode in loaded.items()}, rounds)
    for name, decode in loaded.items():
        figures[name]["difference"] = float(np.abs(decode(data) - exact).mean())
    return figures


def compare_whole(classifier: Classifier, data: bytes, rounds: int) -> dict:
    """The whole way beside its parts, in the same rounds. `ratio`: over decoding alone plus the bare network alone."""
    checkpoint = classifier.checkpoint
    decoded = decode_image(data, decoded_side(checkpoint.image_size))
    pixels = prepare_image(data, checkpoint.image_size, checkpoint.steps)
    answer = classifier.session(pixels)
    figures = race(
        {
            "bytes to decision": lambda: classifier.classify(data),
            "decode alone": lambda: decode_image(data, decoded_side(checkpoint.image_size)),
            "network alone": lambda: classifier.session(pixels),
            "centre crop": lambda: to_square_image(decoded, checkpoint.image_size),
            "preview": lambda: render_preview(decoded),
            "decision": lambda: classifier.decide(answer["logits"], answer["embedding"]),
        },
        rounds,
    )
    median = {name: row["median"] for name, row in figures.items()}
    return {"parts": figures, "ratio": median["bytes to decision"] / (median["decode alone"] + median["network alone"])}


def measure(chosen, threads: int, converted: Path) -> dict:
    """Everything with this number of threads, in this process."""
    classifier = Classifier.load(chosen.checkpoint, threads)
    checkpoint = classifier.checkpoint
    images, label_index = photos_of(chosen.dataset, chosen.photos, checkpoint)
    data = chosen.jpeg.read_bytes() if chosen.jpeg else made_jpeg()
    whole = compare_whole(classifier, data, chosen.rounds)  # before TensorFlow is loaded, as in serving
    runs, missing = load(networks(checkpoint, threads, converted))
    ways, missing_ways = load(decoders(checkpoint.image_size, threads))
    return {
        "threads": threads,
        "photos": len(images),
        "jpeg": len(data),
        "networks": compare_networks(runs, images, label_index, checkpoint.calibration, chosen.rounds),
        "decoders": compare_decoders(ways, data, chosen.rounds),
        "whole": whole,
        "missing": missing | missing_ways,
        "load": os.getloadavg()[0],
    }


def say(figures: dict) -> None:
    print(f"\n{figures['threads']} thread(s), {figures['photos']} photos, a JPEG of {figures['jpeg'] / 1e6:.1f} MB, "
          f"load of the machine {figures['load']:.1f} on {os.cpu_count()} cores")  # fmt: skip
    served = figures["networks"][SERVED]["median"]
    say_table(
        ["network", "median ms", "p90 ms", "processor ms", "times the served one", "top-1", "largest difference"],
        [[name, *speed(row, served), _accuracy(row), f"{row['difference']:.0e}"]
         for name, row in figures["networks"].items()],
    )  # fmt: skip
    flair = figures["decoders"][DECODED]["median"]
    say_table(
        [
            "from 5 MP JPEG to pixels",
            "median ms",
            "p90 ms",
            "processor ms",
            "times Flair's way",
            "mean difference of 255",
        ],
        [[name, *speed(row, flair), f"{row['difference']:.2f}"] for name, row in figures["decoders"].items()],
    )
    parts = figures["whole"]["parts"]
    whole = parts["bytes to decision"]["median"]
    say_table(
        ["the whole way", "median ms", "p90 ms", "processor ms", "share"],
        [[name, *speed(row, whole)] for name, row in parts.items()],
    )
    print(f"\nbytes to decision over decode alone + network alone: {figures['whole']['ratio']:.2f}")
    for name, why in figures["missing"].items():
        print(f"left out: {name} ({why})")


def _accuracy(row: dict) -> str:
    return f"{row['top1']:.1%} ({row['interval'][0]:.1%} – {row['interval'][1]:.1%})" if "top1" in row else ""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("ml/bundled"))
    parser.add_argument("--dataset", type=Path, help="for the accuracy on val (default: made pictures, no accuracy)")
    parser.add_argument("--photos", type=int, default=300, help="of val, evenly (default 300)")
    parser.add_argument("--jpeg", type=Path, help="a 5 MP JPEG (default: one made by code)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument(
        "--converted", type=Path, help=argparse.SUPPRESS
    )  # set for the process of one number of threads
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[dict]:
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if chosen.converted:
        found = [measure(chosen, chosen.threads[0], chosen.converted)]
        chosen.out.write_text(json.dumps(found))
        return found
    print(
        f"{chosen.checkpoint.name} on {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    )
    figures: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        convert(Classifier.load(chosen.checkpoint).checkpoint, Path(folder))
        for threads in chosen.threads:
            out = Path(folder) / f"{threads}.json"
            command = [sys.executable, "-m", "benchmarks.classifier", *arguments, "--threads", str(threads)]
            subprocess.run([*command, "--converted", folder, "--out", str(out)], check=True)
            figures += json.loads(out.read_text())
            say(figures[-1])
    if chosen.out:
        chosen.out.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


if __name__ == "__main__":
    main()
