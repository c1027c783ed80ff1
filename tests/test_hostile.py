"""Files and requests that mean harm: each gets what it deserves, quickly, and costs nobody else anything."""

import contextlib
import io
import json
import lzma
import resource
import stat
import struct
import time
import zipfile

import pytest
from django.core.files.base import ContentFile
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from PIL import Image

from breeds.classifier import UnreadableImage, inspect_image, remove_location, shrink_image
from breeds.tasks import classify_photos
from ml.images.preprocessing import prepare_image
from shelter.intake.archives import Archive, BadArchive, BadEntry
from shelter.intake.uploads import Outcome, upload_photo
from shelter.models import Animal, Import, Photo
from shelter.tasks import run_imports
from tests.support.factories import upload
from tests.support.hostile_files import IMAGES, TRUNCATIONS, jpeg, noise
from tests.support.pictures import encoded, picture
from tests.test_archives import patched, zipped

# What one file may cost, on two slow cores that do other things too.
SECONDS = 10


# -- images ------------------------------------------------------------------------------------------------------------


class Decoder:
    """A classifier that decodes for real, and says of everything that it is a beagle."""

    def __init__(self, fake):
        self.fake = fake

    def classify(self, image_bytes: bytes):
        prepare_image(image_bytes, 224)
        return self.fake.answer


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", IMAGES)
def test_it_gives_each_image_what_it_deserves(anne, classifier, monkeypatch, stored_files, name):
    make, expected = IMAGES[name]
    content = make()
    row = classifier.row()
    monkeypatch.setattr("breeds.classifier.active_classifier", lambda num_threads=1: (Decoder(classifier), row))
    started = time.monotonic()
    receipt = upload_photo(upload(content, "rex.jpg"), user=anne)
    classify_photos()
    assert time.monotonic() - started < SECONDS
    if receipt.outcome == Outcome.REFUSED:
        assert (receipt.code, stored_files(), Photo.objects.count()) == (expected, set(), 0)
        assert "rex.jpg" in receipt.message
        return
    photo = Photo.objects.get()
    assert photo.status == {"accepted": "done", "failed": "failed"}[expected]
    stored = photo.image.open().read()
    for stranger in (b"MZ", b"evil.exe", b"%PDF", b"<html>"):
        assert stranger not in stored[-600:]


ONLY_PIXELS = {0xE0, 0xE2, 0xDB, 0xC0, 0xC4, 0xDA}  # JFIF, colour profile, tables, frame, scan


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name, (_, expected) in IMAGES.items() if expected == "accepted"])
def test_it_shows_pages_nothing_of_it_but_its_pixels(name):
    """What pages show of a photo is drawn anew: no comment, no position, nothing hidden, nothing appended."""
    preview = shrink_image(IMAGES[name][0](), 1200)
    position, kinds = 2, []
    while not kinds or kinds[-1] != 0xDA:
        assert preview[position] == 0xFF
        kinds.append(preview[position + 1])
        position += 2 + int.from_bytes(preview[position + 2 : position + 4], "big")
    assert set(kinds) <= ONLY_PIXELS
    assert preview.index(b"\xff\xd9", position) == len(preview) - 2


@pytest.mark.parametrize("name", TRUNCATIONS)
def test_it_refuses_a_photo_wherever_it_broke_off(name):
    for content in TRUNCATIONS[name]():
        with pytest.raises(UnreadableImage) as refusal:
            inspect_image(content)
        assert refusal.value.reason == "truncated"


def test_it_has_a_hundred_of_them_and_more():
    assert len(IMAGES) > 100
    assert len(ZIPS) + len(REQUESTS) > 60


