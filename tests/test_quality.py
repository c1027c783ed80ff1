"""How often the model is right, from what people said: counted rightly, hidden while it is too little to say."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from breeds.models import Breed, ClassifierVersion, Prediction, Review
from breeds.quality import Figure, Quality, Row, track_record, unknown_labels
from ml.evaluation.metrics import wilson_interval
from shelter.models import Animal, Photo

ENGLISH = {"Accept-Language": "en"}
PAGE = "/review/quality/"
OPEN, BLIND = False, True
pytestmark = pytest.mark.usefixtures("breeds")


@pytest.fixture
def version(classifier):
    return classifier.row()


@pytest.fixture
def reviewed(rosa, version):
    """`n` photos that the model took for `label`, and for which a person said `truth`."""

    def make(n=1, label="beagle", truth="beagle", blind=OPEN, level="breed", verdict=None, probability=0.9, by=version,
             second=None, animal=None, at=None) -> list[Review]:  # fmt: skip
        slugs = [slug for slug in (truth, second) if slug]
        breeds = {breed.slug: breed for breed in Breed.objects.filter(slug__in=[label, *slugs])}
        start = Photo.objects.count()
        photos = Photo.objects.bulk_create(
            Photo(original_name=f"{number}", sha256=f"{number}", size=1, width=1, height=1, media_type="image/jpeg",
                  animal=animal, status="done", source="human")
            for number in range(start, start + n)
        )  # fmt: skip
        answers = Prediction.objects.bulk_create(
            Prediction(photo=photo, version=by, status="done", decision=level, probability=probability,
                       label=label if level == "breed" else "",
                       group=breeds[label].group if level in ("breed", "group") else "")
            for photo in photos
        )  # fmt: skip
        said = verdict or ("cross" if second else "correct")
        return Review.objects.bulk_create(
            Review(photo=answer.photo, prediction=answer, by=rosa, verdict=said, blind=blind,
                   breed=breeds[truth] if said in ("correct", "cross", "confirm") else None,
                   second_breed=breeds[second] if second else None,
                   group=breeds[truth].group if said in ("correct", "confirm") else "",
                   **({"created_at": at} if at else {}))
            for answer in answers
        )  # fmt: skip

    return make


def table(rows: list[Row]) -> dict:
    """key -> (right, n) of the blind reviews, and of the others."""
    return {row.key: ((row.blind.right, row.blind.n), (row.open.right, row.open.n)) for row in rows}


def test_it_counts_blind_reviews_apart_from_the_others(reviewed):
    reviewed(3, blind=BLIND)
    reviewed(1, blind=BLIND, truth="pug")
    reviewed(5, verdict="confirm")
    assert table(Quality().by_level) == {"breed": ((3, 4), (5, 5))}
    assert table(Quality().by_breed) == {"beagle": ((3, 4), (5, 5))}


def test_it_judges_each_level_by_what_it_claims(reviewed):
    reviewed(2, level="group", truth="basset")
    reviewed(1, level="group", truth="pug")
    reviewed(1, level="not_a_dog", verdict="not_a_dog")
    reviewed(1, level="not_a_dog")
    reviewed(4, level="unsure")
    reviewed(1, verdict="not_a_dog")
    assert table(Quality().by_level) == {
        "group": ((0, 0), (2, 3)), "not_a_dog": ((0, 0), (1, 2)), "breed": ((0, 0), (0, 1)),
    }  # fmt: skip


def test_it_takes_either_breed_of_a_cross_for_right_and_judges_nothing_that_cannot_be_told(reviewed):
    reviewed(1, truth="pug", second="beagle")
    reviewed(1, truth="pug", second="basset")
    reviewed(7, verdict="cannot_tell")
    assert table(Quality().by_level) == {"breed": ((0, 0), (1, 2))}


def test_it_counts_the_review_that_stands_once(reviewed, rosa):
    (review,) = reviewed(1, truth="pug")
    Review.objects.record(review.photo, by=rosa, verdict="confirm", prediction=review.prediction)
    assert table(Quality().by_level) == {"breed": ((0, 0), (1, 1))}
    Review.objects.withdraw(Review.objects.first(), by=rosa)
    assert table(Quality().by_level) == {"breed": ((0, 0), (0, 1))}


def test_it_takes_a_breed_of_the_right_group_for_right_where_groups_are_asked(reviewed):
    reviewed(1, truth="basset")
    reviewed(1, truth="pug")
    reviewed(1, level="group", truth="beagle")
    assert table(Quality().by_group) == {"scenthounds": ((0, 0), (2, 3))}


def test_it_counts_versions_apart(reviewed, version):
    other = ClassifierVersion.objects.create(version="other", name="other", folder="", backbone="", image_size=1)
    reviewed(2)
    reviewed(3, truth="pug", by=other)
    assert table(Quality().by_version) == {other.pk: ((0, 0), (0, 3)), version.pk: ((0, 0), (2, 2))}
    assert table(Quality(version.pk).by_level) == {"breed": ((0, 0), (2, 2))}


def test_it_shows_the_months_beside_what_was_stated(reviewed):
    reviewed(2, at=datetime(2026, 3, 4, tzinfo=UTC), probability=0.8)
    reviewed(2, at=datetime(2026, 5, 4, tzinfo=UTC), truth="pug", probability=0.6)
    may, march = Quality().by_month
    assert (may.key.month, may.open.right, may.open.said) == (5, 0, pytest.approx(0.6))
    assert (march.key.month, march.open.right, march.open.said) == (3, 2, pytest.approx(0.8))


def test_it_names_the_pairs_that_are_mistaken_most_often_with_their_newest_photos(reviewed):
    reviewed(1, truth="basset")
    pugs = reviewed(6, truth="pug")
    reviewed(9)
    first, second = Quality().confusions()
    assert (first["called"], first["truth"], first["n"]) == ("beagle", "pug", 6)
    assert first["photos"] == [review.photo_id for review in reversed(pugs)][:4]
    assert (second["truth"], second["n"]) == ("basset", 1)


def test_it_names_breeds_that_people_use_and_the_model_lacks(reviewed, version):
    rex = Animal.objects.create(name="Rex")
    reviewed(2, truth="tosa", animal=rex)
    reviewed(1, truth="tosa")
    reviewed(1, truth="pug", verdict="cannot_tell")
    reviewed(5)
    assert unknown_labels(version) == [{"slug": "tosa", "photos": 3, "dogs": 1}]


@pytest.mark.parametrize(("n", "shown"), [(19, False), (20, True)])
def test_it_shows_no_share_below_twenty_reviews(reviewer, reviewed, n, shown):
    reviewed(n)
    page = reviewer.get(PAGE, headers=ENGLISH).content.decode()
    assert ("100%" in page) == shown
    assert ("too few: 19" in page) == (not shown)


def test_it_gives_the_interval_of_wilson(reviewed):
    reviewed(18)
    reviewed(2, truth="pug")
    (row,) = Quality().by_level
    assert row.open.interval == wilson_interval(18, 20)
    assert Figure(18, 20).share == 0.9


def test_it_shows_every_table_in_the_same_few_queries(reviewer, reviewed, version):
    version.activate()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert reviewer.get(PAGE).status_code == 200
        return len(captured)

    reviewed(1, truth="pug")
    few = queries()
    for truth in ("basset", "tosa", "whippet", "chow"):
        reviewed(21, truth=truth, blind=BLIND)
    assert queries() == few <= 12


@pytest.mark.parametrize(("n", "blind", "said"), [
    (19, OPEN, None), (20, OPEN, "that people looked at, so many were right"), (20, BLIND, "hidden from the reviewers"),
])  # fmt: skip
def test_it_says_beside_an_answer_how_often_its_level_was_right(staff, reviewed, n, blind, said):
    reviewed(n, blind=blind)
    (review,) = reviewed(1, level="unsure")
    photo = review.photo
    Photo.objects.filter(pk=photo.pk).update(source="model", decision="breed", breed=Breed.objects.get(slug="pug"))
    page = staff.get(photo.get_absolute_url(), headers=ENGLISH).content.decode()
    assert ("100%" in page) == bool(said)
    wordings = "that people looked at, so many were right", "hidden from the reviewers"
    assert [wording for wording in wordings if wording in page] == ([said] if said else [])


def test_the_track_record_of_a_level_is_counted_again_after_new_reviews(reviewed):
    reviewed(20)
    assert track_record("breed").open == Figure(20, 20, pytest.approx(18))
    reviewed(50, truth="pug")
    assert track_record("breed").open == Figure(20, 70, pytest.approx(63))


@pytest.mark.parametrize("blind", [OPEN, BLIND])
def test_the_track_record_of_a_level_is_hidden_below_20_reviews(reviewed, blind):
    reviewed(19, blind=blind)
    reviewed(20, level="group", blind=blind)
    assert (track_record("breed"), track_record("group").n) == (None, 20)


@pytest.mark.parametrize("wish", ["", "x", "99999", "9" * 30])
def test_it_shows_all_versions_for_one_that_is_not_there(reviewer, version, wish):
    assert reviewer.get(PAGE, {"version": wish}).context["chosen"] is None
