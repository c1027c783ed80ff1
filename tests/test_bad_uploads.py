"""A corpus of bad uploads, made by code: formats, bombs, truncations, names, multipart tricks. Never a 5xx.

Each is sent to `photos/` and `predict/` as it would come over the wire; what is refused leaves nothing behind.
"""

import io
import struct
import zipfile
import zlib

import pytest

from breeds.models import Prediction
from ml.images.preprocessing import decode_image
from shelter.models import Photo
from tests.support.pictures import encoded, jpeg, picture
from tests.test_uploading import many_scans, png_bomb

BOUNDARY = "flair-boundary"
JPEG, PNG, WEBP, HEIC = jpeg(), encoded(picture(), "PNG"), encoded(picture(), "WEBP"), encoded(picture(), "HEIF")


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size than its data has."""
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, JPEG)
    return stream.getvalue()


def tiff_bomb() -> bytes:
    return b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 256, 4, 1, 2**31 - 1) + bytes(4)


# Content that is no photo, or none that may be taken; name -> bytes.
NO_PHOTO = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": b"not a photo",
    "null bytes": bytes(5000),
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
    "svg with an entity bomb": b"<!DOCTYPE a [<!ENTITY b 'b'><!ENTITY c '&b;&b;'>]><svg>&c;</svg>",
    "pdf": b"%PDF-1.7\n" + bytes(500),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "gif": encoded(picture(), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "tiff": encoded(picture(), "TIFF"),
    "ico": encoded(picture(), "ICO"),
    "ppm": encoded(picture(), "PPM"),
    "psd": b"8BPS\x00\x01" + bytes(100),
    "tiff bomb": tiff_bomb(),
    "zip": zipped("rex.jpg"),
    "zip called a jpeg twice": zipped("a.jpg", "b.jpg") + JPEG,
    "gzip": b"\x1f\x8b\x08\x00" + bytes(100),
    "elf": b"\x7fELF" + bytes(100),
    "exe": b"MZ" + bytes(100),
    "php": b"<?php system($_GET['c']); ?>",
    "mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(100),
    "avif box of nothing": b"\x00\x00\x00\x18ftypavif" + bytes(100),
    "jpeg, only the mark": b"\xff\xd8\xff",
    "jpeg, mark and end": b"\xff\xd8\xff\xd9",
    "jpeg without a start": JPEG[2:],
    "jpeg cut in the header": JPEG[:15],
    "jpeg cut in the tables": JPEG[:200],
    "jpeg cut in the data": JPEG[: len(JPEG) // 2],
    "jpeg without an end": JPEG[:-2],
    "jpeg full of nulls": JPEG[:600] + bytes(len(JPEG) - 600),
    "jpeg of no pixels": jpeg_of(0, 0),
    "jpeg of too many pixels": jpeg_of(65_500, 65_500),
    "jpeg with a segment beyond its end": b"\xff\xd8\xff\xe1\xff\xff" + JPEG[2:300],
    "jpeg of 300 scans": many_scans(),
    "png, only the mark": png(),
    "png cut in the header": PNG[:20],
    "png cut in the data": PNG[: len(PNG) // 2],
    "png without an end": PNG[:-12],
    "png of no width": png(header(0, 10), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")),
    "png of 2³¹ pixels a side": png(header(2**31 - 1, 2**31 - 1), chunk(b"IDAT", b""), chunk(b"IEND", b"")),
    "png with a wrong checksum": png(chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0), 1), PNG[33:]),
    "png with a chunk of 4 GB": png(header(10, 10), struct.pack(">I", 2**32 - 1) + b"IDAT" + bytes(50)),
    "png bomb": png_bomb(),
    "webp, only the mark": b"RIFF\x04\x00\x00\x00WEBP",
    "webp cut": WEBP[:-40],
    "webp that lies about its size": WEBP[:4] + struct.pack("<I", 2**32 - 1) + WEBP[8:],
    "heic, only the mark": HEIC[:24],
    "heic cut": HEIC[: len(HEIC) // 2],
    "heic full of nulls": HEIC[:40] + bytes(len(HEIC) - 40),
}  # fmt: skip

# Damage that only decoding finds: taken by `photos/` (and failed by the worker), refused by `predict/`; or harmless.
DAMAGED = {
    "jpeg with noise in its data": JPEG[:700] + bytes(range(256)) * ((len(JPEG) - 702) // 256) + JPEG[-2:],
    "jpeg that claims to be larger": jpeg_of(4000, 3000),
    "png without pixels": png(header(10, 10), chunk(b"IEND", b"")),
    "jpeg with a segment of no length": b"\xff\xd8\xff\xe0\x00\x00" + JPEG[4:],
    "png with broken data": png(header(10, 10), chunk(b"IDAT", b"no zlib"), chunk(b"IEND", b"")),
    "png with too little data": png(header(500, 500), chunk(b"IDAT", zlib.compress(b"x")), chunk(b"IEND", b"")),
}

# Names that a good photo may come under, none of which may do anything.
NAMES = {
    "path upwards": "../../../etc/passwd",
    "windows path": "C:\\\\Windows\\\\system32\\\\rex.jpg",
    "absolute path": "/etc/cron.d/rex",
    "nothing": "",
    "dots": "..",
    "very long": "x" * 5000 + ".jpg",
    "markup": "<img src=x onerror=alert(1)>.jpg",
    "sql": "'; DROP TABLE shelter_photo; --.jpg",
    "formula": "=HYPERLINK(A1).jpg",
    "right to left": "gpj.\u202exer",
    "emoji": "🐕‍🦺.jpg",
    "control characters": "a\x01\x02\x1b[31m.jpg",
    "device": "CON.jpg",
    "percent": "%2e%2e%2f%00.jpg",
    "two extensions": "rex.jpg.exe",
}


def part(content: bytes, disposition: str = 'form-data; name="image"; filename="rex.jpg"', extra: str = "") -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{extra}\r\n".encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
WHOLE = part(JPEG) + END
# (content type, body): bodies that are no proper multipart, or hold no image.
TRICKS = {
    "no body": (MULTIPART, b""),
    "no boundary": ("multipart/form-data", WHOLE),
    "another boundary": ("multipart/form-data; boundary=other", WHOLE),
    "an endless boundary": ("multipart/form-data; boundary=" + "x" * 300, WHOLE),
    "an odd boundary": ("multipart/form-data; boundary=é", WHOLE),
    "only the end": (MULTIPART, END),
    "no end, cut in the file": (MULTIPART, WHOLE[: len(WHOLE) // 2]),
    "no part headers": (MULTIPART, f"--{BOUNDARY}\r\n\r\n".encode() + JPEG + b"\r\n" + END),
    "no name": (MULTIPART, part(JPEG, 'form-data; filename="rex.jpg"') + END),
    "another name": (MULTIPART, part(JPEG, 'form-data; name="photo"; filename="rex.jpg"') + END),
    "no file name, so a field": (MULTIPART, part(b"text", 'form-data; name="image"') + END),
    "an empty file name": (MULTIPART, part(b"", 'form-data; name="image"; filename=""') + END),
    "a disposition that is none": (MULTIPART, part(JPEG, "attachment") + END),
    "an unknown charset of the name": (
        MULTIPART, part(b"x", "form-data; name=\"image\"; filename*=no-such-charset''rex.jpg") + END,
    ),
    "a file as base64 that is none": (MULTIPART, part(b"%%%", extra="Content-Transfer-Encoding: base64\r\n") + END),
    "a header of 100 kB": (MULTIPART, part(JPEG, extra="X-Long: " + "x" * 100_000 + "\r\n") + END),
    "2000 fields": (MULTIPART, b"".join(part(b"1", f'form-data; name="f{i}"') for i in range(2000)) + END),
    "1100 files": (
        MULTIPART, b"".join(part(b"x", f'form-data; name="f{i}"; filename="{i}"') for i in range(1100)) + END,
    ),
    "a field of 3 MB": (MULTIPART, part(b"x" * 3_000_000, 'form-data; name="animal"') + END),
    "another kind of multipart": (f"multipart/mixed; boundary={BOUNDARY}", WHOLE),
    "a form": ("application/x-www-form-urlencoded", b"image=abc"),
    "json": ("application/json", b'{"image": "abc"}'),
    "the photo itself": ("image/jpeg", JPEG),
    "no content type": ("", WHOLE),
    "a content type that is none": (";;;=", WHOLE),
    "an animal that is none": (MULTIPART, part(b"rex", 'form-data; name="animal"') + part(JPEG) + END),
    "an animal beyond all numbers": (MULTIPART, part(b"9" * 40, 'form-data; name="animal"') + part(JPEG) + END),
    "an animal with a null": (MULTIPART, part(b"1\x00", 'form-data; name="animal"') + part(JPEG) + END),
}  # fmt: skip


def test_it_has_a_corpus_worth_its_name():
    assert len(NO_PHOTO) + len(DAMAGED) + len(NAMES) + len(TRICKS) >= 90


@pytest.fixture
def send(client, api, classifier):
    """Send a body as it is; a classifier that decodes answers."""
    key, answer = api.key(["read", "upload"]), classifier.answer
    classifier.classify = lambda image_bytes, **options: decode_image(image_bytes, 64) and answer
    client.raise_request_exception = False  # a 500 is to be seen, not raised

    def post(path: str, content_type: str, body: bytes):
        headers = {"Authorization": f"Token {key}"}
        return client.generic("POST", f"/api/v1{path}", body, content_type, headers=headers)

    return post


def is_problem(response) -> bool:
    body = response.json()
    return (
        400 <= response.status_code < 500
        and response["Content-Type"] == "application/problem+json"
        and body["status"] == response.status_code
        and {"type", "title", "detail", "code"} <= set(body)
    )


@pytest.mark.parametrize("path", ["/photos/", "/predict/"])
@pytest.mark.parametrize("content", NO_PHOTO.values(), ids=NO_PHOTO)
def test_it_refuses_what_is_no_photo(send, stored_files, path, content):
    response = send(path, MULTIPART, part(content) + END)
    assert is_problem(response), response.content
    assert response.status_code == 400
    assert (response.json()["field"], response.json()["file"]) == ("image", "rex.jpg")
    assert (Photo.objects.count(), Prediction.objects.count(), stored_files()) == (0, 0, set())


@pytest.mark.parametrize("path", ["/photos/", "/predict/"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_it_bears_damage_that_only_decoding_finds(send, path, content):
    response = send(path, MULTIPART, part(content) + END)
    assert response.status_code in (200, 201) or is_problem(response), response.content


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_it_keeps_a_photo_whatever_its_name_and_nothing_of_a_path(send, stored_files, name):
    body = part(JPEG, f'form-data; name="image"; filename="{name}"') + END
    response = send("/photos/", MULTIPART, body)
    assert response.status_code in (201, 400), response.content
    assert response.status_code == 201 or is_problem(response)
    for photo in Photo.objects.all():
        assert "/" not in photo.original_name
        assert "\\" not in photo.original_name
        assert photo.original_name.isprintable()
        assert len(photo.original_name) <= 255
        assert photo.image.name.startswith("originals/")


@pytest.mark.parametrize("path", ["/photos/", "/predict/"])
@pytest.mark.parametrize(("content_type", "body"), TRICKS.values(), ids=TRICKS)
def test_it_answers_tricks_with_a_problem(send, stored_files, path, content_type, body):
    response = send(path, content_type, body)
    harmless = path == "/predict/" and b'name="animal"' in body and JPEG in body  # predicting files nothing
    assert is_problem(response) or (harmless and response.status_code == 200), response.content
    assert (Photo.objects.count(), stored_files()) == (0, set())


@pytest.mark.parametrize("length", ["-1", "abc", "1e9", "999999999999999999"])
def test_it_answers_a_length_that_is_none(client, api, length):
    client.raise_request_exception = False
    headers = {"Authorization": f"Token {api.key(['upload'])}"}
    response = client.generic("POST", "/api/v1/photos/", WHOLE, MULTIPART, headers=headers, CONTENT_LENGTH=length)
    assert response.status_code < 500


@pytest.mark.parametrize(
    "content",
    [b"", b"no zip", zipped("a.jpg")[:40], b"PK\x05\x06" + bytes(18)],
    ids=["nothing", "text", "broken_off", "no_entry"],  # an archive holds the time, and names must not depend on that
)
def test_it_takes_archives_that_are_none_without_breaking(client, api, content):
    client.raise_request_exception = False
    body = part(content, 'form-data; name="archive"; filename="a.zip"') + END
    headers = {"Authorization": f"Token {api.key(['upload'])}"}
    response = client.generic("POST", "/api/v1/imports/", body, MULTIPART, headers=headers)
    assert response.status_code == 201 or is_problem(response)
