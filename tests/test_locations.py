"""Originals that were stored with their position, before Flair removed it at intake."""

import io

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from PIL import ExifTags, Image

from shelter.intake.uploads import Outcome, upload_photo
from shelter.models import Photo
from tests.support.commands import run_for_lines
from tests.support.factories import upload
from tests.support.pictures import jpeg
from tests.test_uploading import located_jpeg


def clean_up(*arguments: str) -> list[str]:
    return run_for_lines("remove_locations", *arguments, stderr=io.StringIO())


def stored_earlier(user, content: bytes, name: str = "rex.jpg") -> Photo:
    """A photo as the first versions of Flair kept it: as it was sent."""
    photo = upload_photo(upload(content, name), user=user).photo
    photo.image.storage.save(photo.image.name, ContentFile(content))
    Photo.objects.filter(pk=photo.pk).update(stored_sha256=None, size=len(content), position_rule=0, taken_at=None)
    return Photo.objects.get(pk=photo.pk)


def position_in(photo: Photo) -> dict:
    with photo.image.open("rb") as file:
        return dict(Image.open(io.BytesIO(file.read())).getexif().get_ifd(ExifTags.IFD.GPSInfo))


@pytest.fixture
def old(anne) -> list[Photo]:
    return [stored_earlier(anne, located_jpeg(1), "a.jpg"), stored_earlier(anne, jpeg(2), "b.jpg")]


def test_it_removes_the_position_from_originals_that_came_in_earlier(old, anne, stored_files):
    names = stored_files()
    assert clean_up()[-1] == "2 originals looked at: 1 lost their position, 1 told none."
    photo = Photo.objects.get(pk=old[0].pk)
    assert position_in(photo) == {}
    stored = photo.image.open().read()
    assert Image.open(io.BytesIO(stored)).tobytes() == Image.open(io.BytesIO(located_jpeg(1))).tobytes()
    assert (photo.size, photo.sha256) == (len(stored), old[0].sha256)
    assert stored_files() == names
    for content in (located_jpeg(1), stored):
        assert upload_photo(upload(content), user=anne).photo == photo


def test_it_only_says_so_in_a_dry_run(old):
    before = Photo.objects.values().order_by("pk")
    rows = list(before)
    assert clean_up("--dry-run") == [
        f"photo {old[0].pk}, a.jpg: cleaned",
        "2 originals looked at: 1 would lose their position, 1 told none.",
    ]
    assert position_in(old[0])
    assert list(before.all()) == rows


def test_it_looks_at_no_photo_twice(old):
    clean_up()
    assert clean_up() == ["0 originals looked at: 0 lost their position, 0 told none."]


def test_it_looks_at_no_photo_that_came_in_without_its_position(anne):
    upload_photo(upload(located_jpeg()), user=anne)
    assert clean_up()[-1].startswith("0 originals")


def test_it_goes_on_where_it_was_killed(old, monkeypatch):
    monkeypatch.setattr("shelter.operations.locations._mark", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # the file is clean, the row does not know it yet
        clean_up()
    monkeypatch.undo()
    assert clean_up()[-1] == "2 originals looked at: 0 lost their position, 2 told none."
    photo = Photo.objects.get(pk=old[0].pk)
    assert photo.stored_sha256
    assert photo.size == photo.image.size


def test_it_names_what_nobody_can_vouch_for_and_does_the_others(old, anne):
    lost = stored_earlier(anne, jpeg(3), "c.jpg")
    lost.image.storage.delete(lost.image.name)
    broken = stored_earlier(anne, jpeg(4), "d.jpg")
    broken.image.storage.save(broken.image.name, ContentFile(b"broken"))
    out = io.StringIO()
    with pytest.raises(CommandError, match="Received: 2"):
        call_command("remove_locations", stdout=out, stderr=io.StringIO())
    assert f"photo {lost.pk}, c.jpg: missing" in out.getvalue()
    assert f"photo {broken.pk}, d.jpg: unreadable" in out.getvalue()
    assert position_in(Photo.objects.get(pk=old[0].pk)) == {}


def test_it_keeps_two_copies_of_one_picture_with_two_positions(old, anne):
    twin = stored_earlier(anne, located_jpeg(1) + b"another film", "twin.jpg")
    assert clean_up()[-1].startswith("3 originals looked at: 2 lost")
    assert position_in(Photo.objects.get(pk=twin.pk)) == {}
    assert upload_photo(upload(located_jpeg(1) + b"another film"), user=anne).outcome == Outcome.KNOWN


def test_it_leaves_no_file_of_a_photo_that_is_deleted_meanwhile(old, monkeypatch, stored_files):
    from shelter.operations import locations

    replace = locations._replace

    def deleted_before(photo, stored_bytes):
        Photo.objects.filter(pk=photo.pk).delete()
        photo.image.storage.delete(photo.image.name)
        replace(photo, stored_bytes)

    monkeypatch.setattr(locations, "_replace", deleted_before)
    clean_up()
    assert stored_files() == {old[1].image.name}
