"""Made rows, to try the pages at size."""

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from breeds.models import Prediction, Review
from shelter.intake.uploads import upload_photo
from shelter.models import Photo
from tests.support.factories import upload


def test_it_makes_photos_that_every_page_can_show(staff, classifier):
    classifier.row().activate()
    for photos in (40, 5):  # what is there already is added to
        call_command("seed_demo", "--photos", photos)
    assert Photo.objects.count() == Prediction.objects.count() == 45
    assert not Photo.objects.filter(status="pending").exists()
    shown = staff.get(reverse("photo_list")).context
    assert len(shown["page"]) == shown["search"].count == 45
    photo = Photo.objects.exclude(animal=None).first()
    for page in (photo.get_absolute_url(), photo.animal.get_absolute_url(), reverse("animal_list")):
        assert staff.get(page).status_code == 200
    assert staff.get(reverse("photo_file", args=[photo.pk, "small"])).status_code == 200


def test_it_makes_a_review_for_every_photo_that_a_person_decided(classifier):
    classifier.row().activate()
    call_command("seed_demo", "--photos", 400)
    decided = Photo.objects.filter(source="human")
    reviews = {review.photo_id: review for review in Review.objects.counting()}
    assert set(decided.values_list("pk", flat=True)) == set(reviews)
    assert len(reviews) == Review.objects.count() > 10
    for photo in decided:
        review = reviews[photo.pk]
        shown = (photo.decision, photo.breed_id, photo.group, photo.probability)
        assert shown == (review.decision, review.breed_id, review.group, None)
    assert {review.blind for review in reviews.values()} == {True, False}


def test_it_makes_none_among_real_photos(anne, classifier):
    classifier.row().activate()
    upload_photo(upload(), user=anne)
    with pytest.raises(CommandError, match="Received: 1"):
        call_command("seed_demo")
    call_command("seed_demo", "--photos", 1, "--force")
    assert Photo.objects.count() == 2
