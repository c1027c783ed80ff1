"""The views of a photo that a network gets."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from ml.data.datasets import Dataset, Item
from ml.images.preprocessing import apply_steps, decode_image, decoded_side, to_pixels, to_square_image


def prepared_square(dataset: Dataset, item: Item, image_size: int, steps: tuple[str, ...]) -> Image.Image:
    """The centre view of a photo after `steps`; of a prepared folder, what lies there already."""
    square = to_square_image(decode_image(dataset.read(item), decoded_side(image_size)), image_size)
    if dataset.steps:
        return square.convert("L") if "greyscale" in dataset.steps else square
    return apply_steps(square, steps)


def centre_images(dataset: Dataset, items: list[Item], image_size: int, steps: tuple[str, ...] = ()) -> np.ndarray:
    """(N, image_size, image_size, C) uint8, the view that serving takes."""
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda i: to_pixels(prepared_square(dataset, i, image_size, steps)), items)))
