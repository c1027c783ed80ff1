"""Keras network -> LiteRT file: the one place where TensorFlow itself is needed, because its converter is."""

import contextlib
import logging
import lzma
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants  # private: tried with TensorFlow 2.21

from ml.serving.calibration import softmax
from ml.training.networks import with_embedding


def export_litert(model: keras.Model, image_size: int, path: Path) -> None:
    """Write `model` for (1, image_size, image_size, 3) float32 pixels with the outputs logits and embedding.

    Weights are stored as float16 and computed with as float32.
    """
    network = with_embedding(model, image_size)
    pixels = tf.TensorSpec((1, image_size, image_size, network.input.shape[-1]), tf.float32, name="pixels")
    traced = tf.function(lambda pixels: network(pixels, training=False)).get_concrete_function(pixels)
    # A graph of constants is saved and converted in a third of the time that one of variables takes.
    frozen, names = convert_to_constants.convert_variables_to_constants_v2(traced), sorted(traced.structured_outputs)
    named = tf.function(lambda pixels: dict(zip(names, frozen(pixels), strict=True))).get_concrete_function(pixels)
    with tempfile.TemporaryDirectory() as folder, _only_errors():
        without_gradients = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(tf.Module(), folder, signatures=named, options=without_gradients)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())


@contextlib.contextmanager
def _only_errors():
    """TensorFlow warns of what is as it should be: a graph that is only run needs no gradients."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def export_compressed(model: keras.Model, image_size: int, path: Path) -> None:
    """As `export_litert`, into an `.xz` file. Its literal coder is told that weights are pairs of bytes."""
    plain = path.with_suffix("")
    export_litert(model, image_size, plain)
    pairs = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]
    with lzma.open(path, "wb", filters=pairs) as file:
        file.write(plain.read_bytes())
    plain.unlink()


def parity(model: keras.Model, session, images: np.ndarray) -> float:
    """Largest difference of a probability between Keras and the runtime on (N, H, W, 3) uint8 images."""
    keras_probs = softmax(np.asarray(model.predict_on_batch(images.astype(np.float32))))
    runtime_probs = softmax(np.stack([session(image)["logits"] for image in images]))
    return float(np.abs(keras_probs - runtime_probs).max())
