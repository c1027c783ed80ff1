import io
import struct
import zlib
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.http import HttpResponse
from django.test.client import FakePayload
from django.urls import reverse
from django.utils import timezone
from PIL import ExifTags, Image

from breeds.models import Prediction
from breeds.tasks import classify_photos
from shelter.intake.uploads import Outcome, file_name, upload_photo
from shelter.middleware import limit_request_size
from shelter.models import Animal, Photo
from tests.support.factories import upload
from tests.support.pictures import encoded, jpeg, picture


def send(client, *files, **headers):
    return client.post(reverse("upload"), {"images": list(files)}, **headers)


def png_bomb(side: int = 6400) -> bytes:
    """A PNG of 41 million pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def many_scans(scans: int = 300) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = encoded(picture(), "JPEG", progressive=True)
    last_scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last_scan * scans + whole[-2:]


REFUSED = {
    "empty": ("vide.jpg", b""),
    "text": ("notes.jpg", b"not an image at all, whatever its name says"),
    "pdf": ("contrat.jpg", b"%PDF-1.7\n" + bytes(500)),
    "gif": ("chien.gif", encoded(picture(), "GIF")),
    "truncated jpeg": ("coupee.jpg", jpeg()[:1500]),
    "truncated png": ("coupee.png", encoded(picture(), "PNG")[:-40]),
    "truncated webp": ("coupee.webp", encoded(picture(), "WEBP")[:-40]),
    "png bomb": ("bombe.png", png_bomb()),
    "300 scans": ("lente.jpg", many_scans()),
}


@pytest.mark.parametrize(("name", "content"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_a_bad_file_by_its_name_and_leaves_nothing(staff, stored_files, name, content):
    page = send(staff, upload(content, name)).content.decode()
    assert name in page
    assert not Photo.objects.exists()
    assert stored_files() == set()


ACCEPTED = {
    "jpeg": jpeg(),
    "png": encoded(picture(), "PNG"),
    "webp": encoded(picture(), "WEBP"),
    "heic": encoded(picture(), "HEIF"),
    "cmyk": encoded(picture(mode="CMYK"), "JPEG"),
    "16 bit": encoded(Image.new("I;16", (64, 48), 30_000), "PNG"),
    "animated": encoded(picture(1), "WEBP", save_all=True, append_images=[picture(2)]),
    "progressive": encoded(picture(), "JPEG", progressive=True),
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_it_accepts_every_good_photo_whatever_its_name_says(anne, content):
    receipt = upload_photo(upload(content, "photo.txt", "text/plain"), user=anne)
    assert receipt.outcome == Outcome.ACCEPTED
    assert receipt.photo.image.open().read() == content


def located_jpeg(seed: int = 0) -> bytes:
    """A photo that tells where it was taken, with a film behind it that tells it again."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 29.77)
    return jpeg(seed, exif=exif.tobytes()) + b"ftypmp42 +48.8577+002.2945/"


def test_it_stores_a_photo_without_the_place_where_it_was_taken(anne, stored_files):
    sent = located_jpeg()
    photo = upload_photo(upload(sent), user=anne).photo
    stored = photo.image.open().read()
    assert not dict(Image.open(io.BytesIO(stored)).getexif().get_ifd(ExifTags.IFD.GPSInfo))
    assert b"48.8577" not in stored
    assert photo.size == len(stored) == photo.image.size
    assert Image.open(io.BytesIO(stored)).tobytes() == Image.open(io.BytesIO(sent)).tobytes()
    assert stored_files() == {photo.image.name}


def test_it_knows_a_photo_again_as_it_was_sent_and_as_it_is_stored(anne, stored_files):
    photo = upload_photo(upload(located_jpeg()), user=anne).photo
    as_stored = photo.image.open().read()
    assert as_stored != located_jpeg()
    for content in (located_jpeg(), as_stored, located_jpeg() + b"another film"):
        receipt = upload_photo(upload(content), user=anne)
        assert (receipt.outcome, receipt.photo) == (Outcome.KNOWN, photo)
    assert stored_files() == {photo.image.name}


def test_it_keeps_one_of_two_copies_that_race_with_different_places(anne, monkeypatch, stored_files):
    first = upload_photo(upload(located_jpeg()), user=anne).photo
    _hide_the_twin(monkeypatch)
    receipt = upload_photo(upload(located_jpeg() + b"another film"), user=anne)
    assert (receipt.outcome, receipt.photo) == (Outcome.KNOWN, first)
    assert stored_files() == {first.image.name}


