"""Runtimes for the network of a checkpoint: each takes (S, S, C) uint8 pixels and gives (C,) logits."""

import contextlib
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.racing import Missing
from ml.serving.inference import Session

SERVED = "LiteRT, as served"


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
    tensorflow_with(threads)
    network = _keras_of(checkpoint)
    return lambda image: network.predict(image[None].astype(np.float32), verbose=0)[0]


def _tf_function(checkpoint, threads: int) -> Callable:
    tf = tensorflow_with(threads)
    network = _keras_of(checkpoint)
    graph = tf.function(lambda pixels: network(pixels, training=False))
    return lambda image: graph(tf.constant(image[None], tf.float32)).numpy()[0]


def tensorflow_with(threads: int):
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


@contextlib.contextmanager
def _silence():
    """Converters print pages."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
