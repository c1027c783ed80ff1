"""From bytes to upright RGB pixels, the same way for training and serving."""

import contextlib
import io
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ml import MLError, UnreadableImage
from ml.images.imagefile import inspect_image
from ml.images.preprocessing import (
    PREPROCESSING_ID,
    PREVIEW_SIDE,
    STEPS,
    apply_steps,
    decode_image,
    decoded_side,
    prepare_image,
    preprocessing_id,
    render_preview,
    to_pixels,
    to_square_image,
)
from tests.support.ml import STORED_AS, corner_picture, encode, encode_turned, plain_picture, soft_picture

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF")


def distance(image, expected) -> float:
    """Mean absolute difference of two pictures of the same size, in steps of 255."""
    image, expected = np.asarray(image, np.int16), np.asarray(expected, np.int16)
    assert image.shape == expected.shape
    return float(np.abs(image - expected).mean())


def extent(image: np.ndarray) -> tuple[int, int]:
    """Width and height of the dark shape in a picture."""
    rows, columns = np.nonzero(image.mean(axis=2) < 128)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("image_size", [32, 224])
def test_it_gives_square_rgb_bytes(image_format, image_size):
    image = prepare_image(encode(soft_picture(1, (90, 300)), image_format), image_size)

    assert image.shape == (image_size, image_size, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("orientation", STORED_AS)
def test_it_turns_a_photo_upright(orientation):
    image = decode_image(encode_turned(corner_picture(), orientation, quality=95, subsampling=0), 64)

    assert image.mode == "RGB"
    assert distance(image, corner_picture()) < 3


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "HEIF"])
def test_it_turns_a_photo_upright_whatever_its_format(image_format):
    image = decode_image(encode_turned(corner_picture(), 6, image_format), 64)

    assert distance(image, corner_picture()) < 6


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_it_leaves_a_photo_with_a_nonsensical_orientation_as_it_is(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert distance(decode_image(encode(corner_picture(), exif=exif, quality=95), 64), corner_picture()) < 8


def test_it_converts_cmyk():
    image = decode_image(encode(corner_picture().convert("CMYK"), quality=95), 64)

    assert distance(image, corner_picture()) < 3


def test_it_scales_sixteen_bits_of_grey_instead_of_clipping_them():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    image_bytes = encode(Image.fromarray(np.tile(ramp, (64, 1))), "PNG")

    image = decode_image(image_bytes, 64)

    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[0, :, 1] - np.linspace(0, 255, 64)).max() < 1.1


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_it_gives_grey_photos_three_equal_channels(image_format):
    image = np.asarray(decode_image(encode(soft_picture(2).convert("L"), image_format), 64))

    assert image.shape[2] == 3
    assert (image[..., 0] == image[..., 2]).all()
    assert distance(image[..., 0], soft_picture(2).convert("L")) < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_it_puts_transparent_pictures_on_white(mode, image_format):
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 20, 40))
    picture = picture.quantize(4) if mode == "P" else picture.convert(mode)

    image = decode_image(encode(picture, image_format), 40)

    assert image.getpixel((35, 20)) >= (250, 250, 250)
    assert image.getpixel((5, 20)) <= (5, 5, 5)


def test_it_puts_a_palette_with_one_transparent_colour_on_white():
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.paste(1, (0, 0, 20, 40))

    image = decode_image(encode(palette, "PNG", transparency=0), 40)

    assert image.getpixel((35, 20)) == (255, 255, 255)
    assert image.getpixel((5, 20)) == (0, 0, 200)


def test_it_mixes_half_transparent_pixels_with_white():
    image = decode_image(encode(Image.new("RGBA", (40, 40), (0, 0, 0, 128)), "PNG"), 40)

    assert image.getpixel((20, 20)) == (127, 127, 127)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_it_takes_the_first_frame_of_an_animation(image_format):
    frames = [plain_picture(colour) for colour in ("red", "lime", "blue")]
    image_bytes = encode(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)

    with Image.open(io.BytesIO(image_bytes)) as animation:
        assert animation.n_frames == 3
    assert distance(decode_image(image_bytes, 64), frames[0]) < 6


def test_it_takes_the_first_picture_of_a_jpeg_with_several():
    image_bytes = encode(plain_picture("red"), "MPO", save_all=True, append_images=[plain_picture("lime")])

    assert distance(decode_image(image_bytes, 64), plain_picture("red")) < 6


@pytest.mark.parametrize("size", [(400, 200), (200, 400), (200, 200), (700, 200)])
def test_it_keeps_a_circle_round(size):
    picture = plain_picture("white", size)
    ImageDraw.Draw(picture).ellipse((size[0] / 2 - 60, size[1] / 2 - 60, size[0] / 2 + 60, size[1] / 2 + 60), "black")

    width, height = extent(prepare_image(encode(picture, "PNG"), 100))

    assert abs(width - height) <= 1
    assert abs(width - 60) <= 2  # 120 of the 200 pixels of the shorter side