def test_it_refuses_a_photo_whose_metadata_nobody_can_follow(anne, stored_files):
    damaged = bytearray(encoded(picture(), "HEIF"))
    table = damaged.index(b"iloc")
    damaged[table + 10 : table + 12] = b"\xff\xff"
    receipt = upload_photo(upload(bytes(damaged)), user=anne)
    assert (receipt.outcome, receipt.code) == (Outcome.REFUSED, "undecodable")
    assert stored_files() == set()


def test_it_opens_originals_only_to_those_who_may(staff, anne):
    photo = upload_photo(upload(), user=anne).photo
    original, preview = (reverse("photo_file", args=[photo.pk, kind]) for kind in ("original", "preview"))
    assert original not in staff.get(photo.get_absolute_url()).content.decode()
    assert staff.get(original).url == preview
    anne.user_permissions.add(Permission.objects.get(codename="view_original"))
    assert original in staff.get(photo.get_absolute_url()).content.decode()
    assert staff.get(original).status_code == 200


def test_it_gives_every_file_of_a_batch_its_own_receipt(staff):
    response = send(staff, upload(jpeg(1), "a.jpg"), upload(b"nothing", "b.jpg"), upload(jpeg(2), "c.jpg"))
    outcomes = [receipt.outcome for receipt in response.context["receipts"]]
    assert outcomes == [Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ACCEPTED]


def test_it_queues_an_accepted_photo_and_hints_once_it_is_committed(staff, django_capture_on_commit_callbacks, hints):
    with django_capture_on_commit_callbacks(execute=True):
        send(staff, upload())
    prediction = Prediction.objects.get()
    assert prediction.status == Prediction.Status.PENDING
    assert prediction.photo.uploaded_by.username == "anne"
    assert hints == ["breeds.tasks.classify_photos"]


