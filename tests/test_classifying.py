"""The row is the queue: claims, leases, attempts, the sweeper, and what an answer changes."""

from datetime import timedelta

import numpy as np
import pytest
from django.urls import reverse
from django.utils import timezone

from breeds import classifier as classifiers
from breeds.models import Breed, Prediction, Review, lease_is_over, unpack_floats
from breeds.tasks import classify_photos, sweep
from shelter.intake.uploads import upload_photo
from shelter.models import Photo
from tests.support.factories import a_photo, answer_all, upload
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture
def photos(anne, hints, settings):
    settings.CLAIM_BATCH = 4
    return [a_photo(anne) for _ in range(6)]


class WhenAsked:
    """Stands where a classifier looks for its errors, has none, and does something on the way."""

    def __init__(self, act):
        self.act = act

    def __contains__(self, image_bytes):
        self.act()
        return False


def claim(limit=4, **options):
    return Prediction.objects.claim(limit, **options)


def statuses():
    return [p.status for p in Prediction.objects.order_by("pk")]


def test_it_claims_a_batch_in_the_order_of_urgency_then_arrival(photos):
    Prediction.objects.filter(photo=photos[0]).update(priority=Prediction.Priority.BULK)
    assert [p.photo for p in claim()] == photos[1:5]


def test_it_never_gives_one_row_to_two_workers(photos):
    first, second, third = claim(), claim(), claim()
    assert len({p.pk for p in first + second}) == 6
    assert third == []


def test_it_gives_a_row_away_only_once_when_two_workers_saw_it_at_the_same_moment(photos, monkeypatch):
    """The other worker takes everything between our look and our update."""
    query = type(Prediction.objects.all())
    look = query.values_list

    def look_then_lose(self, *fields, **options):
        rows = list(look(self, *fields, **options))
        query.filter(self.model.objects.all(), status="pending").update(status="running")
        return rows

    monkeypatch.setattr(query, "values_list", look_then_lose)
    assert claim() == []


def test_it_claims_a_row_that_failed_before_alone(photos):
    Prediction.objects.filter(photo__in=[photos[0], photos[2]]).update(attempts=1)
    assert [p.photo for p in claim()] == photos[:1]
    assert [p.photo for p in claim()] == [photos[1], photos[3], photos[4]]


def test_it_answers_every_pending_photo(photos, classifier):
    answer_all()
    assert statuses() == ["done"] * 6
    assert {photo.status for photo in Photo.objects.all()} == {Photo.Status.DONE}


def test_it_passes_the_hint_on_before_it_begins_while_photos_are_waiting(photos, classifier, hints, settings):
    settings.CLASSIFY_SLICE_SECONDS, seen = 0, []
    classifier.errors = WhenAsked(lambda: seen.append(list(hints)))
    assert [classify_photos(), classify_photos()] == [4, 2]
    assert seen == [["breeds.tasks.classify_photos"]] * 6
    assert hints == ["breeds.tasks.classify_photos"]


def test_it_goes_on_with_batches_for_a_moment_and_passes_one_hint_on(photos, classifier, hints, settings):
    settings.CLASSIFY_SLICE_SECONDS = 3600
    assert [classify_photos(), classify_photos()] == [6, 0]
    assert hints == ["breeds.tasks.classify_photos"]


def test_it_passes_the_hint_on_for_what_came_meanwhile(photos, anne, classifier, hints, settings):
    settings.CLASSIFY_SLICE_SECONDS = 0
    assert classify_photos() == 4
    hints.clear()
    late = iter([lambda: upload_photo(upload(jpeg(9)), user=anne)])
    classifier.errors = WhenAsked(lambda: next(late, lambda: None)())
    assert classify_photos() == 2
    assert hints == ["breeds.tasks.classify_photos"]


