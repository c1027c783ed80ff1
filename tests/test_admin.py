"""The admin: what administrators see, find, do to many at once, and what is kept of it."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from breeds.models import Breed, Prediction, Review
from breeds.tasks import classify_photos
from shelter.intake.uploads import upload_into
from shelter.models import Animal, Import, Photo
from tests.support.factories import an_answered_photo, upload
from tests.support.fakes import FakeClassifier
from tests.support.pictures import jpeg

ENGLISH = {"Accept-Language": "en"}
PHOTOS = "admin:shelter_photo_changelist"


@pytest.fixture
def store(classifier, anne):
    """Photos that the classifier has answered, by their seeds."""

    def store(*seeds: int) -> list[Photo]:
        return [an_answered_photo(anne, seed, f"{seed}.jpg") for seed in seeds]

    return store


def act(client, action: str, *photos: Photo) -> str:
    data = {"action": action, "_selected_action": [photo.pk for photo in photos]}
    page = client.post(reverse(PHOTOS), data, headers=ENGLISH, follow=True)
    return " ".join(str(message) for message in page.context["messages"])


def found(client, model: str, **query) -> list:
    response = client.get(reverse(f"admin:{model}_changelist"), query, headers=ENGLISH)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def fail(photo: Photo) -> None:
    Prediction.objects.filter(photo=photo).delete()
    photo.predictions.create(status="failed", error_code="undecodable")
    Photo.objects.filter(pk=photo.pk).update(status="failed", decision="", breed=None, group="", source="")


def wait_since(photo: Photo, **age) -> None:
    photo.predictions.create(created_at=timezone.now() - timedelta(**age))
    Photo.objects.filter(pk=photo.pk).update(status="pending")


# -- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["shelter_photo", "breeds_prediction", "breeds_review", "shelter_import"])
def test_it_needs_the_same_few_queries_for_many_rows_as_for_one(admin, store, anne, model):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin.get(reverse(f"admin:{model}_changelist")).status_code == 200
        return len(captured)

    def add(*seeds):
        for photo in store(*seeds):
            dog = Animal.objects.create(name=f"Rex {photo.pk}")
            Photo.objects.filter(pk=photo.pk).file_under(dog)
            Review.objects.record(photo, by=anne, verdict="confirm", prediction=photo.newest_answer)
            upload_into(Import.objects.upload_of(anne, None), upload(jpeg(photo.pk + 900)))

    add(1)
    queries()  # fills what is remembered, such as content types
    few = queries()
    add(2, 3, 4, 5, 6)
    assert queries() == few <= 16


@pytest.mark.parametrize("model", ["shelter_photo", "breeds_prediction", "breeds_review"])
def test_it_shows_each_row_with_its_picture(admin, store, anne, model):
    (photo,) = store(1)
    Review.objects.record(photo, by=anne, verdict="not_a_dog")
    page = admin.get(reverse(f"admin:{model}_changelist")).content.decode()
    assert f'<img src="{reverse("photo_file", args=[photo.pk, "small"])}"' in page


def test_it_finds_photos_by_decision_breed_level_version_failure_and_waiting(admin, store, classifier, anne):
    beagle, failed, waiting, fresh, said = store(1, 2, 3, 4, 5)
    fail(failed)
    wait_since(waiting, hours=1)
    wait_since(fresh, minutes=1)
    pug = Breed.objects.get(slug="pug")
    Review.objects.record(said, by=anne, verdict="correct", breed=pug)
    version = classifier.row()

    assert found(admin, "shelter_photo", status__exact="failed") == [failed]
    assert found(admin, "shelter_photo", waiting="long") == [waiting]
    assert found(admin, "shelter_photo", breed__id__exact=pug.pk) == [said]
    assert found(admin, "shelter_photo", source__exact="human") == [said]
    assert set(found(admin, "shelter_photo", decision__exact="breed")) == {beagle, waiting, fresh, said}
    assert set(found(admin, "shelter_photo", version=version.pk)) == {beagle, waiting, fresh, said}
    assert found(admin, "shelter_photo", version="rex") == found(admin, "shelter_photo")
    assert found(admin, "shelter_photo", q="1.jpg") == [beagle]
    assert [p.photo for p in found(admin, "breeds_prediction", waiting="long")] == [waiting]
    version.activate()
    assert len(found(admin, "breeds_prediction", label="beagle")) == 4
    assert [r.photo for r in found(admin, "breeds_review", level="unsure")] == []
    assert [r.photo for r in found(admin, "breeds_review", verdict__exact="correct")] == [said]


def test_it_finds_a_review_by_the_level_of_the_answer_that_was_shown(admin, store, classifier, anne):
    sure, unsure = store(1, 2)
    classifier.answer = FakeClassifier(decision="unsure").answer
    unsure.enqueue()
    classify_photos()
    for photo in (sure, unsure):
        Review.objects.record(photo, by=anne, verdict="cannot_tell", prediction=photo.newest_answer)
    assert [review.photo for review in found(admin, "breeds_review", level="unsure")] == [unsure]


def test_it_lets_nobody_change_a_prediction_or_a_review(admin, store, anne):
    (photo,) = store(1)
    review = Review.objects.record(photo, by=anne, verdict="not_a_dog").review
    for model, row in (("breeds_prediction", photo.newest_answer), ("breeds_review", review)):
        address = reverse(f"admin:{model}_change", args=[row.pk])
        assert admin.get(address).status_code == 200
        assert admin.post(address, {"verdict": "confirm", "label": "pug"}).status_code == 403
        assert admin.get(reverse(f"admin:{model}_add")).status_code == 403
        assert admin.post(reverse(f"admin:{model}_delete", args=[row.pk])).status_code == 403


def test_it_keeps_to_the_content_security_policy(admin, store):
    (photo,) = store(1)
    fail(photo)
    pages = [reverse("admin:index"), reverse(PHOTOS), reverse("admin:breeds_prediction_changelist"),
             reverse("admin:shelter_photo_change", args=[photo.pk]),
             reverse("admin:shelter_photo_history", args=[photo.pk])]  # fmt: skip
    for page in pages:
        response = admin.get(page)
        assert "unsafe" not in response["Content-Security-Policy"]
        text = response.content.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
        assert all("src=" in tag or "application/json" in tag for tag in re.findall(r"<script[^>]*>", text))


# -- the first page ---------------------------------------------------------------------------------------------------


def test_it_says_on_the_first_page_what_failed_and_what_is_stuck(admin, store, anne):
    failed, waiting = store(1, 2)
    assert "none is stuck" in admin.get(reverse("admin:index"), headers=ENGLISH).content.decode()
    fail(failed)
    wait_since(waiting, hours=1)
    Import.objects.create(kind="archive", status="failed", error_code="not_a_zip")
    Import.objects.create(kind="disk", status="waiting", created_at=timezone.now() - timedelta(hours=1))
    page = admin.get(reverse("admin:index"), headers=ENGLISH)
    for text in ("photos failed", "photos have waited too long", "imports failed", "imports are stuck"):
        assert f"1 {text}" in page.content.decode()
    for address in re.findall(r'href="([^"]*\?(?:status__exact|waiting)=[a-z]+)"', page.content.decode()):
        assert len(admin.get(address).context["cl"].result_list) == 1


def test_it_calls_no_import_stuck_that_goes_on(anne):
    hour_ago = timezone.now() - timedelta(hours=1)
    batch = Import.objects.create(kind="disk", status="waiting", created_at=hour_ago)
    batch.items.create(path="a", outcome="known", settled_at=timezone.now())
    assert not Import.objects.stuck()
    batch.items.update(settled_at=hour_ago)
    assert list(Import.objects.stuck()) == [batch]


def test_it_gives_an_import_a_day_before_its_photos_count_as_stuck(store):
    (photo,) = store(1)
    photo.predictions.create(priority=Prediction.Priority.BULK, created_at=timezone.now() - timedelta(hours=2))
    assert not Photo.objects.stuck()
    assert Photo.objects.stuck(now=timezone.now() + timedelta(days=1)).get() == photo


# -- many at once -----------------------------------------------------------------------------------------------------


def test_it_tries_again_what_failed_and_nothing_else(admin, store):
    failed, answered = store(1, 2)
    fail(failed)
    assert "1 photo is waiting for the classifier again" in act(admin, "retry", failed, answered)
    assert [p.photo for p in Prediction.objects.filter(status="pending")] == [failed]
    assert Photo.objects.get(pk=failed.pk).status == "pending"
    assert [entry.object_id for entry in LogEntry.objects.all()] == [str(failed.pk)]


def test_it_classifies_again_and_queues_no_photo_twice(admin, store):
    photos = store(1, 2)
    photos[0].enqueue()
    assert "1 photo is waiting for the classifier again" in act(admin, "classify_again", *photos)
    assert Prediction.objects.filter(status="pending").count() == 2
    assert Photo.objects.get(pk=photos[1].pk).status == "done"


def test_it_classifies_the_photos_of_predictions_again_and_keeps_those(admin, store):
    (photo,) = store(1)
    data = {"action": "classify_again", "_selected_action": [photo.newest_answer.pk]}
    admin.post(reverse("admin:breeds_prediction_changelist"), data)
    assert list(photo.predictions.order_by("pk").values_list("status", flat=True)) == ["done", "pending"]


def test_it_says_how_many_are_confirmed_where_there_are_too_many_at_once(admin, store, monkeypatch):
    monkeypatch.setattr("shelter.admin.MOST_CONFIRMED_AT_ONCE", 1)
    said = act(admin, "confirm", *store(1, 2))
    assert "Of 2 photos the first 1 are confirmed" in said
    assert Photo.objects.filter(source="human").count() == 1


def test_it_confirms_what_the_model_says_and_touches_no_decision_of_a_person(admin, store, anne, chloe, classifier):
    first, second, decided = store(1, 2, 3)
    Review.objects.record(decided, by=anne, verdict="not_a_dog")
    classifier.answer = FakeClassifier(decision="unsure").answer
    second.enqueue()
    classify_photos()
    assert "Confirmed: 1. Left alone, because there was nothing to confirm: 1." in act(
        admin, "confirm", first, second, decided
    )
    assert Photo.objects.get(pk=first.pk).by_person
    assert first.reviews.get().by == chloe
    assert decided.reviews.get().by == anne


def test_it_exports_the_chosen_photos(admin, store):
    photos = store(1, 2, 3)
    data = {"action": "export", "_selected_action": [photo.pk for photo in photos[:2]]}
    table = b"".join(admin.post(reverse(PHOTOS), data)).decode()
    assert table.count("\n") == 3
    assert "3.jpg" not in table


# -- what was changed -------------------------------------------------------------------------------------------------


def test_it_keeps_what_was_there_before_and_after_every_change(admin, store, chloe):
    (photo,) = store(1)
    rex, bella = Animal.objects.create(name="Rex"), Animal.objects.create(name="Bella")
    inlines = {f"predictions-{form}": 0 for form in ("TOTAL_FORMS", "INITIAL_FORMS")}
    for dog in (rex, bella):
        admin.post(reverse("admin:shelter_photo_change", args=[photo.pk]), {"animal": dog.pk} | inlines)
    entry = LogEntry.objects.filter(object_id=photo.pk).first()
    assert "“Rex” → “Bella”" in entry.get_change_message()
    assert entry.user == chloe
    history = admin.get(reverse("admin:shelter_photo_history", args=[photo.pk])).content.decode()
    assert "“Rex” → “Bella”" in history
    assert "beagle" in history
    assert "“Rex” → “Bella”" in admin.get(reverse("admin:admin_logentry_changelist")).content.decode()


def test_it_keeps_the_changes_that_staff_make_on_the_pages(staff, store, anne):
    (photo,) = store(1)
    staff.post(reverse("file_photos"), {"photos": [photo.pk], "name": "Rex"}, headers=ENGLISH)
    rex = Animal.objects.get()
    data = {"name": "Rex II", "status": "adopted", "sex": "unknown"}
    staff.post(reverse("animal_edit", args=[rex.pk]), data, headers=ENGLISH)
    filed, changed = LogEntry.objects.filter(user=anne).order_by("pk")
    assert filed.get_change_message() == f"Filed under Rex ({rex.pk})."
    assert "“Rex” → “Rex II”" in changed.get_change_message()
    assert "“present” → “adopted”" in changed.get_change_message()
