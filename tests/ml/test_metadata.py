"""Where a photo was taken leaves it; its pixels stay as they are."""

import contextlib
import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from ml import UnreadableImage
from ml.images.imagefile import inspect_image
from ml.images.metadata import clean_exif, clean_xmp, remove_location
from tests.support.ml import corner_picture, encode, png_by_hand, soft_picture

FORMATS = ["JPEG", "PNG", "WEBP", "HEIF"]
LATITUDE, LONGITUDE = (48.0, 51.0, 29.77), (2.0, 17.0, 40.11)
SECONDS_OF_LATITUDE = [struct.pack(order + "II", 2977, 100) for order in "<>"]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" exif:GPSLatitude="48,51.4961N" photoshop:City=\'Meudon\' '
    b'dc:format="image/jpeg"><exif:GPSLongitude>2,17.6685E</exif:GPSLongitude><dc:title>Rex</dc:title>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
ICC = bytes(range(256)) * 2


def position_exif(orientation: int = 6, **more) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Refuge"
    exif[ExifTags.Base.DateTime] = "2026:03:03 10:00:00"
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = "2026:03:03 09:59:58"
    inner[ExifTags.Base.MakerNote] = b"a secret of the maker, with a place in it: Meudon"
    inner[ExifTags.Base.UserComment] = b'ASCII\x00\x00\x00{"latitude": 48.858}'
    position = exif.get_ifd(ExifTags.IFD.GPSInfo)
    position[ExifTags.GPS.GPSLatitudeRef], position[ExifTags.GPS.GPSLatitude] = "N", LATITUDE
    position[ExifTags.GPS.GPSLongitudeRef], position[ExifTags.GPS.GPSLongitude] = "E", LONGITUDE
    return exif.tobytes()


def photo(image_format: str, exif: bytes | None = None, xmp: bytes = XMP, size=(64, 48)) -> bytes:
    options = {"exif": exif or position_exif(), "icc_profile": ICC}
    if image_format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    else:
        options["xmp"] = xmp
    return encode(soft_picture(1, size), image_format, **options)


def opened(image_bytes: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image_bytes))


def cleaned(image_bytes: bytes) -> bytes:
    return remove_location(image_bytes, inspect_image(image_bytes).format)


def pixels(image_bytes: bytes) -> np.ndarray:
    return np.asarray(opened(image_bytes).convert("RGB"))


@pytest.mark.parametrize("image_format", FORMATS)
def test_it_leaves_no_position_in_a_photo(image_format):
    sent = photo(image_format)
    assert dict(opened(sent).getexif().get_ifd(ExifTags.IFD.GPSInfo))  # or this test would prove nothing
    assert any(seconds in sent for seconds in SECONDS_OF_LATITUDE)

    kept = cleaned(sent)

    assert not dict(opened(kept).getexif().get_ifd(ExifTags.IFD.GPSInfo))
    told = (b"Meudon", b"latitude", b"GPS", b"48,51", b"2,17", *SECONDS_OF_LATITUDE)
    assert [text for text in told if text in kept] == []


@pytest.mark.parametrize("image_format", FORMATS)
def test_it_keeps_pixels_orientation_date_profile_and_the_rest_of_the_words(image_format):
    sent = photo(image_format)

    kept = cleaned(sent)

    assert (pixels(kept) == pixels(sent)).all()
    assert inspect_image(kept) == inspect_image(sent)
    exif = opened(kept).getexif()
    # pillow-heif turns the picture itself and resets the tag
    assert exif[ExifTags.Base.Orientation] == opened(sent).getexif()[ExifTags.Base.Orientation]
    assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.DateTime]) == ("Refuge", "2026:03:03 10:00:00")
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2026:03:03 09:59:58"
    assert opened(kept).info["icc_profile"] == ICC
    assert b"<dc:title>Rex</dc:title>" in kept


@pytest.mark.parametrize("image_format", FORMATS)
def test_it_changes_nothing_the_second_time(image_format):
    kept = cleaned(photo(image_format))
    assert cleaned(kept) == kept


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("options", [{}, {"icc_profile": ICC}], ids=["bare", "with a profile"])
def test_it_returns_the_very_bytes_of_a_photo_without_metadata(image_format, options):
    sent = encode(corner_picture(), image_format, **options)
    assert cleaned(sent) == sent


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 1}, {}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_it_keeps_the_pixels_of_every_kind_of_jpeg(mode, options):
    sent = encode(soft_picture(2).convert(mode), exif=position_exif(), **options)
    assert (pixels(cleaned(sent)) == pixels(sent)).all()


