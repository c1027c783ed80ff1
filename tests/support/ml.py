"""Pictures, files, datasets, networks and checkpoints for `tests/ml`, small enough to be made again for every test.

Keras is imported inside the functions that need it, because loading it takes seconds.
"""

import io
import lzma
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ml.files import write_json
from ml.serving.checkpoint import seal_checkpoint, write_labels
from ml.serving.decision import Label

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = REPOSITORY / "ml" / "bundled"

ORIENTATION_TAG = 0x0112

# How a camera that writes this EXIF orientation has turned the upright picture before it stored it.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

BREEDS = ["bolognese", "pug", "whippet"]
LABELS = [Label("red_setter", "setters"), Label("green_setter", "setters"), Label("blue_dingo", "wild", wild=True)]


class Killed(BaseException):
    """Ends a run like a signal: `except Exception` does not catch it."""


# -- processes --------------------------------------------------------------------------------------------------------


def run_fresh(code: str, data_dir: Path) -> str:
    """What a new Python process prints, with the settings of the project and a data folder of its own."""
    environment = {"DJANGO_SETTINGS_MODULE": "shelter.settings", "FLAIR_DATA_DIR": str(data_dir), "PATH": ""}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


# -- pictures ---------------------------------------------------------------------------------------------------------


def plain_picture(colour, size=(64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def soft_picture(seed: int, size=(64, 48)) -> Image.Image:
    """Soft random blotches: no two seeds look alike, and a photo's codec has little to lose."""
    blotches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC)


def corner_picture(size=(64, 48)) -> Image.Image:
    """Red, green / blue, white: every turn and every mirror image of it is another picture."""
    picture = plain_picture("white", size)
    width, height = size
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill="red")
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill="lime")
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill="blue")
    return picture


def drawn_dog(breed: int, seed: int, size=(48, 48)) -> Image.Image:
    """A shape and a colour for each of three breeds, on a background that differs from photo to photo."""
    rng = np.random.default_rng([breed, seed])
    picture = soft_picture(1000 * breed + seed, size)
    left, top = rng.integers(4, 16, 2).tolist()
    box = (left, top, left + 24, top + 24)
    draw = ImageDraw.Draw(picture)
    if breed == 0:
        draw.ellipse(box, fill="red")
    elif breed == 1:
        draw.rectangle(box, fill="lime")
    else:
        draw.polygon([(left + 12, top), (left, top + 24), (left + 24, top + 24)], fill="blue")
    return picture


# -- files ------------------------------------------------------------------------------------------------------------


def encode(picture: Image.Image, image_format: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, image_format, **options)
    return stream.getvalue()


def encode_turned(picture: Image.Image, orientation: int, image_format: str = "JPEG", **options) -> bytes:
    """The file of a camera that was held so that `picture` has this EXIF orientation."""
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encode(
        picture.transpose(turn) if turn is not None else picture, image_format, exif=exif.tobytes(), **options
    )


def png_by_hand(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of 8-bit greys that claims this size, whatever is in `pixels`."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def with_scans(jpeg: bytes, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are that many."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * (scans - jpeg.count(b"\xff\xda")) + b"\xff\xd9"


# -- datasets ---------------------------------------------------------------------------------------------------------


def write_photo(path: Path, picture: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def write_dataset(folder: Path, breeds=BREEDS, photos: int = 20, first: int = 0) -> Path:
    """One folder per breed, with drawn dogs number `first` and following."""
    for breed, name in enumerate(breeds):
        for number in range(first, first + photos):
            write_photo(folder / name / f"{name}-{number}.jpg", drawn_dog(breed, number), quality=90)
    return folder


# -- networks and checkpoints -----------------------------------------------------------------------------------------


def write_checkpoint(
    folder: Path,
    network: bytes = b"a network",
    labels=LABELS,
    temperature: float = 1.0,
    thresholds=None,
    image_size: int = 32,
    familiarity=None,
    **info,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.tflite.xz").write_bytes(lzma.compress(network))
    write_labels(folder, labels)
    write_json(folder / "calibration.json", {"temperature": temperature})
    write_json(folder / "decision.json", {"thresholds": thresholds or {"energy": 0.0, "breed": 0.7, "group": 0.8}})
    if familiarity:
        familiarity.save(folder / "familiarity.npz")
    seal(folder, image_size=image_size, **info)
    return folder


def seal(folder: Path, **info) -> str:
    return seal_checkpoint(
        folder, **{"name": "made", "backbone": "none", "image_size": 32, "created": "2026-01-01", **info}
    )


def colour_model(strength: float = 10.0):
    """A Keras network whose three logits are `strength` times the mean red, green and blue (0 to 1) of a photo."""
    import keras
    from keras import layers

    pixels = keras.Input((None, None, 3), name="pixels")
    embedding = layers.GlobalAveragePooling2D(name="embedding")(layers.Rescaling(1 / 255)(pixels))
    network = keras.Model(pixels, layers.Dense(3, name="logits")(embedding))
    network.get_layer("logits").set_weights([np.eye(3, dtype=np.float32) * strength, np.zeros(3, np.float32)])
    return network


@cache
def colour_network(strength: float = 10.0) -> bytes:
    """`colour_model` as a runtime file for photos of 32 px."""
    import tempfile

    from ml.training.export import export_litert

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export_litert(colour_model(strength), 32, path)
        return path.read_bytes()


def use_tiny_backbone(monkeypatch) -> None:
    """Add a backbone of two convolutions under the name `tiny`."""
    import keras
    from keras import layers

    from ml.training.networks import BACKBONES, Backbone

    def build(weights=None, include_top=False, input_tensor=None, input_shape=None):
        x = keras.Input(input_shape) if input_tensor is None else input_tensor
        inputs = keras.utils.get_source_inputs(x)
        x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ReLU()(layers.Conv2D(16, 3, strides=2)(x))
        return keras.Model(inputs, x)

    monkeypatch.setitem(BACKBONES, "tiny", Backbone("Tiny", scale=1 / 127.5, offset=-1.0))
    monkeypatch.setattr(keras.applications, "Tiny", build, raising=False)