def test_it_writes_the_answer_into_the_index_of_the_photo(photos, classifier):
    classify_photos()
    photo = Photo.objects.get(pk=photos[0].pk)
    assert (photo.breed.slug, photo.group, photo.decision, photo.source) == ("beagle", "scenthounds", "breed", "model")
    assert photo.predictions.get().version.version == "fake-1"
    assert photo.preview.open().read() == classifier.answer.preview


def test_it_keeps_what_the_answer_was_made_from(photos, classifier):
    classify_photos()
    prediction = photos[0].predictions.get()
    assert prediction.energy == 9.0
    np.testing.assert_allclose(unpack_floats(prediction.probs), [0.9, 0.1, 0], rtol=1e-3)
    np.testing.assert_allclose(unpack_floats(prediction.embedding), [1, 2, 3])
    assert [reason["code"] for reason in prediction.reasons] == ["breed_sure"]


def test_it_says_why_under_the_answer_until_a_person_decides(photos, classifier, staff):
    classify_photos()
    url = reverse("photo", args=[photos[0].pk])
    assert "Flair nomme une race à partir de 70,0" in staff.get(url).content.decode()
    Photo.objects.filter(pk=photos[0].pk).update(source=Photo.Source.HUMAN)
    assert "Flair nomme une race" not in staff.get(url).content.decode()


def test_it_never_overwrites_what_a_person_decided(photos, classifier):
    poodle = Breed.objects.get(slug="toy_poodle")
    Photo.objects.filter(pk=photos[0].pk).update(breed=poodle, source=Photo.Source.HUMAN, decision="breed")
    classify_photos()
    photo = Photo.objects.get(pk=photos[0].pk)
    assert (photo.breed, photo.status) == (poodle, Photo.Status.DONE)
    assert photo.predictions.get().label == "beagle"


def test_it_fails_a_damaged_photo_at_once_and_answers_the_others(photos, classifier):
    classifier.errors[jpeg(1)] = classifiers.UnreadableImage("undecodable", "Expected a whole JPEG.")
    answer_all()
    assert statuses() == ["done", "failed", "done", "done", "done", "done"]
    assert Photo.objects.get(pk=photos[1].pk).status == Photo.Status.FAILED


def test_it_names_the_file_and_the_reason_of_a_failed_photo(photos, classifier, staff):
    classifier.errors[jpeg(0)] = classifiers.UnreadableImage("undecodable", "Expected a whole JPEG.")
    classify_photos()
    page = staff.get(awaited(photos[0]), headers={"Accept-Language": "en"}).content.decode()
    assert "“rex.jpg” is damaged" in page


def test_it_tries_an_error_that_may_pass_three_times_and_then_fails_with_its_reason(photos, classifier):
    classifier.errors[jpeg(0)] = OSError("disk full")
    answer_all()
    prediction = Prediction.objects.get(photo=photos[0])
    assert (prediction.status, prediction.attempts) == ("failed", 3)
    assert "disk full" in prediction.error
    assert statuses()[1:] == ["done"] * 5


def test_it_keeps_photos_waiting_while_no_classifier_can_be_loaded(photos, monkeypatch):
    def broken(num_threads=1):
        raise classifiers.BadCheckpoint("Expected a checkpoint.")

    monkeypatch.setattr(classifiers, "active_classifier", broken)
    classify_photos()
    assert set(Prediction.objects.values_list("status", "attempts")) == {("pending", 0)}


def test_it_hands_back_what_a_dead_worker_held_and_hints(photos, hints):
    claim(now=timezone.now() - timedelta(minutes=5))
    assert sweep() == 4
    assert statuses() == ["pending"] * 6
    assert hints == ["breeds.tasks.classify_photos"]


def test_it_leaves_alone_what_a_living_worker_holds(photos):
    claim()
    assert sweep() == 0


