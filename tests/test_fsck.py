"""`manage.py fsck`: no row without its file, no file without its row, in a folder and in a bucket."""

import io
import uuid
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone

from breeds.models import Prediction
from breeds.tasks import classify_photos
from shelter.models import Import, Photo
from shelter.operations.consistency import Consistency, Kind
from tests.support.commands import run
from tests.support.factories import a_photo, an_answered_photo
from tests.support.s3_server import s3_server, storage_options

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["folder", "bucket"], autouse=True)
def storage(request, settings):
    if request.param == "folder":
        yield "folder"
        return
    with s3_server() as (address, _objects):
        settings.STORAGES = settings.STORAGES | {"default": storage_options(address)}
        yield "bucket"


@pytest.fixture
def photos(anne, classifier):
    photos = [an_answered_photo(anne) for _ in range(3)]
    photos[0].thumbnail(240)
    return photos


def fsck(*arguments: str) -> str:
    return run("fsck", *arguments, "--grace", "0")


def fails(*arguments: str) -> str:
    out = io.StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("fsck", *arguments, "--grace", "0", stdout=out)
    assert raised.value.returncode == 1
    return out.getvalue()


def keep(name: str, content: bytes = b"x") -> str:
    return default_storage.save(name, ContentFile(content))


def test_it_finds_nothing_wrong_where_nothing_is(photos):
    assert fsck("--hashes") == "All is well.\n"


def test_it_finds_a_photo_without_its_file_and_one_without_its_preview(photos):
    default_storage.delete(photos[0].image.name)
    default_storage.delete(photos[1].preview.name)
    report = fails()
    assert f"a photo without its file, {photos[0].image.name}, photo {photos[0].pk}" in report
    assert f"a photo without its preview, {photos[1].preview.name}, photo {photos[1].pk}" in report
    assert f"photo {photos[2].pk}" not in report


def test_it_finds_a_file_without_a_row_wherever_it_lies(photos):
    nobodys = {keep(name) for name in ("a.txt", f"originals/ab/{'ab' * 32}.jpg", "originals/.partial-x", "b/c/d")}
    report = fails()
    assert all(f"a file without a row, {name}\n" in report for name in nobodys)
    assert report.count("a file without a row") == len(nobodys)


def test_it_changes_nothing_unless_told_to(photos, stored_files):
    keep("a.txt")
    default_storage.delete(photos[1].preview.name)
    before = stored_files()
    fails()
    assert stored_files() == before
    assert Photo.objects.get(pk=photos[1].pk).preview.name == photos[1].preview.name


def test_it_sets_aside_what_no_row_knows_and_loses_none_of_it(photos, stored_files):
    keep("a.txt", b"one")
    assert "All is well now." in fsck("--repair")
    keep("a.txt", b"another")
    fsck("--repair")
    aside = [name for name in stored_files() if name.startswith("set-aside/")]
    assert {default_storage.open(name).read() for name in aside} == {b"one", b"another"}
    assert fsck() == "All is well.\n"


def test_it_leaves_alone_what_may_be_waiting_for_its_row(photos):
    keep("originals/ab/" + "ab" * 32 + ".jpg")
    consistency = Consistency(grace=timedelta(hours=1))
    assert list(consistency.findings()) == []
    assert [finding.kind for finding in consistency.findings(timezone.now() + timedelta(hours=2))] == [Kind.ORPHAN]


def test_a_file_without_a_row_is_reported_when_it_is_an_hour_old(photos, monkeypatch):
    keep("originals/ab/" + "ab" * 32 + ".jpg")
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now + timedelta(minutes=59))
    call_command("fsck")
    monkeypatch.setattr("django.utils.timezone.now", lambda: now + timedelta(minutes=61))
    with pytest.raises(CommandError, match="Received: 1 that do not"):
        call_command("fsck")


def test_it_leaves_alone_what_got_its_row_after_it_was_found(anne):
    """Between the listing and the repair, the upload is committed."""
    consistency = Consistency(grace=timedelta())
    photo = a_photo(anne)
    row = Photo.objects.get(pk=photo.pk)
    Prediction.objects.all().delete()
    Photo.objects.all().delete()
    (finding,) = consistency.findings(timezone.now() + timedelta(seconds=2))
    row.save(force_insert=True)
    assert consistency.repair(finding)
    assert default_storage.exists(photo.image.name)


def test_it_brings_back_a_photo_that_was_set_aside(photos, anne):
    photo = photos[0]
    content = photo.image.open().read()
    row = Photo.objects.get(pk=photo.pk)
    photo.predictions.all().delete()
    Photo.objects.filter(pk=photo.pk).delete()
    fsck("--repair")
    assert not default_storage.exists(photo.image.name)
    row.preview = ""
    row.save(force_insert=True)
    fsck("--repair")
    assert photo.image.storage.open(photo.image.name).read() == content


def test_it_reads_every_hash_when_asked_and_keeps_a_damaged_file(photos, stored_files):
    default_storage.delete(photos[0].image.name)
    keep(photos[0].image.name, b"something else")
    assert fsck() == "All is well.\n"
    report = fails("--hashes", "--repair")
    assert f"a file that has changed since it came, {photos[0].image.name}" in report
    assert default_storage.open(photos[0].image.name).read() == b"something else"


def test_it_puts_the_good_copy_back_in_place_of_a_damaged_file(photos, stored_files):
    photo, content = photos[0], photos[0].image.open().read()
    keep(f"set-aside/{photo.sha256[:16]}/{photo.image.name}", content)
    default_storage.delete(photo.image.name)
    keep(photo.image.name, b"damaged")
    fsck("--hashes", "--repair")
    assert default_storage.open(photo.image.name).read() == content
    assert b"damaged" in {default_storage.open(name).read() for name in stored_files() if "set-aside" in name}


def test_it_has_a_lost_preview_made_again(photos, classifier):
    default_storage.delete(photos[0].preview.name)
    fsck("--repair")
    classify_photos()
    assert fsck() == "All is well.\n"
    assert default_storage.exists(photos[0].preview.name)


def test_it_asks_again_for_an_answer_that_nobody_was_asked_for(photos):
    Photo.objects.filter(pk=photos[0].pk).update(status=Photo.Status.PENDING)
    assert f"nobody was asked for, photo {photos[0].pk}" in fails()
    fsck("--repair")
    assert photos[0].predictions.filter(status="pending").exists()


def test_it_knows_the_pieces_of_an_import_that_is_not_over(anne, stored_files):
    batch = Import.objects.receive(anne, "a.zip", 5)
    batch.take_part(0, ContentFile(b"hello"))
    keep(f"imports/{uuid.uuid4()}/000000")
    report = fails()
    assert report.count("a file without a row") == 1
    default_storage.delete(batch.part_path(0))
    assert f"an import without one of its pieces, {batch.part_path(0)}" in fails()


def test_it_leaves_photos_that_share_a_file_alone(photos, anne):
    """As those of `seed_demo` do, under names of their own."""
    keep("originals/demo/a.jpg")
    for photo in photos[:2]:
        default_storage.delete(photo.image.name)
    Photo.objects.filter(pk__in=[photo.pk for photo in photos[:2]]).update(image="originals/demo/a.jpg")
    assert fsck() == "All is well.\n"
