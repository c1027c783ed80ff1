"""Photos that look like one that is there already, found by their difference hash."""

import random

import pytest
from django.db import connection
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageEnhance

from breeds.tasks import classify_photos
from ml.images.duplicates import difference_hash
from ml.images.preprocessing import decode_image
from shelter.models import Fingerprint, Photo
from shelter.models.fingerprints import NEAR_BITS, is_telling, quarters
from tests.support.factories import a_dog, a_photo
from tests.support.pictures import drawn_dog, encoded, picture

HASH = 0x0F1E2D3C4B5A6978


def flipped(dhash: int, bits) -> int:
    for bit in bits:
        dhash ^= 1 << bit
    return dhash


def fingerprint(photo: Photo, dhash: int) -> Fingerprint:
    return Fingerprint(photo=photo, **{f"quarter_{index}": part for index, part in enumerate(quarters(dhash))})


@pytest.fixture
def photos(anne):
    return [a_photo(anne) for _ in range(4)]


@pytest.mark.parametrize("distance", range(7))
def test_it_finds_every_hash_that_is_near(photos, distance):
    rng = random.Random(distance)
    for _ in range(40):
        Fingerprint.objects.all().delete()
        other = flipped(HASH, rng.sample(range(64), distance))
        fingerprint(photos[0], other).save()
        assert Fingerprint.objects.near(HASH) == [(distance, photos[0].pk)]


@given(st.sets(st.integers(0, 63), min_size=7))
def test_it_counts_a_hash_that_differs_more_as_another_picture(bits):
    """Whatever the indexes let through is measured."""
    rows = [(1, *quarters(flipped(HASH, bits)))]
    query = Fingerprint.objects.all()
    query._let_through = lambda wanted: rows
    assert query.near(HASH) == []


def test_it_puts_the_nearest_first_and_the_older_of_two_as_near(photos):
    for photo, bits in zip(photos, [(1, 2), (3,), (), (9,)], strict=True):
        fingerprint(photo, flipped(HASH, bits)).save()
    assert [pk for _distance, pk in Fingerprint.objects.near(HASH)] == [photos[i].pk for i in (2, 1, 3, 0)]


@pytest.mark.parametrize("dhash", [0, 1, 2**64 - 1], ids=["blank", "nearly blank", "a slope"])
def test_it_takes_a_blank_picture_for_no_other(photos, dhash):
    fingerprint(photos[0], dhash).save()
    assert not is_telling(dhash)
    assert Fingerprint.objects.near(dhash) == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in their order", "the newer first"])
def test_it_marks_the_newer_of_two_twins_whoever_is_looked_at_first(photos, order):
    for index in order:
        Fingerprint.objects.record(photos[index], flipped(HASH, [index]))
    twins = [Photo.objects.with_twin().get(pk=photo.pk).twin for photo in photos[:2]]
    assert twins == [None, photos[0]]


def test_it_finds_the_twin_of_a_photo_that_a_messenger_made_smaller(anne):
    original = drawn_dog()
    smaller = ImageEnhance.Brightness(original.resize((600, 450))).enhance(0.95)
    hashes = [
        difference_hash(decode_image(encoded(image, "JPEG", quality=quality), 448))
        for image, quality in ((original, 95), (smaller, 60))
    ]
    assert (hashes[0] ^ hashes[1]).bit_count() <= NEAR_BITS


def test_it_takes_different_pictures_for_different():
    hashes = [difference_hash(picture(seed)) for seed in range(50)]
    pairs = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(pairs) > NEAR_BITS


def test_it_tells_with_the_answer_which_photo_it_looks_like(anne, staff, classifier):
    older, newer = a_photo(anne, animal=a_dog()), a_photo(anne)  # the classifier of this test sees the same in both
    classify_photos()
    page = staff.get(f"{reverse('photo_answers')}?photos={newer.pk}").content.decode()
    assert "Ressemble à une photo envoyée le" in page
    assert "fiche Rex" in page
    assert older.get_absolute_url() in page
    assert "une photo envoyée" not in staff.get(f"{reverse('photo_answers')}?photos={older.pk}").content.decode()


def test_it_forgets_a_twin_that_is_deleted(photos):
    for photo in photos[:2]:
        Fingerprint.objects.record(photo, HASH)
    photos[0].delete()
    assert Photo.objects.with_twin().get(pk=photos[1].pk).twin is None


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL walks a table as small as this")
def test_it_looks_into_indexes_and_never_walks_over_all_photos(photos, django_assert_num_queries):
    with django_assert_num_queries(1) as queries:
        Fingerprint.objects.near(HASH)
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + queries.captured_queries[0]["sql"])
        plan = " ".join(row[3] for row in cursor.fetchall())
    assert plan.count("USING INDEX") == 4
    assert "SCAN" not in plan
