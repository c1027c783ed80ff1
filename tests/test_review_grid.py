"""The grid: many photos of one breed confirmed at once, and look-alikes with confirmed breeds beside a card."""

from dataclasses import replace

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from breeds.models import BLIND_ONE_IN, Breed, Prediction, Review, ReviewTurn
from shelter.models import Photo
from shelter.pages.review_grid import CARDS
from tests.support.factories import a_photo, a_review, an_account, an_answered_photo

ENGLISH = {"Accept-Language": "en"}
GRID, QUEUE, UNDO = "/review/grid/", "/review/", "/review/undo/"
pytestmark = pytest.mark.usefixtures("breeds")


@pytest.fixture
def named(classifier):
    """Photos with these numbers that the model alone calls a beagle, or `label`."""
    version = classifier.row()

    def make(*numbers: int, label="beagle", decision="breed", probability=0.9) -> list[Photo]:
        breed = Breed.objects.get(slug=label)
        index = {"decision": decision, "group": breed.group, "probability": probability}
        photos = Photo.objects.bulk_create(
            Photo(pk=pk, original_name=f"{pk}", sha256=f"{pk}", size=1, width=1, height=1, media_type="image/jpeg",
                  status="done", source="model", breed=breed if decision == "breed" else None, **index)
            for pk in numbers
        )  # fmt: skip
        Prediction.objects.bulk_create(
            Prediction(photo=photo, version=version, status="done", label=label if decision == "breed" else "", **index)
            for photo in photos
        )
        return photos

    return make


def cards(client, breed="") -> list[Photo]:
    return [photo for photo, _answer in client.get(GRID, {"breed": breed}).context["cards"]]


def box(photo: Photo) -> str:
    return f"{photo.pk}:{photo.newest_answer.pk}"


def confirm(client, chosen: list[Photo], shown: list[Photo] = ()):
    data = {"breed": "beagle", "chosen": [box(photo) for photo in chosen], "shown": [box(p) for p in shown or chosen]}
    response = client.post(GRID, data, headers=ENGLISH, follow=True)
    assert response.status_code == 200
    return " ".join(str(message) for message in response.context["messages"])


# -- the grid ---------------------------------------------------------------------------------------------------------


def test_it_shows_the_breed_that_waits_most_and_any_that_is_wished_for(reviewer, named):
    named(1, 2, label="pug")
    named(3, 4, 5)
    assert [photo.pk for photo in cards(reviewer)] == [3, 4, 5]
    assert [photo.pk for photo in cards(reviewer, "pug")] == [1, 2]
    assert [photo.pk for photo in cards(reviewer, "licorne")] == [3, 4, 5]


def test_the_next_breed_comes_when_a_breed_is_done(reviewer, named):
    pugs = named(1, 2, label="pug")
    named(BLIND_ONE_IN, label="pug")  # is never in the grid
    named(3)
    confirm(reviewer, pugs, cards(reviewer, "pug"))
    assert [photo.pk for photo in cards(reviewer, "pug")] == [3]


def test_the_next_breed_comes_when_the_rest_of_a_breed_is_put_off(reviewer, named):
    beagles = named(*range(1, 8))
    named(21, 22, label="pug")
    confirm(reviewer, beagles[:1], cards(reviewer))
    assert [photo.pk for photo in cards(reviewer)] == [21, 22]


def test_a_second_reviewer_gets_the_next_breed_while_the_first_looks_at_all_photos_of_one(client, named):
    rosa, sami = an_account("rosa", "reviewer"), an_account("sami", "reviewer")
    named(1, 2, 3)
    named(4, 5, label="pug")
    client.force_login(rosa)
    assert [photo.pk for photo in cards(client)] == [1, 2, 3]
    client.force_login(sami)
    page = client.get(GRID)
    assert [photo.pk for photo, _answer in page.context["cards"]] == [4, 5]
    assert [(breed.slug, n) for breed, n in page.context["breeds"]] == [("pug", 2)]


