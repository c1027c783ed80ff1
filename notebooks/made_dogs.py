"""A small dataset drawn by code, so that the notebooks run anywhere: no photo, no download, the same on every machine.

Two of its breeds look much alike and are of one group, so that there is something to confuse; a few files are copies,
near-duplicates or damaged, so that there is something to find.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance


@dataclass(frozen=True)
class Look:
    """Lengths are shares of the body's; colours are RGB. `photos`: how many are drawn."""

    photos: int
    coat: tuple[int, int, int]
    saddle: tuple[int, int, int]
    chest: tuple[int, int, int]
    legs: float
    girth: float
    muzzle: float
    ear: str
    tail: float


LOOKS = {
    "beagle": Look(64, (222, 205, 180), (72, 50, 40), (240, 232, 220), 0.36, 0.42, 0.20, "hanging", 0.42),
    "boston_bull": Look(90, (44, 40, 44), (36, 32, 36), (236, 232, 228), 0.34, 0.46, 0.05, "pricked", 0.12),
    "greyhound": Look(84, (138, 126, 118), (126, 115, 108), (168, 156, 146), 0.66, 0.34, 0.27, "folded", 0.58),
    "whippet": Look(96, (178, 152, 122), (168, 142, 114), (206, 188, 164), 0.57, 0.31, 0.25, "folded", 0.52),
}
SIZES = [(240, 180), (200, 150), (180, 240), (220, 220), (320, 240)]


def dataset_folder(folder: Path) -> Path:
    """The folder that the environment variable `FLAIR_DATASET` names; without it, `folder` with drawn dogs."""
    named = os.environ.get("FLAIR_DATASET")
    return Path(named) if named else write_dogs(folder)


def write_dogs(folder: Path) -> Path:
    """One folder per breed; among its files a copy, five near-duplicates and one that is cut off."""
    for breed, look in LOOKS.items():
        (folder / breed).mkdir(parents=True)
        for number in range(look.photos):
            drawn_dog(breed, number).save(folder / breed / f"{breed}-{number:03}.jpg", quality=88)
    for number in range(5):
        brighter = ImageEnhance.Brightness(drawn_dog("whippet", number)).enhance(1.06)
        brighter.save(folder / "whippet" / f"whippet-{number:03}-again.jpg", quality=70)
    whole = (folder / "beagle" / "beagle-000.jpg").read_bytes()
    (folder / "beagle" / "beagle-copy.jpg").write_bytes(whole)
    (folder / "beagle" / "beagle-cut-off.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def weights_file(folder: Path) -> Path:
    """The file that `FLAIR_WEIGHTS` names; without it, random weights of a MobileNetV2, in `folder`.

    With plain random numbers nothing would reach its end: so its batch normalisations know the statistics of drawn
    dogs, and its residual blocks add only a little each.
    """
    if named := os.environ.get("FLAIR_WEIGHTS"):
        return Path(named)
    import keras

    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(96, 96, 3))
    names = {layer.name for layer in backbone.layers}
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # so that one batch sets the statistics
            if layer.name.replace("project_BN", "add") in names - {layer.name}:
                layer.gamma.assign(0.2 * layer.gamma)
    dogs = [drawn_dog(breed, 1000 + number).resize((96, 96)) for breed in LOOKS for number in range(12)]
    backbone(np.stack([np.asarray(dog, np.float32) / 127.5 - 1 for dog in dogs]), training=True)
    backbone.save_weights(folder / "random.weights.h5")
    return folder / "random.weights.h5"


def drawn_dog(breed: str, number: int) -> Image.Image:
    """RGB, one of `SIZES`. Place, direction, size, light and surroundings depend on the number."""
    look, rng = LOOKS[breed], np.random.default_rng([list(LOOKS).index(breed), number])
    size = SIZES[int(rng.integers(len(SIZES)))]
    picture = _surroundings(rng, size)
    _draw_dog(picture, look, rng)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.resize(size, Image.Resampling.BICUBIC)  # drawn at twice the size: smooth edges
    return _photographed(picture, rng)


def drawn_ball(number: int, size: tuple[int, int] = (200, 200)) -> Image.Image:
    """The same surroundings with a ball in them, and no dog."""
    rng = np.random.default_rng([len(LOOKS), number])
    picture = _surroundings(rng, size)
    width, height = picture.size
    box = (0.3 * width, 0.35 * height, 0.7 * width, 0.35 * height + 0.4 * width)
    ImageDraw.Draw(picture).ellipse(box, fill=(214, 62, 48), outline=(150, 36, 30), width=6)
    return _photographed(picture.resize(size, Image.Resampling.BICUBIC), rng)