def test_it_cuts_the_square_out_of_the_middle():
    picture = plain_picture("white", (300, 100))
    picture.paste("black", (100, 0, 200, 100))

    image = prepare_image(encode(picture, "PNG"), 50)

    assert image[:, 2:-2].max() < 10


def test_it_leaves_pixels_of_the_right_size_alone():
    picture = soft_picture(3, (32, 32))

    assert distance(prepare_image(encode(picture, "PNG"), 32), picture) == 0


def test_it_enlarges_a_tiny_photo():
    image = prepare_image(encode(plain_picture((10, 200, 30), (5, 3)), "PNG"), 64)

    assert image.shape == (64, 64, 3)
    assert distance(image, np.broadcast_to([10, 200, 30], (64, 64, 3))) == 0


@pytest.mark.parametrize(
    ("seed", "size", "orientation"), [(4, (3000, 2000), 1), (5, (2000, 3000), 6), (6, (2400, 2400), 3)]
)
def test_it_decodes_a_large_jpeg_at_a_reduced_scale_and_comes_close_to_the_whole(seed, size, orientation):
    picture = soft_picture(seed, size)
    image_bytes = encode_turned(picture, orientation, quality=92)

    reduced = decode_image(image_bytes, 448)

    assert 448 <= min(reduced.size) < min(size)
    assert distance(to_square_image(reduced, 224), to_square_image(picture, 224)) < 3


def test_it_decodes_whole_what_is_not_much_larger_than_needed():
    assert decode_image(encode(soft_picture(7, (640, 480))), 448).size == (640, 480)


def test_it_renders_a_preview_without_anything_but_pixels():
    exif = Image.Exif()
    exif[0x010F] = "secret camera"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    xmp = b"<x:xmpmeta>secret address</x:xmpmeta>"
    photo = encode(soft_picture(8, (300, 200)), exif=exif, xmp=xmp, icc_profile=b"secret profile" * 20)

    preview = render_preview(decode_image(photo, 300))

    assert photo.count(b"secret") >= 3
    assert b"secret" not in preview
    assert not Image.open(io.BytesIO(preview)).getexif()


def test_it_renders_a_preview_without_the_comment_of_the_photo():
    photo = encode(soft_picture(8), comment=b"secret: found at 3 rue des Lilas")

    assert b"secret" not in render_preview(decode_image(photo, 64))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((3000, 2000), (1024, 683)), ((500, 2048), (250, 1024)), ((1024, 1024), (1024, 1024)), ((40, 30), (40, 30))],
)
def test_it_renders_a_preview_of_a_page_s_size(size, expected):
    image = soft_picture(9, size)

    with Image.open(io.BytesIO(render_preview(image))) as preview:
        assert (preview.format, preview.mode, preview.size) == ("JPEG", "RGB", expected)
        assert max(preview.size) <= PREVIEW_SIDE
    assert image.size == size


def test_it_shows_the_preview_upright():
    preview = render_preview(decode_image(encode_turned(corner_picture(), 8, quality=95), 64))

    assert distance(Image.open(io.BytesIO(preview)), corner_picture()) < 8


