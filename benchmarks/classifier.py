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
import contextlib
import io
import json
import lzma
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ml.calibration import softmax
from ml.evaluation import wilson_interval
from ml.inference import Classifier, Session
from ml.preprocessing import decode_image, prepare_image, render_preview, to_square_image

SERVED = "LiteRT, as served"
DECODED = "Flair: Pillow at reduced scale"
PARITY_LIMIT = 1e-3  # of a probability, against Keras
FIVE_MEGAPIXELS = (2592, 1944)


class Missing(Exception):
    """A package that is not installed, or a conversion that failed: the candidate is named and left out."""


# -- photos -----------------------------------------------------------------------------------------------------------


def made_jpeg(size: tuple[int, int] = FIVE_MEGAPIXELS, seed: int = 0) -> bytes:
    """A JPEG as a phone writes it: soft shapes, some grain, quality 90."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (size[1], size[0], 1)).astype(np.float32)
    pixels = (np.asarray(shapes) + grain).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def photos_of(dataset: Path | None, number: int, checkpoint) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, S, S, C) uint8 and (N,) label positions, evenly over val; without a dataset made pictures, without labels."""
    size, steps = checkpoint.image_size, checkpoint.steps
    if dataset is None:
        made = [prepare_image(made_jpeg((320, 240), seed), size, steps) for seed in range(min(number, 16))]
        return np.stack(made), None
    from ml.datasets import load_dataset

    position = {label.slug: index for index, label in enumerate(checkpoint.labels)}
    found = load_dataset(dataset, seed=0)
    items = [item for item in found.part("val") if item.label in position]
    items = items[:: max(1, len(items) // number)][:number]
    images = np.stack([prepare_image(found.read(item), size, steps) for item in items])
    return images, np.array([position[item.label] for item in items])


# -- networks: each takes (S, S, C) uint8 and gives (C,) logits -------------------------------------------------------


def convert(checkpoint, folder: Path) -> None:
    """Write what ONNX Runtime and OpenVINO read into `folder`, where their packages are there.

    ONNX comes from the LiteRT file by tf2onnx: Keras' own exporter goes the same way around the same package. OpenVINO
    comes from Keras; it reads the LiteRT file as well, which is measured beside it.
    """
    plain = folder / "network.tflite"
    plain.write_bytes(lzma.decompress(checkpoint.model_path.read_bytes()))
    with contextlib.suppress(ImportError), _silence():
        import tf2onnx

        tf2onnx.convert.from_tflite(str(plain), opset=18, output_path=str(folder / "network.onnx"))
    with contextlib.suppress(ImportError), _silence():
        import openvino  # noqa: F401

        _keras_of(checkpoint).export(str(folder / "network.xml"), format="openvino", verbose=False)


def networks(checkpoint, threads: int, converted: Path) -> dict[str, Callable[[], Callable]]:
    """Name -> a function that loads it."""
    return {
        SERVED: lambda: _litert(checkpoint.model_path, threads),
        "Keras predict": lambda: _keras_predict(checkpoint, threads),
        "tf.function": lambda: _tf_function(checkpoint, threads),
        "ONNX Runtime": lambda: _onnx(converted / "network.onnx", threads, len(checkpoint.labels)),
        "OpenVINO, from Keras": lambda: _openvino(converted / "network.xml", threads, len(checkpoint.labels)),
        "OpenVINO, the LiteRT file": lambda: _openvino(converted / "network.tflite", threads, len(checkpoint.labels)),
    }


def _litert(path: Path, threads: int) -> Callable:
    session = Session(path, num_threads=threads)
    return lambda image: session(image)["logits"]


def _keras_of(checkpoint):
    """The Keras network with a fixed input of one photo, called once, as exporters want it."""
    if not (checkpoint.folder / "model.keras").is_file():
        raise Missing("the checkpoint has no model.keras")
    import keras

    channels = 1 if "greyscale" in checkpoint.steps else 3
    network = keras.saving.load_model(checkpoint.folder / "model.keras", compile=False)
    pixels = keras.Input((checkpoint.image_size, checkpoint.image_size, channels), batch_size=1, name="pixels")
    fixed = keras.Model(pixels, network(pixels))
    fixed(np.zeros((1, checkpoint.image_size, checkpoint.image_size, channels), np.float32))
    return fixed


def _keras_predict(checkpoint, threads: int) -> Callable:
    _tensorflow(threads)
    network = _keras_of(checkpoint)
    return lambda image: network.predict(image[None].astype(np.float32), verbose=0)[0]


def _tf_function(checkpoint, threads: int) -> Callable:
    tf = _tensorflow(threads)
    network = _keras_of(checkpoint)
    graph = tf.function(lambda pixels: network(pixels, training=False))
    return lambda image: graph(tf.constant(image[None], tf.float32)).numpy()[0]


def _tensorflow(threads: int):
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it was loaded already; this process has one number of threads only
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _onnx(path: Path, threads: int, num_classes: int) -> Callable:
    import onnxruntime

    if not path.is_file():
        raise Missing("the network was not converted: tf2onnx is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pixels, outputs = session.get_inputs()[0].name, session.get_outputs()
    logits = next(out.name for out in outputs if out.shape[-1] == num_classes)
    return lambda image: session.run([logits], {pixels: image[None].astype(np.float32)})[0][0]


def _openvino(path: Path, threads: int, num_classes: int) -> Callable:
    import openvino

    if not path.is_file():
        raise Missing("the network was not converted")
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    logits = next(out for out in compiled.outputs if out.partial_shape[-1].get_length() == num_classes)
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> np.ndarray:
        return request.infer(image[None].astype(np.float32))[logits][0].copy()

    return run


# -- decoders: each takes the bytes of a JPEG and gives (S, S, 3) uint8 ------------------------------------------------


def decoders(image_size: int, threads: int) -> dict[str, Callable[[], Callable]]:
    """Name -> a function that loads it. All crop the centre; those that can decode at a reduced scale do once each."""
    return {
        DECODED: lambda: lambda data: prepare_image(data, image_size),
        "Pillow at full scale": lambda: lambda data: _pillow(data, image_size),
        "OpenCV at full scale": lambda: _opencv(image_size, threads, reduced=False),
        "OpenCV at 1/4": lambda: _opencv(image_size, threads, reduced=True),
        "TensorFlow at full scale": lambda: _tensorflow_decoder(image_size, threads, ratio=1),
        "TensorFlow at 1/4": lambda: _tensorflow_decoder(image_size, threads, ratio=4),
        "simplejpeg (libjpeg-turbo) at reduced scale": lambda: _simplejpeg(image_size),
    }


def _pillow(data: bytes, image_size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(to_square_image(image.convert("RGB"), image_size))


def _opencv(image_size: int, threads: int, *, reduced: bool) -> Callable:
    import cv2

    cv2.setNumThreads(threads)
    flag = cv2.IMREAD_REDUCED_COLOR_4 if reduced else cv2.IMREAD_COLOR

    def decode(data: bytes) -> np.ndarray:
        image = _centre(cv2.imdecode(np.frombuffer(data, np.uint8), flag))
        return cv2.cvtColor(
            cv2.resize(image, (image_size, image_size), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB
        )

    return decode


def _tensorflow_decoder(image_size: int, threads: int, ratio: int) -> Callable:
    tf = _tensorflow(threads)

    def decode(data: bytes) -> np.ndarray:
        image = _centre(tf.io.decode_jpeg(data, channels=3, ratio=ratio))
        square = tf.image.resize(image, (image_size, image_size), method="bicubic", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(square), 0, 255), tf.uint8).numpy()

    return decode


def _simplejpeg(image_size: int) -> Callable:
    import simplejpeg

    def decode(data: bytes) -> np.ndarray:
        least = 2 * image_size
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least, min_factor=1)
        return np.asarray(to_square_image(Image.fromarray(image), image_size))

    return decode


def _centre(image):
    """(H, W, 3) -> its centre square."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


# -- the race ---------------------------------------------------------------------------------------------------------


def load(candidates: dict[str, Callable[[], Callable]]) -> tuple[dict[str, Callable], dict[str, str]]:
    """Those that load, and why the others did not."""
    loaded, missing = {}, {}
    for name, make in candidates.items():
        try:
            loaded[name] = make()
        except (ImportError, Missing) as error:
            missing[name] = str(error)
    return loaded, missing


def race(candidates: dict[str, Callable[[], object]], rounds: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Milliseconds of one call of each over `rounds`, after one that does not count.

    `median` and `p90` on the clock; `processor`: median of processor time over all cores, which hardly depends on what
    else the machine does.
    """
    order, times = list(candidates), {name: ([], []) for name in candidates}
    shuffle = random.Random(seed).shuffle
    for turn in range(rounds + 1):
        shuffle(order)
        for name in order:
            clock, processor = time.perf_counter(), time.process_time()
            candidates[name]()
            if turn:
                times[name][0].append(1000 * (time.perf_counter() - clock))
                times[name][1].append(1000 * (time.process_time() - processor))
    return {
        name: {
            "median": statistics.median(clock),
            "p90": float(np.quantile(clock, 0.9)),
            "processor": statistics.median(processor),
        }
        for name, (clock, processor) in times.items()
    }


def compare_networks(loaded: dict[str, Callable], images, label_index, temperature: float, rounds: int) -> dict:
    """Parity with the first network that Keras runs (else the served one), accuracy, and milliseconds of each."""
    reference = next((name for name in loaded if name.startswith(("Keras", "tf."))), SERVED)
    probs = {name: softmax(np.stack([run(image) for image in images]), temperature) for name, run in loaded.items()}
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
    decoded = decode_image(data, 2 * checkpoint.image_size)
    pixels = prepare_image(data, checkpoint.image_size, checkpoint.steps)
    answer = classifier.session(pixels)
    figures = race(
        {
            "bytes to decision": lambda: classifier.classify(data),
            "decode alone": lambda: decode_image(data, 2 * checkpoint.image_size),
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
        "networks": compare_networks(runs, images, label_index, checkpoint.temperature, chosen.rounds),
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
        [[name, *_speed(row, served), _accuracy(row), f"{row['difference']:.0e}"]
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
        [[name, *_speed(row, flair), f"{row['difference']:.2f}"] for name, row in figures["decoders"].items()],
    )
    parts = figures["whole"]["parts"]
    whole = parts["bytes to decision"]["median"]
    say_table(
        ["the whole way", "median ms", "p90 ms", "processor ms", "share"],
        [[name, *_speed(row, whole)] for name, row in parts.items()],
    )
    print(f"\nbytes to decision over decode alone + network alone: {figures['whole']['ratio']:.2f}")
    for name, why in figures["missing"].items():
        print(f"left out: {name} ({why})")


def say_table(heads: list[str], rows: list[list[str]]) -> None:
    print("\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)))


def _speed(row: dict, of: float) -> list[str]:
    if "median" not in row:
        return ["not the same function", "", "", ""]
    return [f"{row['median']:.1f}", f"{row['p90']:.1f}", f"{row['processor']:.1f}", f"{row['median'] / of:.2f}"]


def _accuracy(row: dict) -> str:
    return f"{row['top1']:.1%} ({row['interval'][0]:.1%} – {row['interval'][1]:.1%})" if "top1" in row else ""


@contextlib.contextmanager
def _silence():
    """Converters print pages."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


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