def test_it_cuts_off_the_second_picture_and_the_film_that_phones_append():
    second = encode(soft_picture(2), exif=position_exif())
    sent = encode(soft_picture(1), "MPO", save_all=True, append_images=[opened(second)]) + b"ftypmp42 \xa9xyz+48.8577"

    kept = cleaned(sent)

    assert opened(kept).format == "JPEG"
    assert kept.count(b"\xff\xd8\xff") == 1
    assert b"48.8577" not in kept
    assert (pixels(kept) == pixels(sent)).all()


def test_it_drops_the_segments_of_a_jpeg_that_nobody_can_vouch_for():
    whole = encode(soft_picture(1), comment=b"GPS: 48.858, 2.294")
    sent = whole[:2] + b"\xff\xed\x00\x10Photoshop 3.0\x00" + b"\xff\xeb\x00\x06JUMB" + whole[2:]
    kept = cleaned(sent)
    assert [text for text in (b"Photoshop", b"JUMB", b"48.858") if text in kept] == []
    assert (pixels(kept) == pixels(sent)).all()


def test_it_drops_what_programs_hide_in_the_texts_of_a_png():
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n  4\n47505300\n")
    info.add_text("Comment", "latitude 48.858")
    info.add_text("Author", "Anne")
    info.add_text("Long", "48.858 " * 20, zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    kept = opened(cleaned(encode(soft_picture(1), "PNG", pnginfo=info)))
    assert kept.text == {"Author": "Anne"}


def test_it_writes_checksums_that_fit():
    kept, position = cleaned(photo("PNG")), 8
    while position < len(kept):
        (length,) = struct.unpack_from(">I", kept, position)
        checked = kept[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", kept, position + 8 + length)[0] == zlib.crc32(checked)
        position += 12 + length


def test_it_keeps_the_length_of_a_heic_because_its_pixels_are_found_by_their_place():
    sent = photo("HEIF")
    assert len(cleaned(sent)) == len(sent)


def test_it_blanks_what_is_appended_to_a_heic():
    sent = photo("HEIF") + struct.pack(">I4s", 8 + 12, b"mpvd") + b"xyz+48.8577/"
    kept = cleaned(sent)
    assert b"48.8577" not in kept
    assert (pixels(kept) == pixels(sent)).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_it_keeps_the_thumbnail_inside_exif_unless_it_has_exif_of_its_own(order):
    for thumbnail, stays in ((b"\xff\xd8 a small picture \xff\xd9", True), (b"\xff\xd8 Exif GPS \xff\xd9", False)):
        head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
        first = struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 26)
        second = struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
        block = b"Exif\x00\x00" + head + first + second + thumbnail
        assert (thumbnail in clean_exif(block)) == stays


def test_it_zeroes_what_an_earlier_program_left_between_the_entries():
    block = position_exif() + b"stale: N 48 51 29.77"
    assert b"stale" not in clean_exif(block)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("damage", [slice(4, 8), slice(0, 2)], ids=["no directory", "no byte order"])
def test_it_keeps_the_orientation_alone_of_exif_that_cannot_be_followed(damage):
    tiff = bytearray(position_exif()[6:])
    tiff[damage] = b"\xff" * (damage.stop - damage.start)
    kept = clean_exif(b"Exif\x00\x00" + bytes(tiff))
    assert len(kept) == len(tiff) + 6
    assert b"Refuge" not in kept
    exif = Image.Exif()
    exif.load(kept)
    assert exif[ExifTags.Base.Orientation] == 1


@pytest.mark.parametrize(
    "packet",
    [
        XMP.decode().encode("utf-16-le"),
        XMP.replace(b"</exif:GPSLongitude>", b""),
        XMP + b" " * 70_000,
        b"<!-- GPS 48.858 -->",
    ],
    ids=["utf-16", "an element that does not end", "too long", "a comment"],
)
def test_it_blanks_a_packet_that_it_cannot_edit(packet):
    assert clean_xmp(packet) == b" " * len(packet)


def test_it_edits_an_ill_willed_packet_quickly():
    packet = b"<a:gps>" * (65_000 // 7)
    assert clean_xmp(packet) == b" " * len(packet)


def test_it_refuses_a_heic_whose_table_points_beyond_its_end():
    sent = bytearray(photo("HEIF"))
    table = sent.index(b"iloc")
    sent[table + 10 : table + 12] = b"\xff\xff"  # the number of its entries
    with pytest.raises(UnreadableImage) as raised:
        remove_location(bytes(sent), "HEIF")
    assert raised.value.reason == "undecodable"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.sampled_from(FORMATS), st.integers(0, 2**32), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_it_raises_nothing_but_its_own_error_for_damaged_bytes(image_format, seed, damages):
    rng = random.Random(seed)
    damaged = bytearray(photo(image_format, size=(24, 16)))
    for _ in range(damages):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    with contextlib.suppress(UnreadableImage):
        assert cleaned(bytes(damaged))


def test_it_takes_a_png_made_by_hand():
    sent = png_by_hand(8, 8, bytes(9 * 8))
    assert cleaned(sent) == sent
