"""What is this file? Format by content, size in pixels, wholeness: all without decoding a pixel.

Every entry (upload, API, command line, training) asks here first, so that a bomb or half a file is refused
before it costs anything, the same way everywhere.
"""

import contextlib
import io
import re
import struct
from dataclasses import dataclass
from datetime import datetime

import pillow_heif
from PIL import ExifTags, Image

from ml import UnreadableImage

pillow_heif.register_heif_opener()

# Our own limits below are stricter and depend on the format; Pillow's would only add a warning.
Image.MAX_IMAGE_PIXELS = None

# JPEG is decoded at reduced scale, so that even a 108 MP phone photo is cheap; the others are decoded whole.
MAX_PIXELS = {"JPEG": 120_000_000, "HEIF": 64_000_000, "PNG": 32_000_000, "WEBP": 32_000_000}

FIRST_DIGITAL_YEAR = 1990

# A 155 kB progressive JPEG with 300 scans costs 13 s to decode; cameras and encoders write about ten.
MAX_JPEG_SCANS = 64

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "HEIF": "image/heic"}
EXTENSIONS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "HEIF": ".heic"}

_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
# The last 0xFF of however many stand before a code: with all of them (`\xff+`) a long run is searched again from
# each of its bytes. A pattern that starts with one literal byte is found by memchr, many times as fast.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\x01\xd0-\xd7])")
JPEG_SOS, JPEG_EOI = 0xDA, 0xD9


@dataclass(frozen=True)
class ImageFacts:
    """`format` is a key of `MEDIA_TYPES`; `width` and `height` are in pixels, upright.

    `taken_at` is what the camera's clock said, without a time zone; None where the file does not tell.
    """

    format: str
    width: int
    height: int
    taken_at: datetime | None = None

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.format]


def inspect_image(image_bytes: bytes) -> ImageFacts:
    """Return the facts of a photo, or raise `UnreadableImage` for what can not or must not be decoded."""
    if not image_bytes:
        raise UnreadableImage("empty", "Expected a photo. Received: an empty file (0 bytes).")
    image_format = _format_of(image_bytes)
    {"JPEG": _check_jpeg, "PNG": _check_png, "WEBP": _check_webp, "HEIF": _check_heif}[image_format](image_bytes)
    width, height, exif_bytes = _header_of(image_bytes, image_format)
    if width * height > MAX_PIXELS[image_format]:
        raise UnreadableImage(
            "too_many_pixels",
            f"Expected at most {MAX_PIXELS[image_format] / 1e6:.0f} million pixels in a {image_format}. "
            f"Received: {width} x {height} = {width * height / 1e6:.0f} million.",
        )
    if orientation_of(exif_bytes) >= 5:
        width, height = height, width
    return ImageFacts(image_format, width, height, taken_at_of(exif_bytes))


def _format_of(image_bytes: bytes) -> str:
    head = image_bytes[:12]
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "HEIF"
    raise UnreadableImage(
        "not_an_image", f"Expected a JPEG, PNG, WebP or HEIC photo. Received: a file that starts with {head!r}."
    )


def _header_of(image_bytes: bytes, image_format: str) -> tuple[int, int, bytes]:
    """Width and height as stored, and the EXIF block."""
    try:
        with Image.open(io.BytesIO(image_bytes), formats=[image_format]) as image:
            return *image.size, image.info.get("exif", b"")
    except Exception as error:  # Pillow's readers raise nearly anything on a broken header
        raise UnreadableImage(
            "undecodable", f"Expected a whole {image_format}. Received: a broken header ({error})."
        ) from error


def orientation_of(exif_bytes: bytes) -> int:
    """1 to 8, from 5 on the photo lies on its side.

    From the EXIF block alone: `image.getexif()` would decode a whole PNG in search of one.
    """
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # a broken block costs the orientation, not the photo
        exif.load(exif_bytes)
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation if isinstance(orientation, int) else 1  # a tag may hold anything, a text for instance


def taken_at_of(exif_bytes: bytes) -> datetime | None:
    """When the camera says that it took the photo, by its own clock; None for what no camera writes."""
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        written = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal, "")
        taken_at = datetime.strptime(str(written).strip("\x00 "), "%Y:%m:%d %H:%M:%S")
    except Exception:  # a broken block costs the time, not the photo
        return None
    return taken_at if taken_at.year >= FIRST_DIGITAL_YEAR else None  # a camera whose clock was never set


def _truncated(image_format: str, missing: str) -> UnreadableImage:
    return UnreadableImage(
        "truncated", f"Expected a whole {image_format}. Received: a file cut short, without its {missing}."
    )


def _check_jpeg(image_bytes: bytes) -> None:
    """Walk the markers to the end of the image (ITU-T T.81, annex B); what phones append after it does not count."""
    position, scans = 2, 0
    while True:
        marker = JPEG_MARKER.search(image_bytes, position)
        if marker is None:
            raise _truncated("JPEG", "end marker")
        code, position = marker[1][0], marker.end()
        if code == JPEG_EOI:
            break
        scans += code == JPEG_SOS
        if scans > MAX_JPEG_SCANS:
            raise UnreadableImage(
                "too_many_scans", f"Expected at most {MAX_JPEG_SCANS} scans in a JPEG. Received: more than that."
            )
        position += int.from_bytes(image_bytes[position : position + 2], "big")
    if scans == 0:
        raise _truncated("JPEG", "pixels")


def _check_png(image_bytes: bytes) -> None:
    position = 8
    while position + 12 <= len(image_bytes):
        length, kind = struct.unpack_from(">I4s", image_bytes, position)
        position += 12 + length
        if kind == b"IEND" and position <= len(image_bytes):
            return
    raise _truncated("PNG", "end chunk")


def _check_webp(image_bytes: bytes) -> None:
    if struct.unpack_from("<I", image_bytes, 4)[0] + 8 > len(image_bytes):
        raise _truncated("WEBP", "last bytes")


def _check_heif(image_bytes: bytes) -> None:
    position, boxes = 0, set()
    while position + 8 <= len(image_bytes):
        boxes.add(image_bytes[position + 4 : position + 8])
        length = int.from_bytes(image_bytes[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(image_bytes[position + 8 : position + 16], "big")
        if length == 0:  # the last box runs to the end of the file
            length = len(image_bytes) - position
        position += max(length, 8)
    if position != len(image_bytes) or b"mdat" not in boxes:
        raise _truncated("HEIF", "last box")