@pytest.mark.parametrize(
    ("seconds", "is_over"), [(-3600, True), (-1, True), (1, False), (60, False), (61, True), (3600, True)]
)
def test_a_lease_is_over_in_the_past_and_where_it_ends_later_than_any_lease_does(photos, seconds, is_over):
    now = timezone.now()
    Prediction.objects.update(leased_until=now + timedelta(seconds=seconds))
    assert Prediction.objects.filter(lease_is_over("leased_until", now)).count() == (6 if is_over else 0)


def test_it_gives_up_a_photo_that_killed_its_worker_three_times(photos):
    for _ in range(3):
        claim(limit=1, now=timezone.now() - timedelta(minutes=5))
        sweep()
    photo = Photo.objects.get(pk=photos[0].pk)
    assert photo.status == Photo.Status.FAILED
    assert "interrupted" in photo.predictions.get().error_code


def test_it_discards_the_answer_of_a_worker_whose_lease_has_gone(photos, classifier):
    late = claim(limit=1, now=timezone.now() - timedelta(minutes=5))[0]
    sweep()
    assert not late.finish(classifier.answer, classifier.row())
    current = claim(limit=1)[0]
    assert current.finish(classifier.answer, classifier.row())
    assert not late.fail("passing", "too late")
    assert Prediction.objects.get(pk=late.pk).status == Prediction.Status.DONE


def test_a_photo_whose_lease_has_gone_is_not_given_back_to_the_queue(photos):
    late = claim(limit=1, now=timezone.now() - timedelta(minutes=5))[0]
    sweep()
    current = claim(limit=1)[0]
    assert not late.give_back("passing", "too late")
    current.refresh_from_db()
    assert (current.pk, current.status, current.error_code) == (late.pk, Prediction.Status.RUNNING, "")


def test_a_photo_is_stuck_where_somebody_has_waited_for_half_an_hour(photos):
    now = timezone.now()
    for pk, minutes in enumerate((29, 31), Prediction.objects.earliest("pk").pk):
        Prediction.objects.filter(pk=pk).update(created_at=now - timedelta(minutes=minutes))
    assert list(Photo.objects.stuck(now)) == [photos[1]]


def test_it_keeps_one_open_wish_for_an_answer_per_photo(photos):
    photos[0].enqueue()
    assert photos[0].predictions.count() == 1
    classifier_free = Prediction.objects.filter(photo=photos[0])
    classifier_free.update(status=Prediction.Status.FAILED)
    photos[0].enqueue()
    assert photos[0].predictions.count() == 2


def awaited(*photos) -> str:
    return f"{reverse('photo_answers')}?photos={','.join(str(photo.pk) for photo in photos)}"


def test_it_asks_for_the_answer_until_it_is_there(photos, classifier, staff):
    assert f'data-awaited="{photos[0].pk}"' in staff.get(photos[0].get_absolute_url()).content.decode()
    assert "answer" not in staff.get(awaited(photos[0])).content.decode()
    classify_photos()
    page = staff.get(awaited(photos[0])).content.decode()
    assert "Ressemble à un beagle (90,0\u00a0%)" in page.replace("&nbsp;", "\u00a0")
    assert "data-awaited" not in page


def test_it_tells_all_answers_of_a_page_at_once(photos, classifier, staff, django_assert_max_num_queries):
    answer_all()
    with django_assert_max_num_queries(6):
        page = staff.get(awaited(*photos)).content.decode()
    assert [page.count(f'data-photo="{photo.pk}"') for photo in photos] == [1] * 6


def test_it_tells_of_photos_that_are_deleted_while_they_are_awaited(photos, staff):
    address = awaited(photos[0])
    photos[0].delete_with_files()
    page = staff.get(f"{address},1x,,{'9' * 30}").content.decode()
    assert page.count("a été supprimée depuis") == 2  # in full and in one line


def test_it_shows_the_answer_that_a_person_gave_meanwhile(photos, classifier, staff, anne):
    classify_photos()
    Review.objects.record(photos[0], by=anne, verdict=Review.Verdict.NOT_A_DOG)
    assert "Il n’y a pas de chien" in staff.get(awaited(photos[0])).content.decode()
