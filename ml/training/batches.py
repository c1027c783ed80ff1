"""Batches to train on: the same decoding as in serving, then chance."""

from collections.abc import Callable

import keras
import numpy as np
from PIL import Image, ImageEnhance

from ml.data.datasets import Item


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled batches: images (B, size, size, C) uint8 and, of `targets`, what each photo is to be called.

    `targets` are (N,) label indices or (N, num_classes) probabilities.

    `pixels_of(item, rng)` gives one image. Every random choice depends on (seed, epoch, photo), so that a resumed
    training sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        items: list[Item],
        targets: np.ndarray,
        pixels_of: Callable[[Item, np.random.Generator], np.ndarray],
        *,
        batch_size: int,
        seed: int,
        epoch: int,
    ):
        super().__init__(workers=2, max_queue_size=8)
        self.items, self.targets, self.pixels_of = items, targets, pixels_of
        self.batch_size, self.seed, self.epoch = batch_size, seed, epoch
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.items))

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rngs = (np.random.default_rng([self.seed, self.epoch, int(i)]) for i in chosen)
        images = [self.pixels_of(self.items[i], rng) for i, rng in zip(chosen, rngs, strict=True)]
        return np.stack(images), self.targets[chosen]


def random_crop(image: Image.Image, image_size: int, rng: np.random.Generator) -> Image.Image:
    """Random resized crop (Szegedy et al., 2015; at least 35 % of the area), flip, light, contrast and colour."""
    width, height = image.size
    area = width * height * rng.uniform(0.35, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    crop_width, crop_height = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    image = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.7, 1.3))
    return image


def random_affine(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Rotation of up to 20 degrees, stretch of 0.8 to 1.25 each way, flip; about the centre, size and mode kept."""
    angle = np.deg2rad(rng.uniform(-20, 20))
    stretch = np.exp(rng.uniform(np.log(0.8), np.log(1.25), 2)) * (1 if rng.random() < 0.5 else -1, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / stretch
    centre = np.array(image.size) / 2
    shift = centre - turn @ centre
    matrix = (*turn[0], shift[0], *turn[1], shift[1])  # from where each pixel of the result is taken
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