def test_it_refuses_a_whole_file_whose_pixels_are_damaged():
    image_bytes = bytearray(encode(soft_picture(10), "PNG"))
    for position in range(len(image_bytes) // 2, len(image_bytes) // 2 + 40):
        image_bytes[position] ^= 0x5A

    assert inspect_image(bytes(image_bytes)).format == "PNG"
    with pytest.raises(UnreadableImage) as raised:
        prepare_image(bytes(image_bytes), 32)
    assert raised.value.reason == "undecodable"
    assert not isinstance(raised.value, OSError)


@given(st.sampled_from(FORMATS), st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_it_raises_nothing_but_its_own_error_for_damaged_pixels(image_format, seed, damages):
    rng = random.Random(seed)
    image_bytes = bytearray(encode(soft_picture(11, (40, 30)), image_format))
    for _ in range(damages):
        image_bytes[rng.randrange(len(image_bytes) // 3, len(image_bytes))] = rng.randrange(256)

    with contextlib.suppress(UnreadableImage):
        assert prepare_image(bytes(image_bytes), 32).shape == (32, 32, 3)


@pytest.mark.parametrize("image_bytes", [b"", b"no photo", encode(soft_picture(12))[:-20]])
def test_it_inspects_a_file_before_it_decodes_it(image_bytes):
    with pytest.raises(UnreadableImage):
        decode_image(image_bytes, 64)


def test_it_decodes_a_photo_of_twelve_megapixels_in_well_under_a_second():
    image_bytes = encode(soft_picture(13, (4000, 3000)), quality=85)
    start = time.perf_counter()

    prepare_image(image_bytes, 224)

    assert time.perf_counter() - start < 1


# -- the classic steps ------------------------------------------------------------------------------------------------


def grey_ramp(low: int, high: int, size: int = 64) -> Image.Image:
    """From `low` at the left to `high` at the right."""
    return Image.fromarray(np.tile(np.linspace(low, high, size).round().astype(np.uint8), (size, 1)))


def test_it_has_the_classic_steps_in_their_order():
    assert list(STEPS) == ["greyscale", "autocontrast", "equalise", "gaussian"]


@pytest.mark.parametrize(
    ("steps", "channels"),
    [((), 3), (("greyscale",), 1), (("autocontrast", "equalise", "gaussian"), 3), (("gaussian", "greyscale"), 1),
     (tuple(STEPS), 1)],
)  # fmt: skip
def test_it_gives_one_channel_where_greyscale_is_among_the_steps_and_else_three(steps, channels):
    image = prepare_image(encode(soft_picture(14, (90, 120))), 32, steps)

    assert image.shape == (32, 32, channels)
    assert image.dtype == np.uint8


def test_it_changes_nothing_without_steps():
    image_bytes = encode(soft_picture(15, (300, 200)))

    assert (prepare_image(image_bytes, 64) == to_pixels(to_square_image(decode_image(image_bytes, 128), 64))).all()


def test_it_weighs_the_colours_as_the_eye_does():
    greys = [apply_steps(plain_picture(colour), ["greyscale"]).getpixel((5, 5)) for colour in ("red", "lime", "blue")]

    assert greys == [76, 150, 29]  # ITU-R 601-2: 0.299, 0.587 and 0.114 of 255


def test_it_stretches_the_range_of_greys_to_the_whole():
    image = np.asarray(apply_steps(grey_ramp(100, 150), ["autocontrast"]))

    assert (image.min(), image.max()) == (0, 255)
    assert (np.diff(image[0].astype(int)) >= 0).all()


def test_it_flattens_the_histogram():
    dark = Image.fromarray((np.linspace(0, 1, 64 * 64) ** 4 * 255).astype(np.uint8).reshape(64, 64))

    equalised = np.asarray(apply_steps(dark, ["equalise"]))

    assert np.median(np.asarray(dark)) < 20
    assert 110 < np.median(equalised) < 145


def test_it_smooths_with_a_radius_of_one_pixel():
    point = Image.new("L", (15, 15), 0)
    point.putpixel((7, 7), 255)

    smooth = np.asarray(apply_steps(point, ["gaussian"]), float)

    expected = np.exp(-0.5 * np.arange(-7, 8) ** 2)
    expected = 255 * np.outer(expected, expected) / expected.sum() ** 2
    assert np.abs(smooth - expected).max() < 12  # Pillow approximates by box filters
    assert smooth[7, 7] == smooth.max() < 60


def test_it_applies_the_steps_in_the_order_given():
    image_bytes = encode(soft_picture(16))
    square = Image.fromarray(prepare_image(image_bytes, 32))

    image = prepare_image(image_bytes, 32, ("equalise", "gaussian"))

    assert (image == np.asarray(apply_steps(apply_steps(square, ["equalise"]), ["gaussian"]))).all()
    assert (image != prepare_image(image_bytes, 32, ("gaussian", "equalise"))).any()


@pytest.mark.parametrize("colour", ["black", "white", (12, 200, 99)])
@pytest.mark.parametrize("step", STEPS)
def test_it_takes_a_photo_of_a_single_colour(step, colour):
    assert np.ptp(np.asarray(apply_steps(plain_picture(colour), [step])), axis=(0, 1)).max() == 0


def test_it_may_be_asked_for_grey_twice():
    once = apply_steps(soft_picture(17), ["greyscale"])

    assert (np.asarray(apply_steps(once.convert("RGB"), ["greyscale"])) == np.asarray(once)).all()


def test_it_refuses_an_unknown_step_and_names_those_it_knows():
    with pytest.raises(MLError, match=r"greyscale, autocontrast, equalise, gaussian\. Received: sepia\."):
        prepare_image(b"", 32, ["greyscale", "sepia"])


def test_it_names_the_whole_way_from_bytes_to_pixels():
    assert preprocessing_id() == PREPROCESSING_ID
    assert preprocessing_id(["greyscale", "gaussian"]) == f"{PREPROCESSING_ID}+greyscale+gaussian"


@pytest.mark.parametrize(("image_size", "side"), [(32, 64), (224, 448), (256, 448), (288, 460), (380, 608)])
def test_photos_are_decoded_with_room_to_scale_down(image_size, side):
    assert decoded_side(image_size) == side


def test_a_photo_of_five_megapixels_is_decoded_at_a_quarter_for_288_pixels():
    photo = encode(Image.new("RGB", (2592, 1944)))
    assert decode_image(photo, decoded_side(288)).size == (648, 486)