def test_it_decodes_bombs_in_little_memory(tmp_path):
    """Texts and profiles that would unpack to 100 MB each, one after the other, in a process of its own."""
    from tests.support.ml import run_fresh

    code = (
        "import django, resource\n"
        "django.setup()\n"
        "from tests.support.hostile_files import IMAGES\n"
        "from ml import UnreadableImage\n"
        "from ml.images.imagefile import inspect_image\n"
        "from ml.images.preprocessing import prepare_image\n"
        "files = [make() for name, (make, _) in IMAGES.items() if 'burst' in name or 'bomb' in name]\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for content in files:\n"
        "    try:\n"
        "        inspect_image(content)\n"
        "        prepare_image(content, 224)\n"
        "    except UnreadableImage:\n"
        "        pass\n"
        "print(len(files), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    count, megabytes = map(int, run_fresh(code, tmp_path).split()[-2:])
    assert count >= 5
    assert megabytes < 150


def test_it_decodes_the_largest_photo_that_it_takes_in_bounded_memory_and_time():
    """64 million pixels of a JPEG, as the largest phones make them."""
    content = encoded(picture(size=(8000, 8000)), "JPEG", quality=30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    assert prepare_image(content, 224).shape == (224, 224, 3)
    assert time.monotonic() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


PIECES = [
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00",
    b"\xff\xc0\x00\x11\x08",
    b"\xff\xe1",
    b"Exif\x00\x00II*\x00\x08\x00\x00\x00",
    b"\x89PNG\r\n\x1a\n",
    b"\x00\x00\x00\x0dIHDR",
    b"\x00\x00\x00\x00IEND\xaeB`\x82",
    b"\x00\x00\x00\x04IDAT",
    b"zTXt",
    b"iCCP",
    b"RIFF",
    b"\x00\x01\x00\x00WEBPVP8X",
    b"VP8L",
    b"ANMF",
    b"\x00\x00\x00\x18ftypheic",
    b"\x00\x00\x00\x10mdat",
    b"\x00\x00\x00\x30meta",
    b"iloc",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x01",
    b"\xff\xff",
    bytes(64),
]
STARTS = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x40\x00\x00\x00WEBP",
    b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(start=st.sampled_from(STARTS), pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=40), max_size=30))
@fuzzing(max_examples=400, deadline=2000)
def test_it_says_something_sensible_of_any_pieces_of_files(start, pieces):
    content = start + b"".join(pieces)
    with contextlib.suppress(UnreadableImage):
        facts = inspect_image(content)
        inspect_image(remove_location(content, facts.format))


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    image_format=st.sampled_from(["JPEG", "PNG", "WEBP", "HEIF"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(PIECES) | st.binary(max_size=8)), max_size=6),
    cut=st.integers(0, 40),
)
@fuzzing(max_examples=200, deadline=5000)
def test_it_decodes_or_refuses_whatever_becomes_of_a_photo(image_format, changes, cut):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    content = bytearray(encoded(picture(size=(40, 30)), image_format, exif=exif.tobytes()))
    for place, piece in changes:
        place %= len(content)
        content[place : place + len(piece)] = piece
    content = bytes(content[: len(content) - cut])
    with contextlib.suppress(UnreadableImage):
        facts = inspect_image(content)
        if facts.width * facts.height < 4_000_000:
            prepare_image(remove_location(content, facts.format), 32)


# -- archives: name -> (how it is made, {path: code or accepted} or the code of the archive) --------------------------