def test_it_accepts_photos_while_the_broker_is_down(staff, settings, monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr("breeds.hints._send", _broken_broker)
    with django_capture_on_commit_callbacks(execute=True):
        send(staff, upload())
    assert Photo.objects.get().status == Photo.Status.PENDING


def _broken_broker(task_name):
    raise OSError("no broker")


def test_it_puts_a_lost_file_back_when_its_photo_is_sent_again(anne, hints, classifier):
    photo = upload_photo(upload(), user=anne).photo
    content = photo.image.open().read()
    photo.image.storage.delete(photo.image.name)
    classify_photos()
    assert Prediction.objects.get().error_code == "missing"
    assert upload_photo(upload(), user=anne).photo == photo
    classify_photos()
    photo.refresh_from_db()
    assert (photo.status, photo.image.open().read()) == (Photo.Status.DONE, content)


def test_the_lost_file_of_an_answered_photo_comes_back_when_it_is_sent_again(anne, classifier):
    photo = upload_photo(upload(), user=anne).photo
    content = photo.image.open().read()
    classify_photos()
    photo.image.storage.delete(photo.image.name)
    assert upload_photo(upload(), user=anne).outcome == Outcome.KNOWN
    assert Photo.objects.get().image.open().read() == content


def test_it_knows_the_same_bytes_again_and_says_when_and_where(staff, anne):
    rex = Animal.objects.create(name="Rex")
    first = upload_photo(upload(), user=anne, animal=rex).photo
    receipt = send(staff, upload(name="autre-nom.jpg")).context["receipts"][0]
    assert (receipt.outcome, receipt.photo) == (Outcome.KNOWN, first)
    assert "Rex" in receipt.message
    assert Photo.objects.count() == 1


def test_it_queues_a_failed_photo_again_when_it_is_sent_again(anne):
    photo = upload_photo(upload(), user=anne).photo
    photo.predictions.update(status=Prediction.Status.FAILED)
    Photo.objects.update(status=Photo.Status.FAILED)
    upload_photo(upload(), user=anne)
    assert [p.status for p in photo.predictions.all()] == ["pending", "failed"]


def test_it_keeps_the_twins_file_when_two_uploads_of_the_same_bytes_race(anne, monkeypatch, stored_files):
    first = upload_photo(upload(), user=anne).photo
    _hide_the_twin(monkeypatch)
    receipt = upload_photo(upload(), user=anne)
    assert (receipt.outcome, receipt.photo) == (Outcome.KNOWN, first)
    assert stored_files() == {first.image.name}


def _hide_the_twin(monkeypatch) -> None:
    """The first look finds nothing: the twin is not yet committed."""
    found, looks = Photo.objects.with_content, []

    def look(*digests):
        looks.append(digests)
        return found(*digests) if len(looks) > 1 else Photo.objects.none()

    monkeypatch.setattr(Photo.objects, "with_content", look)


def test_it_leaves_no_file_when_the_row_cannot_be_written(anne, monkeypatch, stored_files):
    monkeypatch.setattr(Photo, "store", lambda *_: (_ for _ in ()).throw(ConnectionError("database gone")))
    with pytest.raises(ConnectionError):
        upload_photo(upload(), user=anne)
    assert (stored_files(), Photo.objects.count()) == (set(), 0)


def test_it_refuses_a_file_over_the_limit(staff, settings):
    settings.MAX_PHOTO_BYTES = 1000
    assert send(staff, upload()).context["receipts"][0].code == "too_large"


@pytest.mark.parametrize(("size", "code"), [(40_000_000, "not_an_image"), (40_000_001, "too_large")])
def test_a_photo_of_more_than_forty_megabytes_is_refused(anne, size, code):
    file = upload(b"x")
    file.size = size
    assert upload_photo(file, user=anne).code == code


@pytest.mark.parametrize(("size", "status"), [("200000000", 200), ("200000001", 413)])
def test_a_request_of_more_than_200_megabytes_is_refused(rf, size, status):
    request = rf.get("/api/v1/photos/", CONTENT_LENGTH=size)
    assert limit_request_size(lambda _request: HttpResponse())(request).status_code == status


def test_it_refuses_a_request_over_the_limit_before_reading_it(staff, settings):
    settings.MAX_REQUEST_BYTES = 1000
    assert send(staff, upload()).status_code == 413


def test_it_reads_a_large_photo_in_few_pieces(anne, client, monkeypatch):
    """Each costs gunicorn a copy of all that came after it."""
    pieces, read = [], FakePayload.read
    monkeypatch.setattr(FakePayload, "read", lambda self, size=-1: pieces.append(size) or read(self, size))
    client.force_login(anne)
    content = encoded(picture(), "BMP") * 20  # 4.6 MB that are no photo
    assert send(client, upload(content)).context["receipts"][0].outcome == Outcome.REFUSED
    assert len(pieces) <= 2 + len(content) / 1_000_000


def test_it_says_so_when_no_file_arrived(staff):
    assert send(staff).context["receipts"][0].code == "no_file"


def test_it_answers_htmx_with_the_receipts_alone(staff):
    page = send(staff, upload(), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in page
    assert "rex.jpg" in page


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("C:\\photos\\Rex.jpg", "Rex.jpg"), ("../../etc/passwd", "passwd"), ("a\x00b\n.jpg", "ab.jpg"), ("", "photo"),
     (None, "photo"), ("é" * 300 + ".jpg", "é" * 251 + ".jpg")],
)  # fmt: skip
def test_it_keeps_only_a_harmless_file_name(sent, kept):
    assert file_name(sent) == kept


def test_it_serves_no_photo_as_anything_a_browser_would_run(staff, anne):
    anne.user_permissions.add(Permission.objects.get(codename="view_original"))
    photo = upload_photo(upload(name="x.html", media_type="text/html"), user=anne).photo
    response = staff.get(reverse("photo_file", args=[photo.pk, "original"]))
    assert response["Content-Type"] == "image/jpeg"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]
    assert Image.open(io.BytesIO(b"".join(response.streaming_content))).size == (320, 240)


def test_it_removes_the_files_with_the_photo(anne, stored_files, django_capture_on_commit_callbacks):
    photo = upload_photo(upload(), user=anne).photo
    with django_capture_on_commit_callbacks(execute=True):
        photo.delete_with_files()
    assert stored_files() == set()


@pytest.mark.parametrize(("hours", "is_kept"), [(-1, True), (48, False)])
def test_it_keeps_when_a_photo_was_taken_unless_the_clock_was_wrong(anne, hours, is_kept):
    moment = timezone.localtime().replace(microsecond=0) + timedelta(hours=hours)
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = moment.strftime("%Y:%m:%d %H:%M:%S")
    photo = upload_photo(upload(jpeg(exif=exif.tobytes())), user=anne).photo
    photo.refresh_from_db()
    assert photo.taken_at == (moment if is_kept else None)
