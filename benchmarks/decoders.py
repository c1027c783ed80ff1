"""Decoders: each takes the bytes of a JPEG and gives (S, S, 3) uint8, the centre of the photo.

Those that can decode at a reduced scale do once each.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from benchmarks.networks import tensorflow_with
from ml.images.preprocessing import decoded_side, prepare_image, to_square_image

DECODED = "Flair: Pillow at reduced scale"


def decoders(image_size: int, threads: int) -> dict[str, Callable[[], Callable]]:
    """Name -> a function that loads it."""
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
    tf = tensorflow_with(threads)

    def decode(data: bytes) -> np.ndarray:
        image = _centre(tf.io.decode_jpeg(data, channels=3, ratio=ratio))
        square = tf.image.resize(image, (image_size, image_size), method="bicubic", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(square), 0, 255), tf.uint8).numpy()

    return decode


def _simplejpeg(image_size: int) -> Callable:
    import simplejpeg

    def decode(data: bytes) -> np.ndarray:
        least = decoded_side(image_size)
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least, min_factor=1)
        return np.asarray(to_square_image(Image.fromarray(image), image_size))

    return decode


def _centre(image):
    """(H, W, 3) -> its centre square."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