def test_every_twentieth_photo_is_left_to_the_blind_reviews(named):
    named(*range(1, 61))
    shown = Photo.objects.confirmable_as(Breed.objects.get(slug="beagle")).values_list("pk", flat=True)
    assert set(range(1, 61)) - set(shown) == {20, 40, 60}


def test_it_shows_neither_what_is_blind_nor_what_is_unsure_nor_what_a_person_decided(reviewer, named, anne):
    first, _second = named(1, 2)
    named(BLIND_ONE_IN)
    named(3, decision="unsure")
    a_review(first, anne, "not_a_dog")
    assert [photo.pk for photo in cards(reviewer)] == [2]


def test_it_confirms_the_chosen_ones_and_lets_them_leave(reviewer, named, rosa):
    photos = named(1, 2, 3)
    shown = cards(reviewer)
    assert "2 photos confirmed." in confirm(reviewer, photos[:2], shown)
    assert [r.verdict for r in Review.objects.filter(by=rosa)] == ["confirm"] * 2
    assert [photo.by_person for photo in Photo.objects.order_by("pk")] == [True, True, False]
    assert cards(reviewer) == []
    assert ReviewTurn.objects.get().put_off  # the third comes back later


def test_it_keeps_the_answer_that_was_shown_and_no_blind_review(reviewer, named):
    (photo,) = named(1)
    confirm(reviewer, [photo])
    review = photo.reviews.get()
    assert (review.prediction, review.blind, review.breed.slug) == (photo.newest_answer, False, "beagle")


def test_it_shows_no_photo_to_two_people_at_once(client, reviewer, named, rosa):
    named(*range(1, 20))
    sami = an_account("sami", "reviewer")
    assert ReviewTurn.objects.grid_for(rosa, Photo.objects.confirmable_as(Breed.objects.get(slug="beagle")), 12)
    theirs = ReviewTurn.objects.grid_for(sami, Photo.objects.confirmable_as(Breed.objects.get(slug="beagle")), 12)
    assert [photo.pk for photo in theirs] == list(range(13, 20))
    assert ReviewTurn.objects.next_for(an_account("third", "reviewer"), Photo.objects.awaiting_review()) is None


def test_it_frees_the_photos_of_the_grid_for_who_goes_on_one_by_one(reviewer, named, rosa):
    named(1, 2)
    assert len(cards(reviewer)) == 2
    assert reviewer.get(QUEUE).context["photo"].pk in {1, 2}
    assert ReviewTurn.objects.filter(by=rosa).count() == 1


def test_it_leaves_alone_what_somebody_else_decided_meanwhile(reviewer, named, anne):
    first, second = named(1, 2)
    shown = cards(reviewer)
    a_review(first, anne, breed="pug")
    said = confirm(reviewer, shown)
    assert "1 photo confirmed." in said
    assert "1 had been decided by somebody else meanwhile" in said
    assert Photo.objects.get(pk=1).breed.slug == "pug"
    assert first.reviews.count() == second.reviews.count() == 1


def test_it_says_so_when_a_photo_was_deleted_and_keeps_the_others(reviewer, named):
    photos = named(1, 2)
    data = {"chosen": [box(photo) for photo in photos]}
    photos[0].delete_with_files()
    response = reviewer.post(GRID, data, headers=ENGLISH, follow=True)
    said = " ".join(str(message) for message in response.context["messages"])
    assert "A photo was deleted meanwhile" in said
    assert "1 photo confirmed." in said


@pytest.mark.parametrize("value", ["", "x", "1", "1:x", ":", "1:2:3", "9" * 30 + ":1", "999:999", "1:999"])
def test_it_passes_over_boxes_that_make_no_sense(reviewer, named, value):
    named(1)
    assert reviewer.post(GRID, {"chosen": [value], "breed": "<b>"}).status_code == 302
    assert not Review.objects.exists()


def test_it_takes_no_answer_of_another_photo(reviewer, named):
    first, second = named(1, 2)
    reviewer.post(GRID, {"chosen": [f"{first.pk}:{second.newest_answer.pk}"]})
    assert not Review.objects.exists()


