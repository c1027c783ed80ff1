"""From bytes to pixels: one way in, for training, evaluation and serving alike."""

import io
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from ml import MLError, UnreadableImage
from ml.images.imagefile import inspect_image

# Written into every checkpoint: a classifier is served only with the preprocessing it was trained with.
PREPROCESSING_ID = "upright-rgb-centre-crop-bicubic-1"

PREVIEW_SIDE = 1024

# The classic pipeline of the first own networks, in its order: one channel of grey (ITU-R 601-2 luma), its range
# stretched to 0 to 255, its histogram flattened, its noise smoothed. Any of them, in any order, on colour as well.
STEPS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "greyscale": ImageOps.grayscale,
    "autocontrast": ImageOps.autocontrast,
    "equalise": ImageOps.equalize,
    "gaussian": lambda image: image.filter(ImageFilter.GaussianBlur(radius=1)),
}
CLASSIC_STEPS = tuple(STEPS)


def prepare_image(image_bytes: bytes, image_size: int, steps: Iterable[str] = ()) -> np.ndarray:
    """Bytes of a photo -> (image_size, image_size, C) uint8, 0 to 255: what every network here is fed.

    C is 3 (RGB), or 1 where `greyscale` is among the `steps`, which come after the centre crop, in their order.
    Raises `UnreadableImage`, and `MLError` for an unknown step.
    """
    steps = check_steps(steps)
    square = to_square_image(decode_image(image_bytes, decoded_side(image_size)), image_size)
    return to_pixels(apply_steps(square, steps))


def decoded_side(image_size: int) -> int:
    """The shortest side, in pixels, at which a photo is to be decoded for a network of `image_size` pixels.

    Twice as large as the network sees it; from 448 pixels on 1.6 times will do, so that a photo of 5 MP is decoded at
    1/4 of its size for 288 pixels as for 224, which is much quicker than at 1/2.
    """
    return max(min(2 * image_size, 448), 8 * image_size // 5)


def check_steps(steps: Iterable[str]) -> tuple[str, ...]:
    """The names of `STEPS` in the order given. Raises `MLError` for any other name."""
    steps = tuple(steps)
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise MLError(f"Expected steps among {', '.join(STEPS)}. Received: {', '.join(unknown)}.")
    return steps


def preprocessing_id(steps: Iterable[str] = ()) -> str:
    """Name of the whole way from bytes to pixels: `PREPROCESSING_ID`, and each step after it."""
    return "+".join((PREPROCESSING_ID, *check_steps(steps)))


def apply_steps(image: Image.Image, steps: Iterable[str]) -> Image.Image:
    """An RGB or L image of any size -> the same size, L once `greyscale` has been among the steps."""
    for step in check_steps(steps):
        image = STEPS[step](image)
    return image


def to_pixels(image: Image.Image) -> np.ndarray:
    """RGB -> (H, W, 3), L -> (H, W, 1), uint8."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def decode_image(image_bytes: bytes, shortest_side: int) -> Image.Image:
    """Decode to an upright RGB image of at least `shortest_side` pixels (or its full size, where that is less).

    A JPEG is decoded at 1/2, 1/4 or 1/8 (Pillow's `draft`) while that stays large enough: a 12 MP photo costs a
    quarter of the time. Of an animation the first frame counts. Raises `UnreadableImage`.
    """
    facts = inspect_image(image_bytes)
    try:
        with Image.open(io.BytesIO(image_bytes), formats=[facts.format]) as image:
            image.draft("RGB", (shortest_side, shortest_side))
            image.load()
            return _to_rgb(_upright(image))
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error … for bad bytes.
        # An OSError that escaped would be taken for a failing disk and tried again.
        raise UnreadableImage(
            "undecodable", f"Expected a whole {facts.format}. Received: one that does not decode ({error})."
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block costs the orientation, not the photo
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 or 32 bits of grey: convert() would clip instead of scale
        grey = np.asarray(image).astype(np.float32) / 257.0
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")


def to_square_image(image: Image.Image, image_size: int) -> Image.Image:
    """Centre crop, never a squeeze, to image_size x image_size pixels. A dog keeps its proportions."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    if (width, height) == (image_size, image_size):
        return image
    return image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def render_preview(image: Image.Image, side: int = PREVIEW_SIDE) -> bytes:
    """A JPEG of at most `side` pixels a side, without any metadata but its colour space: what pages show."""
    preview = image.copy()
    preview.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    preview.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    preview.save(stream, "JPEG", quality=85, optimize=False, exif=b"")
    return stream.getvalue()
