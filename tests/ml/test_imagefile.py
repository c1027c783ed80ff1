"""A file is judged by its content, without decoding a pixel."""

import contextlib
import random
import struct
from datetime import datetime

import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, WebPImagePlugin

from ml import UnreadableImage
from ml.images.imagefile import MAX_JPEG_SCANS, inspect_image
from tests.support.ml import STORED_AS, corner_picture, encode, encode_turned, png_by_hand, soft_picture, with_scans

PNG_BOMB = png_by_hand(8000, 5000, bytes(8001 * 5000))
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "HEIF": ".heic"}


def reason_of(image_bytes: bytes) -> str:
    with pytest.raises(UnreadableImage) as raised:
        inspect_image(image_bytes)
    assert "Received: " in str(raised.value)
    assert raised.value.reason in UnreadableImage.REASONS
    return raised.value.reason


def box_ends(heif: bytes) -> list[int]:
    """Where the top-level boxes of a HEIC file end, the last one left out."""
    ends, position = [], 0
    while position < len(heif):
        position += int.from_bytes(heif[position : position + 4], "big")
        ends.append(position)
    return ends[:-1]


@pytest.fixture
def forbid_decoding(monkeypatch):
    """Call it when the files are made: from then on, whoever decodes a pixel is noticed."""
    decoded = []

    def load(self):
        decoded.append(self)
        raise OSError("a pixel was decoded")

    def forbid():
        for kind in (Image.Image, ImageFile.ImageFile, PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile):
            monkeypatch.setattr(kind, "load", load)
        monkeypatch.setattr(pillow_heif.HeifImageFile, "load", load)
        return decoded

    return forbid


@pytest.mark.parametrize("image_format", FORMATS)
def test_it_tells_the_format_and_the_size_from_the_content(image_format):
    image_bytes = encode(soft_picture(1, (60, 40)), image_format)

    facts = inspect_image(image_bytes)

    assert (facts.format, facts.width, facts.height) == (image_format, 60, 40)
    assert facts.extension == FORMATS[image_format]
    assert facts.media_type == {"HEIF": "image/heic"}.get(image_format, f"image/{image_format.lower()}")


@pytest.mark.parametrize("image_format", FORMATS)
def test_it_decodes_no_pixel_to_answer(image_format, forbid_decoding):
    image_bytes = encode(soft_picture(1), image_format)
    decoded = forbid_decoding()

    with contextlib.suppress(UnreadableImage):
        inspect_image(image_bytes)

    assert not decoded


def test_it_passes_over_a_megabyte_that_fills_up_before_a_marker():
    """Each byte is looked at once: with a pattern for the whole run, this test would take an hour."""
    filled = encode(soft_picture(1, (60, 40)), "JPEG")[:-2] + b"\xff" * 1_000_000
    assert inspect_image(filled + b"\xd9").format == "JPEG"
    assert reason_of(filled + b"\x00" * 10) == "truncated"


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("image_format", FORMATS)
def test_it_tells_the_size_of_the_upright_picture(image_format, orientation):
    facts = inspect_image(encode_turned(soft_picture(1, (60, 40)), orientation, image_format))

    assert (facts.width, facts.height) == (60, 40)


def test_it_accepts_a_jpeg_of_several_pictures():
    image_bytes = encode(soft_picture(1), "MPO", save_all=True, append_images=[soft_picture(2)])

    assert inspect_image(image_bytes).format == "JPEG"


@pytest.mark.parametrize(
    ("image_bytes", "reason"),
    [
        (b"", "empty"),
        (b"\xff", "not_an_image"),
        (b"Dear shelter, here is my dog.", "not_an_image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (encode(corner_picture(), "GIF"), "not_an_image"),
        (encode(corner_picture(), "BMP"), "not_an_image"),
        (encode(corner_picture(), "TIFF"), "not_an_image"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "not_an_image"),
        (b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 12, "not_an_image"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xd9", "truncated"),
        (b"RIFF\x00\x00\x00\x00WEBP", "undecodable"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:12]),
)
def test_it_refuses_what_is_no_photo_and_says_why(image_bytes, reason):
    assert reason_of(image_bytes) == reason


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.75, 0.95])
def test_it_refuses_a_file_cut_short(image_format, share):
    image_bytes = encode(soft_picture(3, (120, 90)), image_format)

    assert reason_of(image_bytes[: max(16, int(share * len(image_bytes)))]) == "truncated"


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("missing", [1, 2, 4])
def test_it_misses_the_very_last_bytes(image_format, missing):
    assert reason_of(encode(soft_picture(3), image_format)[:-missing]) == "truncated"


def test_it_refuses_a_heic_cut_between_two_of_its_boxes():
    image_bytes = encode(soft_picture(3), "HEIF")

    for end in box_ends(image_bytes):
        reason_of(image_bytes[:end])


@given(
    seed=st.integers(0, 5),
    progressive=st.booleans(),
    quality=st.sampled_from([20, 75, 98]),
    share=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=300, deadline=None)