def info(name: str, mode: int = 0, **fields) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    made.external_attr = mode << 16
    made.create_system = 3
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def packed(*entries: tuple[zipfile.ZipInfo, bytes], comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
        archive.comment = comment
    return stream.getvalue()


def at_end(content: bytes, offset: int, form: str, value: int) -> bytes:
    """Another value in the record at the end of a zip."""
    changed, start = bytearray(content), content.rindex(b"PK\x05\x06")
    struct.pack_into(form, changed, start + offset, value)
    return bytes(changed)


def entries_on_one(count: int) -> bytes:
    """A list of contents that names the same bytes again and again."""
    content = one("a.jpg")
    start, end = content.index(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    changed = content[:start] + content[start:end] * count + content[end:]
    for offset, form, value in ((8, "<H", count), (10, "<H", count), (12, "<I", (end - start) * count)):
        changed = at_end(changed, offset, form, value)
    return changed


def one(name: str) -> bytes:
    return zipped({name: jpeg()})


ZIPS = {
    "way up": (lambda: one("a/../../../etc/cron.d/x.jpg"), ["unsafe_path"]),
    "way up at the end": (lambda: one("a/.."), ["unsafe_path"]),
    "root": (lambda: one("/etc/a.jpg"), ["unsafe_path"]),
    "drive": (lambda: one("C:\\Windows\\System32\\a.jpg"), ["unsafe_path"]),
    "drive without a root": (lambda: one("c:a.jpg"), ["unsafe_path"]),
    "share of a network": (lambda: one("\\\\server\\share\\a.jpg"), ["unsafe_path"]),
    "four dots": (lambda: one("..../..../a.jpg"), []),
    "backslashes up": (lambda: one("a\\..\\..\\b.jpg"), ["unsafe_path"]),
    "slashes of another alphabet": (lambda: one("a\u2215..\u2215b.jpg"), ["accepted"]),
    "name from right to left": (lambda: one("photo\u202egpj.exe"), ["accepted"]),
    "name with a line break": (lambda: one("a\nb.jpg"), ["accepted"]),
    "name with an escape": (lambda: one("\x1b[31ma.jpg"), ["accepted"]),
    "name of a device": (lambda: one("CON"), ["accepted"]),
    "name with a script": (lambda: one("<img src=x onerror=alert(1)>.jpg"), ["accepted"]),
    "name of 60,000 letters": (lambda: one("a" * 60_000 + ".jpg"), ["accepted"]),
    "a thousand folders deep": (lambda: one("a/" * 1000 + "b.jpg"), ["accepted"]),
    "link": (lambda: packed((info("a.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd")), ["link"]),
    "device": (lambda: packed((info("a.jpg", stat.S_IFCHR | 0o666), b"x")), ["not_an_image"]),
    "pipe": (lambda: packed((info("a.jpg", stat.S_IFIFO | 0o666), b"x")), ["not_an_image"]),
    "set-uid": (lambda: packed((info("a.jpg", stat.S_IFREG | 0o4777), jpeg())), ["accepted"]),
    "folder with a content": (lambda: packed((info("a/", stat.S_IFDIR | 0o755), b"x" * 100)), []),
    "password": (lambda: patched(one("a.jpg"), flags=1), ["encrypted"]),
    "strong password": (lambda: patched(one("a.jpg"), flags=0x41), ["encrypted"]),
    "zip in it": (lambda: zipped({"b.zip": one("a.jpg")}), ["nested_archive"]),
    "tar in it": (lambda: zipped({"b.tar.gz": noise(99)}), ["nested_archive"]),
    "zip in it with another name": (lambda: zipped({"b.jpg": one("a.jpg")}), ["not_an_image"]),
    "itself ten times": (lambda: zipped({f"{n}.7z": noise(99) for n in range(10)}), ["nested_archive"] * 10),
    "the same bytes a hundred times": (lambda: entries_on_one(100), ["overlapping"] * 100),
    "an entry within another": (lambda: zipped({"a.jpg": one("b.jpg") + jpeg()}), ["not_an_image"]),
    "another name in front of the bytes": (lambda: one("a.jpg").replace(b"a.jpg", b"b.jpg", 1), ["damaged_entry"]),
    "name with a null": (lambda: one("a~b.jpg").replace(b"a~b.jpg", b"a\0b.jpg"), ["accepted"]),
    "name that is no text": (
        lambda: patched(one("aaé.jpg").replace("é".encode(), b"\xff\xfe"), flags=0x800),
        "not_a_zip",
    ),
    "packed size of 0": (lambda: patched(one("a.jpg"), compressed=0), ["damaged_entry"]),
    "size of 0": (lambda: patched(one("a.jpg"), size=0), ["damaged_entry"]),
    "the same name twice": (
        lambda: packed((info("a.jpg"), jpeg(1)), (info("a.jpg"), jpeg(2))),
        ["accepted", "accepted"],
    ),
    "bomb": (lambda: zipped({"a.jpg": bytes(5_000_000)}, zipfile.ZIP_DEFLATED), ["bomb"]),
    "bomb of bzip2": (lambda: zipped({"a.jpg": bytes(5_000_000)}, zipfile.ZIP_BZIP2), ["bomb"]),
    "bomb of lzma": (lambda: zipped({"a.jpg": bytes(5_000_000)}, zipfile.ZIP_LZMA), ["bomb"]),
    "bomb that says it is small": (
        lambda: patched(zipped({"a.jpg": bytes(9_000_000)}, zipfile.ZIP_DEFLATED), size=1000),
        ["damaged_entry"],
    ),
    "larger than any photo": (lambda: patched(one("a.jpg"), size=500_000_000), ["too_large"]),
    "packed larger than the file": (lambda: patched(one("a.jpg"), compressed=0x7FFFFFFF), ["accepted"]),
    "of an unknown way to pack": (lambda: patched(one("a.jpg"), method=99), ["unsupported_compression"]),
    "of another way than it says": (lambda: patched(one("a.jpg"), method=8), ["damaged_entry"]),
    "program in front": (lambda: b"MZ" + noise(5000) + one("a.jpg"), ["accepted"]),
    "photo in front": (lambda: jpeg(1) + one("a.jpg"), ["accepted"]),
    "two archives": (lambda: one("a.jpg") + one("b.jpg"), ["accepted"]),
    "empty": (lambda: zipped({}), []),
    "comment of 65,535 bytes": (lambda: packed((info("a.jpg"), jpeg()), comment=b"x" * 65_535), ["accepted"]),
    "comment with an end in it": (lambda: packed((info("a.jpg"), jpeg()), comment=b"PK\x05\x06" + bytes(18)), "any"),
    "on another disk": (lambda: at_end(one("a.jpg"), 4, "<H", 3), "any"),
    "fewer entries than it says": (lambda: at_end(one("a.jpg"), 10, "<H", 500), "any"),
    "list of contents elsewhere": (lambda: at_end(one("a.jpg"), 16, "<I", 0x7FFFFFFF), ["accepted"]),
    "list of contents of 4 GB": (lambda: at_end(one("a.jpg"), 12, "<I", 0xFFFFFFF0), "too_many_entries"),
    "cut in the middle": (lambda: one("a.jpg")[:3000], "not_a_zip"),
    "without its list": (lambda: one("a.jpg").replace(b"PK\x01\x02", b"PK\x01\x09"), "not_a_zip"),
    "noise": (lambda: noise(50_000), "not_a_zip"),
    "noise with an end": (lambda: noise(5000) + b"PK\x05\x06" + noise(18), "any"),
}


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ZIPS)
def test_it_gives_each_archive_what_it_deserves(anne, stored_files, name):
    make, expected = ZIPS[name]
    content = make()
    batch = Import.objects.receive(anne, "a.zip", len(content))
    batch.take_part(0, ContentFile(content))
    started = time.monotonic()
    run_imports()
    assert time.monotonic() - started < SECONDS
    batch.refresh_from_db()
    found = [item.code or item.outcome for item in batch.items.all()]
    if batch.status == Import.Status.FAILED:
        assert expected in (batch.error_code, "any")
    elif expected != "any":
        assert found == expected
    assert batch.is_over
    assert stored_files() == {photo.image.name for photo in Photo.objects.all()}


@given(
    files=st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=200)), max_size=4),
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6)), max_size=8),
    cut=st.integers(0, 30),
)
@fuzzing(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_it_reads_or_refuses_whatever_becomes_of_an_archive(files, compression, changes, cut):
    content = _zip_of(files, compression)
    for place, piece in changes:
        place %= len(content)
        content[place : place + len(piece)] = piece
    try:
        archive = Archive(io.BytesIO(bytes(content[: len(content) - cut])))
        entries = list(archive.entries())
    except BadArchive:
        return
    for entry in entries:
        with contextlib.suppress(BadEntry):
            archive.read(entry.position)


def _zip_of(files, compression) -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for number, (name, content) in enumerate(files):
            with contextlib.suppress(UnicodeEncodeError, lzma.LZMAError):
                archive.writestr(name.partition("\0")[0] or str(number), content)
    return bytearray(stream.getvalue())


# -- requests: name -> (how it is sent, the statuses that are right) ---------------------------------------------------


def multipart(*parts: tuple[str, bytes], boundary: str = "xxx", end: bool = True) -> bytes:
    body = b"".join(
        b"--" + boundary.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts
    )
    return body + (f"--{boundary}--\r\n".encode() if end else b"")


def file_part(filename: str, name: str = "image") -> str:
    return f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'


FORM = "multipart/form-data; boundary=xxx"
PHOTOS = "/api/v1/photos/"


def post(path: str, body=b"", kind: str = FORM, **headers):
    return lambda client: client.generic("POST", path, body, content_type=kind, headers=headers)


def get(path: str, **headers):
    return lambda client: client.get(path, headers=headers)


REQUESTS = {
    "no form at all": (post(PHOTOS), {400}),
    "photo without a form": (post(PHOTOS, jpeg(), "image/jpeg"), {415}),
    "json instead of a form": (post(PHOTOS, b"{}", "application/json"), {415}),
    "form without a boundary": (post(PHOTOS, multipart((file_part("a.jpg"), jpeg())), "multipart/form-data"), {400}),
    "another boundary": (post(PHOTOS, multipart((file_part("a.jpg"), jpeg()), boundary="yyy")), {400}),
    "boundary of 5,000 letters": (post(PHOTOS, b"x", "multipart/form-data; boundary=" + "x" * 5000), {400, 415}),
    "boundary of another alphabet": (post(PHOTOS, b"x", "multipart/form-data; boundary=é"), {400}),
    "form cut in the photo": (post(PHOTOS, multipart((file_part("a.jpg"), jpeg()))[:500]), {400}),
    "form without its end": (post(PHOTOS, multipart((file_part("a.jpg"), jpeg()), end=False)[:-900]), {400}),
    "a thousand and one files": (post(PHOTOS, multipart(*[(file_part("a"), b"x")] * 1001)), {400}),
    "two thousand fields": (
        post(PHOTOS, multipart(*[('Content-Disposition: form-data; name="a"', b"x")] * 2000)),
        {400},
    ),
    "a field of 3 MB": (
        post(PHOTOS, multipart(('Content-Disposition: form-data; name="animal"', b"1" * 3_000_000))),
        {400, 413},
    ),
    "two photos": (post(PHOTOS, multipart((file_part("a.jpg"), jpeg(1)), (file_part("b.jpg"), jpeg(2)))), {207}),
    "a photo of a dog that is not there": (
        post(
            PHOTOS,
            multipart(
                (file_part("a.jpg"), jpeg()), ('Content-Disposition: form-data; name="animal"', b"99999999999999999999")
            ),
        ),
        {400},
    ),
    "a path as name": (post(PHOTOS, multipart((file_part("../../etc/passwd"), jpeg()))), {201}),
    "a name with a null": (post(PHOTOS, multipart((file_part("a\x00b.jpg"), jpeg()))), {201, 400}),
    "a name of 10,000 letters": (post(PHOTOS, multipart((file_part("a" * 10_000), jpeg()))), {201, 400}),
    "a name in another alphabet": (post(PHOTOS, multipart((file_part("\u202egpj.\ufffe"), jpeg()))), {201}),
    "no name": (post(PHOTOS, multipart((file_part(""), jpeg()))), {400}),
    "a text where the photo belongs": (
        post(PHOTOS, multipart(('Content-Disposition: form-data; name="image"', b"x"))),
        {400},
    ),
    "an unknown transfer encoding": (
        post(PHOTOS, multipart((file_part("a.jpg") + "\r\nContent-Transfer-Encoding: base64", b"!!!"))),
        {400},
    ),
    "a length that is no number": (lambda client: client.post(PHOTOS, CONTENT_LENGTH="many"), {400}),
    "a negative length": (lambda client: client.post(PHOTOS, CONTENT_LENGTH="-1"), {400}),
    "a length of 10 GB": (lambda client: client.post(PHOTOS, CONTENT_LENGTH="10000000000"), {413}),
    "a length of a thousand digits": (lambda client: client.post(PHOTOS, CONTENT_LENGTH="9" * 1000), {413}),
    "a length of 5,000 digits": (lambda client: client.post(PHOTOS, CONTENT_LENGTH="9" * 5000), {400, 413}),
    "a length of superscript digits": (lambda client: client.post(PHOTOS, CONTENT_LENGTH="²"), {400}),
    "json that is none": (post(PHOTOS + "check/", b"{", "application/json"), {400}),
    "json that is not a number": (post(PHOTOS + "check/", b'{"sha256": [NaN]}', "application/json"), {400}),
    "json that is no text": (post(PHOTOS + "check/", b"\xff\xfe\x00", "application/json"), {400}),
    "json with a null": (post(PHOTOS + "check/", b'{"sha256": ["\\u0000"]}', "application/json"), {400}),
    "a list of 1,001 hashes": (
        post(PHOTOS + "check/", json.dumps({"sha256": ["ab" * 32] * 1001}), "application/json"),
        {400},
    ),
    "a list that is a number": (post(PHOTOS + "check/", b'{"sha256": 5}', "application/json"), {400}),
    "a list at the top": (post(PHOTOS + "check/", b"[]", "application/json"), {400}),
    "a photo of a huge number": (get(PHOTOS + "9" * 30 + "/"), {404}),
    "a photo of a negative number": (get(PHOTOS + "-1/"), {404}),
    "a photo of a word": (get(PHOTOS + "rex/"), {404}),
    "a page of a huge number": (get("/photos/" + "9" * 30 + "/"), {404}),
    "an import of a huge number": (get("/imports/" + "9" * 30 + "/"), {404}),
    "a dog of a huge number": (get("/animals/" + "9" * 30 + "/"), {404}),
    "a piece of a huge number": (post("/imports/1/parts/" + "9" * 30 + "/"), {404, 409}),
    "a cursor of noise": (get(PHOTOS + "?cursor=%ff%00"), {400, 404}),
    "a page of -1": (get(PHOTOS + "?page_size=-1"), {200, 400}),
    "a page of a billion": (get(PHOTOS + "?page_size=1000000000"), {200, 400}),
    "a filter of noise": (get(PHOTOS + "?status=%00&animal=x&updated_since=yesterday"), {400}),
    "a filter with a null": (get(PHOTOS + "?breed=%00"), {200, 400}),
    "a hash with a null": (get(PHOTOS + "?sha256=%00"), {200, 400}),
    "a search with a null": (get("/photos/?q=%00"), {200, 302, 400}),
    "a search of noise": (
        get("/photos/?q=%ff%fe&breed=%00&after=x&before=9999-99-99&page=x&sort=;drop"),
        {200, 302, 400},
    ),
    "a search of 100,000 letters": (get("/photos/?q=" + "a" * 100_000), {200, 302, 400, 414}),
    "a search with SQL": (get("/photos/?q=' OR 1=1; DROP TABLE shelter_photo; --"), {200, 302}),
    "dogs with a null": (get("/animals/?q=%00"), {200, 302, 400}),
    "names with a null": (get("/animals/names/?name=%00&q=%00"), {200, 400}),
    "a date that is none": (get(PHOTOS + "?updated_since=9999999-01-01T00:00:00Z"), {400}),
    "a key of noise": (get(PHOTOS, Authorization="Token \xff\xfe"), {401}),
    "a key of 10,000 letters": (get(PHOTOS, Authorization="Token " + "x" * 10_000), {401}),
    "a key with a null": (get(PHOTOS, Authorization="Token a\x00b"), {401}),
    "two keys": (get(PHOTOS, Authorization="Token a b"), {401}),
    "a host of somebody else": (lambda client: client.get("/", headers={"Host": "evil.example"}), {400}),
    "a host with a line break": (lambda client: client.get("/", headers={"Host": "localhost\r\nX: y"}), {400}),
    "cookies of noise": (
        lambda client: client.get("/", headers={"Cookie": "sessionid=\xff; ;=;csrftoken=" + "x" * 5000}),
        {200, 302},
    ),
    "another method by a header": (
        lambda client: client.post(PHOTOS + "1/", headers={"X-HTTP-Method-Override": "DELETE"}),
        {404, 405, 415},
    ),
    "a language on another site": (
        lambda client: client.post("/i18n/setlang/", {"language": "fr", "next": "//evil.example"}),
        {302},
    ),
    "a login that leads to another site": (
        lambda client: client.get("/accounts/login/?next=//evil.example"),
        {200, 302},
    ),
    "an address that is no text": (get("/photos/%ff%fe/"), {404}),
    "an address with a null": (get("/photos/%00/"), {404}),
    "a very long address": (get("/" + "a/" * 20_000), {404}),
    "the files of the server": (get("/static/..%2f..%2fmanage.py"), {404}),
}


@pytest.fixture
def script(client, anne):
    """Anne's browser, which is let in to pages and to the API alike."""
    client.force_login(anne)
    Animal.objects.create(name="Rex")
    return client


@pytest.mark.parametrize("name", REQUESTS)
def test_it_answers_each_request_without_breaking(script, stored_files, name):
    send, right = REQUESTS[name]
    started = time.monotonic()
    response = send(script)
    assert time.monotonic() - started < SECONDS
    assert response.status_code in right
    assert "evil.example" not in response.get("Location", "")
    if response.status_code >= 400 and not name.startswith("a host"):
        assert stored_files() == set()
    if response.status_code >= 400 and "json" in response["Content-Type"]:
        assert response.json()["code"]


@pytest.mark.django_db
def test_it_shows_names_as_text_and_never_as_markup(script, anne, classifier):
    evil = '"><img src=x onerror=alert(1)>.jpg'
    photo = upload_photo(upload(name=evil), user=anne).photo
    Photo.objects.filter(pk=photo.pk).file_under(Animal.objects.create(name="<script>alert(1)</script>"))
    classify_photos()
    for url in ("photo_list", "animal_list", "upload"):
        page = script.get(reverse(url)).content.decode()
        assert "<img src=x" not in page
        assert "<script>alert" not in page
    page = script.get(photo.get_absolute_url()).content.decode()
    assert "<img src=x" not in page
    assert "<script>alert" not in page


@pytest.mark.django_db
def test_it_names_a_download_so_that_no_header_can_be_added(client, chloe, anne):
    client.force_login(chloe)
    photo = upload_photo(upload(name='a"\r\nSet-Cookie: x=y;.jpg'), user=anne).photo
    response = client.get(reverse("photo_file", args=[photo.pk, "original"]))
    assert response.status_code == 200
    assert "\n" not in response["Content-Disposition"]
    assert "Set-Cookie" not in response
    b"".join(response.streaming_content)