def test_it_undoes_a_bulk_confirmation_as_one_step_and_the_ones_before_it(reviewer, named):
    photos = named(1, 2, 3)
    first = named(30, decision="unsure")[0]
    reviewer.post(QUEUE, {"photo": first.pk, "prediction": first.newest_answer.pk, "verdict": "not_a_dog"})
    confirm(reviewer, photos)
    assert Photo.objects.filter(source="human").count() == 4
    said = reviewer.post(UNDO, headers=ENGLISH, follow=True)
    assert "3 confirmations undone." in said.content.decode()
    assert [photo.pk for photo in Photo.objects.filter(source="human")] == [first.pk]
    assert len(cards(reviewer)) == 3
    reviewer.post(UNDO)
    assert not Photo.objects.filter(source="human").exists()
    assert Review.objects.count() == 8


def test_it_passes_over_a_step_that_was_undone_elsewhere(reviewer, named, rosa):
    first, second = named(1, 2)
    confirm(reviewer, [first])
    confirm(reviewer, [second])
    Review.objects.withdraw(second.reviews.get(), by=rosa)
    reviewer.post(UNDO)
    assert not Photo.objects.filter(source="human").exists()


def test_it_needs_as_many_queries_for_a_full_grid_as_for_one_card(reviewer, named):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert reviewer.get(GRID).status_code == 200
        return len(captured)

    named(1)
    few = queries()
    named(*(pk for pk in range(2, 60) if pk % BLIND_ONE_IN))
    assert queries() == few <= 16
    assert len(cards(reviewer)) == CARDS


@pytest.mark.parametrize("page", [GRID, QUEUE])
def test_it_names_every_key_that_does_something(reviewer, named, page):
    named(1)
    text = reviewer.get(page).content.decode()
    help_text = text[text.index('id="keys"') :]
    keys = {key for part in text.split('data-key="')[1:] if (key := part[0])}
    assert keys
    assert {key for key in keys if f"<kbd>{key.upper()}</kbd>" not in help_text} == set()
    assert "<kbd>?</kbd>" in help_text


# -- look-alikes beside the card --------------------------------------------------------------------------------------


@pytest.fixture
def seen(anne, classifier):
    """Photos that the model has seen with these features."""

    def store(*embeddings) -> list[Photo]:
        photos = []
        for embedding in embeddings:
            classifier.answer = replace(classifier.answer, embedding=np.array(embedding, np.float32))
            photos.append(an_answered_photo(anne))
        return photos

    return store


def test_it_shows_the_nearest_photos_whose_breed_a_person_named(reviewer, seen, anne):
    card, near, nearer, unnamed = seen([1, 0, 0], [0.8, 0.6, 0], [1, 0.1, 0], [1, 0, 0])
    for photo in (near, nearer):
        a_review(photo, anne, breed="pug")
    a_review(unnamed, anne, "cannot_tell")
    shown = reviewer.get(reverse("review_lookalikes", args=[card.pk]), headers=ENGLISH)
    assert [photo for photo, _ in shown.context["cards"]] == [nearer, near]
    assert "Pug, confirmed" in shown.content.decode() or "pug, confirmed" in shown.content.decode()


def test_it_shows_no_lookalikes_where_there_are_none_or_no_answer(reviewer, seen, anne):
    (card,) = seen([1, 0, 0])
    new = a_photo(anne)
    for photo in (card, new):
        assert "cards" in (shown := reviewer.get(reverse("review_lookalikes", args=[photo.pk])).context)
        assert shown["cards"] == []


def test_it_gives_no_blind_card_away_by_its_lookalikes(reviewer, named, seen, anne):
    (alike,) = seen([1, 0, 0])
    a_review(alike, anne, breed="pug")
    (blind,) = named(BLIND_ONE_IN)
    Prediction.objects.filter(photo=blind).update(embedding=alike.newest_answer.embedding)
    assert reviewer.get(reverse("review_lookalikes", args=[blind.pk])).context["cards"] == []
    assert "/lookalikes/" not in reviewer.get(QUEUE).content.decode()
