"""`manage.py retention`: only what a rule names goes, and it leaves a row that says so."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from breeds.models import Prediction, Review
from breeds.tasks import classify_photos
from shelter.intake.uploads import Outcome, upload_photo
from shelter.models import Animal, Import, Photo, Removal
from tests.support.commands import run
from tests.support.factories import a_dog, a_review, an_answered_photo, upload
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture
def photos(anne, classifier):
    """Three answered photos, 100 days old."""
    for seed in range(10, 13):
        an_answered_photo(anne, seed)
    Photo.objects.update(uploaded_at=timezone.now() - timedelta(days=100))
    return list(Photo.objects.order_by("pk"))


@pytest.fixture
def retention(django_capture_on_commit_callbacks):
    def retention(*arguments) -> str:
        with django_capture_on_commit_callbacks(execute=True):
            return run("retention", *arguments)

    return retention


def left() -> set[int]:
    return set(Photo.objects.values_list("pk", flat=True))


def test_it_changes_nothing_without_being_told_to(photos, retention, stored_files):
    before = stored_files()
    report = retention("--photos", "90")
    assert f"loose photo {photos[0].pk}\n" in report
    assert "3 would go" in report
    assert (left(), stored_files()) == ({photo.pk for photo in photos}, before)
    assert not Removal.objects.exists()


def test_it_removes_old_photos_of_no_dog_with_their_files_and_writes_it_down(photos, retention, stored_files):
    a_dog("Rex", photos[0])
    Photo.objects.filter(pk=photos[1].pk).update(uploaded_at=timezone.now() - timedelta(days=80))
    assert "1 removed" in retention("--photos", "90", "--apply")
    assert left() == {photos[0].pk, photos[1].pk}
    assert not any(photos[2].sha256 in name for name in stored_files())
    removal = Removal.objects.get()
    assert (removal.rule, removal.object_id, removal.sha256) == ("loose photo", photos[2].pk, photos[2].sha256)
    assert call_command("fsck", "--grace", "0") is None


def test_it_keeps_what_somebody_said_anything_of_even_if_they_took_it_back(photos, retention, anne):
    Review.objects.withdraw(a_review(photos[0], anne, "not_a_dog"), by=anne)
    retention("--photos", "90", "--apply")
    assert left() == {photos[0].pk}


def test_it_keeps_what_a_worker_is_about_to_read(photos, retention):
    photos[0].enqueue(Prediction.Priority.BULK)
    retention("--photos", "90", "--originals", "90", "--apply")
    assert left() == {photos[0].pk}


def test_it_puts_the_preview_in_place_of_the_original_of_a_dog_that_left(photos, retention, stored_files, anne):
    adopted = Animal.objects.create(name="Rex", status=Animal.Status.ADOPTED)
    present = Animal.objects.create(name="Bella")
    Photo.objects.filter(pk=photos[0].pk).file_under(adopted)
    Photo.objects.filter(pk=photos[1].pk).file_under(present)
    a_review(photos[2], anne, breed="beagle")
    assert "1 removed" in retention("--originals", "90", "--apply")
    photo = Photo.objects.get(pk=photos[0].pk)
    assert photo.image.open().read() == photo.preview.open().read()
    assert photos[0].image.name not in stored_files()
    assert {photos[1].image.name, photos[2].image.name} <= stored_files()
    assert call_command("fsck", "--hashes", "--grace", "0") is None
    assert upload_photo(upload(jpeg(10)), user=anne).outcome == Outcome.KNOWN
    photo.enqueue()
    classify_photos()
    assert Photo.objects.get(pk=photo.pk).status == Photo.Status.DONE
    assert "0 removed" in retention("--originals", "90", "--apply")


def test_it_removes_the_receipts_of_old_imports_and_keeps_their_photos(photos, retention, anne):
    old, recent, open_one = (Import.objects.upload_of(anne, None) for _ in range(3))
    long_ago = timezone.now() - timedelta(days=400)
    Import.objects.filter(pk__in=[old.pk, open_one.pk]).update(changed_at=long_ago)
    Import.objects.filter(pk=open_one.pk).update(status=Import.Status.RUNNING)
    retention("--receipts", "365", "--apply")
    assert set(Import.objects.values_list("pk", flat=True)) == {recent.pk, open_one.pk}
    assert len(left()) == 3


def test_it_removes_nothing_that_changed_since_it_was_found(photos, retention, monkeypatch):
    """Somebody files the photo under a dog between the look and the lock."""
    from shelter.operations import retention as rules

    remove, rex = rules._remove_photo, Animal.objects.create(name="Rex")

    def remove_then_file(photo):
        Photo.objects.exclude(pk=photo.pk).update(animal=rex)
        return remove(photo)

    monkeypatch.setitem(rules._REMOVE, Removal.Rule.LOOSE_PHOTO, remove_then_file)
    assert "1 removed" in retention("--photos", "90", "--apply")
    assert len(left()) == 2


@pytest.mark.parametrize("arguments", [[], ["--apply"]])
def test_it_refuses_to_guess(retention, arguments):
    with pytest.raises(CommandError, match="Expected"):
        retention(*arguments)


def test_it_refuses_zero_days(retention):
    with pytest.raises(CommandError, match=r"^Days must be at least 1\.$"):
        retention("--photos", "0")


def test_it_lets_nobody_change_what_was_written_down(photos, retention):
    retention("--photos", "90", "--apply")
    removal = Removal.objects.first()
    for change in (
        removal.save, removal.delete, Removal.objects.all().delete, lambda: Removal.objects.update(days=1),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="only appended"):
            change()
