"""The review queue: the most useful photo first, one person's at a time, some of them blind, everything undone."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from breeds.models import BLIND_ONE_IN, Prediction, Review, ReviewTurn
from breeds.tasks import classify_photos
from shelter.models import Photo
from tests.support.factories import a_dog, a_photo, a_review, an_account
from tests.support.fakes import FakeClassifier

QUEUE = "/review/"


@pytest.fixture
def sami(db):
    return an_account("sami", "reviewer")


@pytest.fixture
def answered(classifier, anne):
    """Store a photo under this number and let the classifier answer it."""

    def store(pk: int, decision="breed", label="beagle", probability=0.9, **fields) -> Photo:
        photo = a_photo(anne, pk, f"{pk}.jpg")
        Prediction.objects.filter(photo=photo).delete()
        Photo.objects.filter(pk=photo.pk).delete()
        photo.pk = photo.id = pk
        for name, value in fields.items():
            setattr(photo, name, value)
        photo.save(force_insert=True)
        photo.enqueue()
        classifier.answer = FakeClassifier(label, decision, "scenthounds", probability).answer
        classify_photos()
        return Photo.objects.get(pk=pk)

    return store


def shown(client) -> Photo | None:
    return client.get(QUEUE).context["photo"]


def say(client, photo, **data):
    fields = {"photo": photo.pk, "prediction": photo.newest_answer.pk}
    return client.post(QUEUE, fields | data, headers={"Accept-Language": "en"}, follow=True)


def test_it_shows_the_most_useful_photo_first(answered, anne):
    rex = a_dog()
    rows = [
        answered(1, probability=0.95), answered(2, probability=0.6), answered(3, "group"), answered(4, "unsure"),
        answered(5, "not_a_dog"), answered(BLIND_ONE_IN, probability=0.99),
        answered(6, animal=rex), answered(7, label="basset", animal=rex),
    ]  # fmt: skip
    a_review(answered(8, "unsure"), anne, "cannot_tell")

    found = [photo.pk for photo in Photo.objects.awaiting_review()]

    assert found == [6, 7, 4, BLIND_ONE_IN, 3, 5, 2, 1]
    assert len(found) == len(rows)


def test_it_keeps_what_was_said_and_shows_the_next(reviewer, answered, rosa):
    first, second = answered(1, "unsure"), answered(2, "unsure")
    assert shown(reviewer) == first
    say(reviewer, first, verdict="correct", breed="carlin")
    review = first.reviews.get()
    assert (review.breed.slug, review.by, review.blind, review.prediction) == ("pug", rosa, False, first.newest_answer)
    assert shown(reviewer) == second
    say(reviewer, second, verdict="not_a_dog")
    assert shown(reviewer) is None


def test_it_takes_a_candidate_by_one_button(reviewer, answered):
    photo = answered(1, "unsure")
    page = reviewer.get(QUEUE).content.decode()
    assert 'value="basset" data-key="2"' in page
    say(reviewer, photo, candidate="basset")
    assert Photo.objects.get(pk=1).breed.slug == "basset"


def test_it_keeps_what_was_typed_and_says_what_is_wrong(reviewer, answered):
    response = say(reviewer, answered(1, "unsure"), verdict="correct", breed="licorne")
    assert response.status_code == 422
    assert "licorne" in response.content.decode()
    assert not Review.objects.exists()


@pytest.mark.parametrize("number", ["999", "rex", "", "9" * 30])
def test_it_says_so_when_the_photo_is_gone(reviewer, number):
    page = reviewer.post(
        QUEUE, {"photo": number, "verdict": "not_a_dog"}, headers={"Accept-Language": "en"}, follow=True
    )
    assert "This photo was deleted meanwhile" in page.content.decode()


def test_it_says_so_when_the_photo_is_deleted_while_the_review_is_written(reviewer, answered, monkeypatch):
    photo, other = answered(1, "unsure"), answered(2, "unsure")
    record = type(Review.objects.all()).record

    def after_it_was_deleted(self, reviewed, **said):
        Photo.objects.get(pk=reviewed.pk).delete_with_files()
        return record(self, reviewed, **said)

    monkeypatch.setattr(type(Review.objects.all()), "record", after_it_was_deleted)
    response = say(reviewer, photo, verdict="not_a_dog")
    assert "This photo was deleted meanwhile" in response.content.decode()
    assert response.context["photo"] == other
    assert not Review.objects.exists()


def test_it_keeps_what_two_people_say_of_one_card_and_tells_the_second(reviewer, answered, sami):
    """The first one's turn was over before it was answered."""
    photo = answered(1, "unsure")
    shown(reviewer)
    a_review(photo, sami, breed="pug")
    page = say(reviewer, photo, verdict="not_a_dog").content.decode()
    assert "Meanwhile somebody else had answered" in page
    assert photo.reviews.count() == 2
    assert Photo.objects.get(pk=1).decision == "not_a_dog"


# -- one card, one person -----------------------------------------------------------------------------------------