def test_it_refuses_a_jpeg_cut_anywhere(seed, progressive, quality, share):
    image_bytes = encode(soft_picture(seed), progressive=progressive, quality=quality)

    reason_of(image_bytes[: int(share * len(image_bytes))])


@pytest.mark.parametrize("progressive", [False, True])
def test_it_refuses_every_single_cut_of_a_small_jpeg(progressive):
    image_bytes = encode(soft_picture(4, (16, 16)), progressive=progressive)

    for length in range(len(image_bytes)):
        reason_of(image_bytes[:length])


def test_it_is_not_deceived_by_the_end_of_an_embedded_thumbnail():
    thumbnail = encode(soft_picture(5, (16, 12)))
    image_bytes = encode(soft_picture(5), exif=b"Exif\x00\x00" + thumbnail)
    after_thumbnail = image_bytes.index(thumbnail) + len(thumbnail)

    assert inspect_image(image_bytes).width == 64
    assert reason_of(image_bytes[: after_thumbnail + 10]) == "truncated"


def test_it_is_not_deceived_by_markers_inside_a_comment():
    comment = b"\xff\xd9\xff\xda" * (MAX_JPEG_SCANS + 10)
    image_bytes = encode(soft_picture(6), comment=comment)
    after_comment = image_bytes.index(comment) + len(comment)

    assert inspect_image(image_bytes).format == "JPEG"
    assert reason_of(image_bytes[: after_comment + 4]) == "truncated"


@given(seed=st.integers(0, 2**32), length=st.integers(0, 4000))
@settings(max_examples=50, deadline=None)
def test_it_accepts_what_phones_append_after_a_jpeg(seed, length):
    film = random.Random(seed).randbytes(length) + b"\xff\xda\x00\x08" * (MAX_JPEG_SCANS + 1)

    assert inspect_image(encode(soft_picture(7)) + film).format == "JPEG"


def test_it_refuses_a_png_bomb():
    assert len(PNG_BOMB) < 50_000
    assert reason_of(PNG_BOMB) == "too_many_pixels"


def test_it_does_not_decode_a_png_bomb_to_refuse_it(forbid_decoding):
    decoded = forbid_decoding()

    reason_of(PNG_BOMB)

    assert not decoded


@pytest.mark.parametrize(
    ("image_format", "width", "height"), [("JPEG", 12_000, 10_000), ("PNG", 8_000, 4_000)], ids=["120 MP", "32 MP"]
)
def test_a_photo_of_more_pixels_than_its_format_allows_is_refused(image_format, width, height):
    def claiming(width: int) -> bytes:
        if image_format == "PNG":
            return png_by_hand(width, height, b"")
        image_bytes = encode(soft_picture(7, (32, 32)))
        return image_bytes.replace(struct.pack(">HH", 32, 32), struct.pack(">HH", height, width), 1)

    assert inspect_image(claiming(width)).width == width
    assert reason_of(claiming(width + 1)) == "too_many_pixels"


def test_it_accepts_a_large_png_that_is_no_bomb():
    assert inspect_image(png_by_hand(5000, 6000, bytes(5001 * 6000))).height == 6000


def test_it_refuses_a_jpeg_that_would_take_seconds_to_decode(forbid_decoding):
    image_bytes = with_scans(encode(soft_picture(8, (32, 32)), progressive=True), 300)
    decoded = forbid_decoding()

    assert image_bytes.count(b"\xff\xda") == 300
    assert reason_of(image_bytes) == "too_many_scans"
    assert not decoded


@pytest.mark.parametrize(("scans", "accepted"), [(64, True), (65, False)])
def test_a_jpeg_of_64_scans_is_accepted_and_one_of_65_refused(scans, accepted):
    image_bytes = with_scans(encode(soft_picture(8, (32, 32)), progressive=True), scans)

    if accepted:
        assert inspect_image(image_bytes).format == "JPEG"
    else:
        assert reason_of(image_bytes) == "too_many_scans"


@given(st.sampled_from(list(FORMATS)), st.integers(0, 2**32), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_it_raises_nothing_but_its_own_error_for_damaged_bytes(image_format, seed, damages):
    rng = random.Random(seed)
    image_bytes = bytearray(encode(soft_picture(9, (24, 16)), image_format))
    for _ in range(damages):
        image_bytes[rng.randrange(len(image_bytes))] = rng.randrange(256)

    with contextlib.suppress(UnreadableImage):
        assert inspect_image(bytes(image_bytes)).format == image_format


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024:03:05 14:07:09", datetime(2024, 3, 5, 14, 7, 9)),
        ("2024:03:05 14:07:09\x00", datetime(2024, 3, 5, 14, 7, 9)),
        ("0000:00:00 00:00:00", None),
        ("1990:01:01 00:00:00", datetime(1990, 1, 1)),
        ("1989:12:31 23:59:59", None),
        ("yesterday", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("image_format", ["JPEG", "HEIF", "PNG", "WEBP"])
def test_it_reads_when_the_camera_took_the_photo(image_format, written, expected):
    exif = Image.Exif()
    if written is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = written
    image_bytes = encode(soft_picture(3, (32, 24)), image_format, exif=exif.tobytes())

    assert inspect_image(image_bytes).taken_at == expected