def _surroundings(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Soft blotches, a ground, sometimes a fence: no two alike."""
    width, height = 2 * size[0], 2 * size[1]
    tint = rng.integers(105, 200) + rng.integers(-22, 23, 3)
    blotches = (tint + rng.normal(0, 34, (5, 6, 1)) + rng.normal(0, 9, (5, 6, 3))).clip(20, 255).astype(np.uint8)
    picture = Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    horizon = height * rng.uniform(0.5, 0.68)
    ground = np.array([(96, 128, 70), (150, 126, 96), (128, 128, 132)])[rng.integers(3)] + rng.integers(-25, 25, 3)
    patches = (ground + rng.normal(0, 22, (3, 7, 1))).clip(20, 255).astype(np.uint8)
    picture.paste(Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC), (0, round(horizon)))
    if rng.random() < 0.4:
        board = tuple((tint * 0.6).astype(int).tolist())
        for x in np.arange(rng.uniform(0, 0.1), 1, rng.uniform(0.09, 0.2)) * width:
            draw.rectangle((x, horizon - 0.3 * height, x + 0.03 * width, horizon), fill=board)
    return picture


def _photographed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """More or less light, and the grain of a sensor."""
    pixels = np.asarray(picture) * rng.uniform(0.65, 1.15)
    return Image.fromarray((pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8))


def _draw_dog(picture: Image.Image, look: Look, rng: np.random.Generator) -> None:
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    length = min(width, height) * rng.uniform(0.44, 0.56)
    coat, saddle, chest = (_varied(colour, rng) for colour in (look.coat, look.saddle, look.chest))
    girth, legs = look.girth * length * rng.uniform(0.9, 1.1), look.legs * length * rng.uniform(0.9, 1.1)
    left = width / 2 - length * rng.uniform(0.35, 0.6)
    top = height / 2 - girth * 0.5 + height * rng.uniform(-0.06, 0.08)
    right, bottom, thick = left + length, top + girth, round(length * 0.085)

    def line(points, colour, wide=1.0):
        wide = round(thick * wide)
        draw.line(points, fill=colour, width=wide, joint="curve")
        for x, y in points:
            draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=colour)

    def ellipse(x, y, across, down, colour):
        draw.ellipse((x - across / 2, y - down / 2, x + across / 2, y + down / 2), fill=colour)

    step = length * rng.uniform(-0.07, 0.07)
    for place, swing in ((0.14, step), (0.26, -step), (0.76, step), (0.88, -step)):
        hip = (left + place * length, bottom - girth * 0.35)
        line([hip, (hip[0] + swing, bottom + legs)], coat)
    root = (right - 0.05 * length, top + girth * 0.35)
    wag = rng.uniform(-0.3, 0.45)
    line([root, (root[0] + look.tail * length * 0.8, root[1] - wag * look.tail * length)], coat, 0.7)
    draw.ellipse((left, top, right, bottom), fill=coat)
    ellipse(left + 0.58 * length, top + 0.3 * girth, 0.66 * length, 0.56 * girth, saddle)
    ellipse(left + 0.13 * length, top + 0.62 * girth, 0.26 * length, 0.6 * girth, chest)

    side = length * 0.3
    head = (left - 0.02 * length, top - side * rng.uniform(0.35, 0.75))
    line([(left + 0.16 * length, top + 0.4 * girth), head], coat, 1.9)
    ellipse(*head, side * 1.05, side * 0.95, coat)
    nose = (head[0] - side * 0.35 - look.muzzle * length, head[1] + side * 0.16)
    line([(head[0] - side * 0.1, head[1] + side * 0.12), nose], chest, 1.6)
    ellipse(*nose, thick * 0.9, thick * 0.8, (24, 20, 22))
    ellipse(head[0] - side * 0.16, head[1] - side * 0.12, thick * 0.6, thick * 0.6, (22, 18, 18))
    _draw_ear(draw, look.ear, head, side, saddle)


def _draw_ear(draw: ImageDraw.ImageDraw, ear: str, head: tuple[float, float], side: float, colour) -> None:
    x, y = head[0] + side * 0.24, head[1] - side * 0.3
    if ear == "pricked":
        draw.polygon([(x - side * 0.3, y + 5), (x + side * 0.02, y - side * 0.62), (x + side * 0.22, y + 5)], colour)
    elif ear == "hanging":
        draw.ellipse((x - side * 0.2, y, x + side * 0.28, y + side * 1.0), fill=colour)
    else:
        draw.polygon(
            [(x - side * 0.2, y), (x + side * 0.55, y + side * 0.05), (x + side * 0.05, y + side * 0.4)], colour
        )


def _varied(colour: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(
        np.clip(np.array(colour) * rng.uniform(0.8, 1.15) + rng.integers(-8, 9, 3), 0, 255).astype(int).tolist()
    )