def test_it_never_shows_one_card_to_two_people(answered, rosa, sami):
    photos = [answered(pk, "unsure") for pk in (1, 2)]
    awaiting = Photo.objects.awaiting_review()
    assert [ReviewTurn.objects.next_for(user, awaiting) for user in (rosa, sami, rosa, sami)] == photos * 2
    assert ReviewTurn.objects.next_for(an_account("third", "reviewer"), awaiting) is None


def test_it_gives_a_card_once_when_two_people_saw_it_at_the_same_moment(answered, rosa, sami):
    photo = answered(1, "unsure")
    assert ReviewTurn.objects.take(rosa, photo)
    assert not ReviewTurn.objects.take(sami, photo)
    assert ReviewTurn.objects.get().by == rosa


def test_a_card_that_was_left_lying_goes_to_somebody_else_after_ten_minutes(answered, rosa, sami):
    photo = answered(1, "unsure")
    ReviewTurn.objects.take(rosa, photo)
    for minutes, card in ((9, None), (11, photo)):
        later = timezone.now() + timedelta(minutes=minutes)
        assert ReviewTurn.objects.next_for(sami, Photo.objects.awaiting_review(), now=later) == card


def test_it_puts_a_card_off_and_brings_it_back(reviewer, answered, rosa):
    first, second = answered(1, "unsure"), answered(2, "unsure")
    assert shown(reviewer) == first
    reviewer.post(reverse("review_later", args=[first.pk]))
    assert shown(reviewer) == second
    ReviewTurn.objects.filter(photo=second).delete()
    later = timezone.now() + timedelta(seconds=601)
    assert ReviewTurn.objects.next_for(rosa, Photo.objects.awaiting_review(), now=later) == first


def test_it_puts_off_no_card_of_somebody_else(reviewer, answered, sami):
    photo = answered(1, "unsure")
    ReviewTurn.objects.take(sami, photo)
    reviewer.post(reverse("review_later", args=[photo.pk]))
    assert not ReviewTurn.objects.get().put_off


# -- blind --------------------------------------------------------------------------------------------------------


def test_it_hides_every_twentieth_sure_answer_and_marks_the_review_as_blind(reviewer, answered):
    photo = answered(BLIND_ONE_IN)
    page = reviewer.get(QUEUE).content.decode()
    card = page[page.index("card-title") : page.index("<datalist")] + page[page.index("</datalist>") :]
    assert "beagle" not in card.lower()
    assert "90" not in card
    assert 'value="confirm"' not in card
    say(reviewer, photo, verdict="correct", breed="beagle")
    assert photo.reviews.get().blind


def test_it_takes_no_confirmation_of_a_hidden_answer(reviewer, answered):
    photo = answered(BLIND_ONE_IN)
    assert say(reviewer, photo, verdict="confirm").status_code == 422
    assert not Review.objects.exists()


def test_it_hides_no_answer_that_is_not_sure(reviewer, answered):
    photo = answered(BLIND_ONE_IN, "unsure")
    assert "answer is hidden here" not in reviewer.get(QUEUE, headers={"Accept-Language": "en"}).content.decode()
    say(reviewer, photo, verdict="cannot_tell")
    assert not photo.reviews.get().blind


# -- undo ---------------------------------------------------------------------------------------------------------


def test_it_undoes_several_steps_and_shows_each_photo_again(reviewer, answered, rosa):
    photos = [answered(pk, "unsure") for pk in (1, 2, 3)]
    for photo in photos[:2]:
        say(reviewer, photo, verdict="correct", breed="pug")
    assert shown(reviewer) == photos[2]
    for photo in (photos[1], photos[0]):
        reviewer.post(reverse("review_undo"))
        assert shown(reviewer) == photo
        assert Photo.objects.get(pk=photo.pk).source == "model"
    page = reviewer.post(reverse("review_undo"), headers={"Accept-Language": "en"}, follow=True).content.decode()
    assert "There is nothing to undo." in page
    assert Review.objects.count() == 4


def test_it_undoes_once_though_the_key_was_pressed_twice_at_once(reviewer, answered, rosa, monkeypatch):
    photo = answered(1, "unsure")
    say(reviewer, photo, verdict="cannot_tell")
    withdraw = type(Review.objects.all()).withdraw

    def after_the_other(self, review, *, by):
        withdraw(self, review, by=by)
        return withdraw(self, review, by=by)

    monkeypatch.setattr(type(Review.objects.all()), "withdraw", after_the_other)
    page = reviewer.post(reverse("review_undo"), headers={"Accept-Language": "en"}, follow=True)
    assert "This was withdrawn already." in page.content.decode()
    assert Review.objects.count() == 2


def test_it_undoes_nothing_that_others_said(reviewer, answered, sami):
    photo = answered(1, "unsure")
    a_review(photo, sami, breed="pug")
    reviewer.post(reverse("review_undo"))
    assert Photo.objects.get(pk=1).breed.slug == "pug"


def test_it_needs_the_same_few_queries_for_one_photo_and_for_many(reviewer, answered, django_assert_max_num_queries):
    for pk in range(1, 15):
        answered(pk, "unsure")
    shown(reviewer)
    with django_assert_max_num_queries(14):
        shown(reviewer)
