"""Photos that look alike, by the features that the classifier gave them."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from breeds import classifier as classifiers
from breeds import lookalikes
from breeds.models import Prediction, pack_floats
from breeds.tasks import classify_photos
from shelter.models import Photo
from tests.support.factories import a_photo
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db

RED, REDDISH, GREEN = [10.0, 0, 0], [7.0, 1.0, 0], [0, 3.0, 0]


@pytest.fixture
def answered(anne, classifier):
    """Store a photo that is answered with these features."""

    def store(embedding, version="fake-1") -> Photo:
        photo = a_photo(anne)
        look(photo, embedding, version)
        return photo

    def look(photo, embedding, version="fake-1"):
        classifier.answer = replace(classifier.answer, embedding=np.array(embedding), version=version)
        photo.enqueue()
        assert classify_photos() == 1

    store.again = look
    return store


def ids(found):
    return [lookalike.photo for lookalike in found.lookalikes]


def test_it_finds_the_photos_most_alike_first_without_the_photo_itself(answered):
    red, reddish, green = answered(RED), answered(REDDISH), answered(GREEN)

    found = lookalikes.photos_like(red.pk)

    assert ids(found) == [reddish.pk, green.pk]
    assert [x.similarity for x in found.lookalikes] == pytest.approx([7 / np.sqrt(50), 0], abs=1e-3)
    assert (found.searched, found.version.version) == (3, "fake-1")


def test_it_finds_the_same_as_comparing_all_with_all(answered, classifier):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16))
    photo = answered(vectors[0])
    version = photo.predictions.get().version
    sized = {"size": 1, "width": 1, "height": 1, "media_type": "image/jpeg", "status": "done"}
    photos = Photo.objects.bulk_create([Photo(sha256=f"{i:064}", **sized) for i in range(1, 300)])
    Prediction.objects.bulk_create(
        Prediction(photo=made, version=version, status="done", decision="breed", finished_at=timezone.now(),
                   probs=pack_floats(np.ones(3) / 3), embedding=pack_floats(vector))
        for made, vector in zip(photos, vectors[1:], strict=True)
    )  # fmt: skip

    found = lookalikes.photos_like(photo.pk, limit=299)

    cosines = vectors[1:] @ vectors[0] / np.linalg.norm(vectors[1:], axis=1) / np.linalg.norm(vectors[0])
    pks = np.array([made.pk for made in photos])
    np.testing.assert_allclose([x.similarity for x in found.lookalikes], np.sort(cosines)[::-1], atol=2e-3)
    assert ids(found)[:5] == pks[np.argsort(-cosines)[:5]].tolist()


def test_it_notices_what_was_answered_since_the_last_search(answered):
    red = answered(RED)
    assert ids(lookalikes.photos_like(red.pk)) == []

    reddish = answered(REDDISH)

    assert ids(lookalikes.photos_like(red.pk)) == [reddish.pk]


def test_it_reads_the_features_of_a_photo_once(answered, django_assert_num_queries):
    red, _ = answered(RED), answered(REDDISH)
    lookalikes.photos_like(red.pk)

    with django_assert_num_queries(3):  # the photo's own answer, what is new, are the found ones still there
        assert len(lookalikes.photos_like(red.pk).lookalikes) == 1


def test_it_notices_an_answer_that_became_visible_late(answered):
    red, green = answered(RED), answered(GREEN)
    late = Prediction.objects.get(photo=green)
    Prediction.objects.filter(pk=late.pk).update(status="failed")
    lookalikes.photos_like(red.pk)

    earlier = timezone.now() - timedelta(seconds=30)
    Prediction.objects.filter(pk=late.pk).update(status="done", finished_at=earlier)

    assert ids(lookalikes.photos_like(red.pk)) == [green.pk]


def test_it_takes_the_newest_answer_to_a_photo(answered):
    red, other = answered(RED), answered(GREEN)
    lookalikes.photos_like(red.pk)

    answered.again(other, RED)

    found = lookalikes.photos_like(red.pk)
    assert found.searched == 2
    assert found.lookalikes[0].similarity == pytest.approx(1, abs=1e-3)


def test_it_forgets_photos_that_were_deleted_and_fills_up_with_the_next(answered):
    red, nearest, next_one = answered(RED), answered(REDDISH), answered(GREEN)
    lookalikes.photos_like(red.pk)
    nearest.delete_with_files()

    found = lookalikes.photos_like(red.pk, limit=1)

    assert (ids(found), found.searched) == ([next_one.pk], 2)


def test_it_compares_answers_of_one_version_only(answered):
    red, _other = answered(RED), answered(RED, "fake-2")

    assert ids(lookalikes.photos_like(red.pk)) == []


def test_it_prefers_the_version_in_use(answered):
    red, reddish = answered(RED), answered(REDDISH)
    answered.again(red, RED, "fake-2")
    red.predictions.last().version.activate()

    found = lookalikes.photos_like(red.pk)

    assert (found.version.version, ids(found)) == ("fake-1", [reddish.pk])


def test_it_leaves_out_what_it_is_told_to(answered):
    red, reddish, green = answered(RED), answered(REDDISH), answered(GREEN)

    assert ids(lookalikes.photos_like(red.pk, without=[reddish.pk])) == [green.pk]


def test_it_knows_nothing_of_a_photo_without_an_answer(anne, classifier):
    photo = a_photo(anne)

    assert lookalikes.photos_like(photo.pk) is None


def test_it_knows_nothing_of_an_answer_that_kept_no_features(answered):
    red, older = answered(RED), answered(RED)
    Prediction.objects.filter(photo=older).update(embedding=None)

    assert lookalikes.photos_like(older.pk) is None
    assert ids(lookalikes.photos_like(red.pk)) == []


def test_it_compares_a_photo_without_storing_it(answered, classifier, stored_files):
    green, red = answered(GREEN), answered(RED)
    before = stored_files()
    classifier.answer = replace(classifier.answer, embedding=np.array(REDDISH))

    found = lookalikes.photos_like_image(jpeg(99))

    assert ids(found) == [red.pk, green.pk]
    assert (Photo.objects.count(), Prediction.objects.count(), stored_files()) == (2, 2, before)


def test_it_refuses_bytes_that_are_no_photo(answered):
    with pytest.raises(classifiers.UnreadableImage):
        lookalikes.photos_like_image(b"no photo")


def test_it_searches_the_newest_photos_where_memory_is_short(answered, settings, monkeypatch):
    monkeypatch.setattr(lookalikes, "BLOCK", 2)
    settings.LOOKALIKE_MEGABYTES = 3 * 2 * 3 / 1_000_000  # three photos of three features
    photos = [answered([10.0, i, 0]) for i in range(5)]

    found = lookalikes.photos_like(photos[4].pk)

    assert (ids(found), found.searched) == ([photos[3].pk, photos[2].pk], 3)


def test_it_grows_over_many_blocks(answered, monkeypatch):
    monkeypatch.setattr(lookalikes, "BLOCK", 2)
    photos = [answered([10.0, i, 0]) for i in range(5)]

    assert ids(lookalikes.photos_like(photos[0].pk)) == [photo.pk for photo in photos[1:]]


@pytest.mark.parametrize("embedding", [[0.0, 0, 0], [1e30, 0, 0]])
def test_it_bears_features_of_any_size(answered, embedding):
    red, odd = answered(RED), answered(embedding)

    similarity = lookalikes.photos_like(red.pk).lookalikes[0].similarity
    assert similarity == pytest.approx(1.0 if embedding[0] else 0.0, abs=1e-3)
    assert odd.predictions.get().status == "done"


# -- the API ----------------------------------------------------------------------------------------------------------


def test_it_answers_with_the_similar_photos(api, answered):
    red, reddish, green = answered(RED), answered(REDDISH), answered(GREEN)

    answer = api("get", f"/photos/{red.pk}/similar/", {"limit": 1}).json()

    assert [(row["photo"]["id"], row["photo"]["breed"]) for row in answer["results"]] == [(reddish.pk, "beagle")]
    assert answer["results"][0]["similarity"] == pytest.approx(0.99, abs=0.001)
    model = {"name": "fake", "version": "fake-1", "preprocessing": "fake-way-in-1"}
    assert (answer["searched"], answer["model"]) == (3, model)
    assert len(api("get", f"/photos/{green.pk}/similar/").json()["results"]) == 2


def test_it_needs_no_more_queries_for_more_similar_photos(api, answered):
    def queries() -> int:
        with CaptureQueriesContext(connection) as context:
            api("get", f"/photos/{red.pk}/similar/")
        return len(context)

    red, _other = answered(RED), answered(RED)
    queries()  # the first reads the features
    for_one = queries()
    for _ in range(4):
        answered(RED)
    queries()  # reads those that are new

    assert len(api("get", f"/photos/{red.pk}/similar/").json()["results"]) == 5
    assert queries() == for_one


@pytest.mark.parametrize("limit", ["0", "51", "many", "-1"])
def test_it_answers_400_for_a_limit_that_means_nothing(api, answered, limit):
    response = api("get", f"/photos/{answered(RED).pk}/similar/", {"limit": limit})

    assert (response.status_code, "limit" in response.json()["errors"]) == (400, True)


def test_it_answers_409_while_the_photo_has_no_answer(api, anne, classifier):
    photo = a_photo(anne)

    response = api("get", f"/photos/{photo.pk}/similar/")

    assert (response.status_code, response.json()["code"]) == (409, "not_answered")


def test_it_answers_404_for_a_photo_that_is_not_there(api):
    assert api("get", "/photos/999/similar/").status_code == 404
