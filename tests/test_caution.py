"""The legal caution: for reviewers alone, on the page alone, from a low summed probability on."""

import json

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.urls import reverse

from breeds.catalogue import read_catalogue
from breeds.caution import CONCERNED, is_called_for, summed_probability
from breeds.models import BLIND_ONE_IN, Breed, ClassifierVersion, Prediction, Review, pack_floats
from shelter.models import Animal, Photo
from tests.support.pictures import jpeg

ENGLISH = {"Accept-Language": "en"}
CAUTION, NO_PROOF = "diagnose", "That proves nothing"
LABELS = ["beagle", "rottweiler", "american_staffordshire_terrier"]


@pytest.fixture
def photo(breeds):
    """A photo that is called a beagle, where its probabilities are these, or only its candidates were kept."""
    version = ClassifierVersion.objects.create(version="v", name="v", folder="x", image_size=32, labels=LABELS)

    def make(*probs: float, decision="breed", keep=True, **fields) -> Photo:
        pk = fields.pop("pk", Photo.objects.count() + 1)
        index = {"decision": decision, "group": "scenthounds" if decision == "breed" else "", "probability": probs[0]}
        named = Breed.objects.get(slug="beagle") if decision == "breed" else None
        found = Photo.objects.create(
            pk=pk, original_name=f"rex-{pk}.jpg", sha256=f"{pk:064}", size=1, width=1, height=1, status="done",
            media_type="image/jpeg", source="model", breed=named, **index, **fields,
        )  # fmt: skip
        found.image.save(f"{pk}.jpg", ContentFile(jpeg(pk)))
        candidates = [{"label": label, "probability": p} for label, p in zip(LABELS, probs, strict=True)]
        Prediction.objects.create(
            photo=found, version=version, status="done", label="beagle" if named else "", candidates=candidates,
            probs=pack_floats(np.array(probs)) if keep else None, **index,
        )  # fmt: skip
        return found

    return make


def page(client, address: str) -> str:
    return client.get(address, headers=ENGLISH).content.decode()


@pytest.mark.parametrize(("probs", "called"), [((0.94, 0.03, 0.03), True), ((0.97, 0.02, 0.01), False)])
@pytest.mark.parametrize("keep", [True, False])
def test_it_sums_the_breeds_concerned(photo, probs, called, keep):
    found = photo(*probs, keep=keep)
    assert summed_probability(found.newest_answer) == pytest.approx(probs[1] + probs[2], abs=1e-3)
    assert is_called_for([found]) == called


@pytest.mark.parametrize(("probability", "called"), [(0.05, True), (0.049, False)])
def test_the_caution_is_shown_from_five_percent_on(photo, probability, called):
    assert is_called_for([photo(1 - probability, probability, 0.0, keep=False)]) == called


def test_it_knows_every_breed_concerned_by_its_label():
    assert set(read_catalogue()) >= CONCERNED


def test_it_shows_a_reviewer_the_caution_on_the_photo_the_dog_the_card_and_the_grid(reviewer, photo):
    rex = Animal.objects.create(name="Rex")
    found = photo(0.9, 0.1, 0.0, animal=rex)
    for address in (found.get_absolute_url(), rex.get_absolute_url(), "/review/"):
        assert CAUTION in page(reviewer, address)
    Photo.objects.update(breed=Breed.objects.get(slug="rottweiler"))
    assert CAUTION in page(reviewer, "/review/grid/")


def test_it_says_that_no_caution_proves_nothing(reviewer, photo):
    rex = Animal.objects.create(name="Rex")
    found = photo(1.0, 0.0, 0.0, animal=rex)
    for address in (found.get_absolute_url(), rex.get_absolute_url(), "/review/"):
        text = page(reviewer, address)
        assert CAUTION not in text
        assert NO_PROOF in text
    assert "proves nothing" in page(reviewer, photo(0.5, 0.5, 0.0).get_absolute_url())


def test_it_shows_staff_neither(staff, photo):
    rex = Animal.objects.create(name="Rex")
    for found in (photo(0.5, 0.5, 0.0, animal=rex), photo(1.0, 0.0, 0.0)):
        text = page(staff, found.get_absolute_url())
        assert CAUTION not in text
        assert NO_PROOF not in text
    assert CAUTION not in page(staff, rex.get_absolute_url())


def test_it_follows_a_person_who_names_such_a_breed_and_one_who_sees_no_dog(photo, rosa):
    found = photo(1.0, 0.0, 0.0)
    Review.objects.record(found, by=rosa, verdict="correct", breed=Breed.objects.get(slug="tosa"))
    assert is_called_for(Photo.objects.select_related("breed", "second_breed"))
    other = photo(0.5, 0.5, 0.0)
    Review.objects.record(other, by=rosa, verdict="not_a_dog")
    assert not is_called_for(Photo.objects.filter(pk=other.pk))
    assert not is_called_for([photo(0.5, 0.5, 0.0, decision="not_a_dog")])


def test_it_gives_no_blind_card_away(reviewer, photo):
    photo(0.5, 0.5, 0.0, pk=BLIND_ONE_IN)
    text = page(reviewer, "/review/")
    assert CAUTION not in text
    assert NO_PROOF not in text


def test_it_can_be_switched_off(reviewer, photo, settings):
    settings.LEGAL_CAUTION = False
    text = page(reviewer, photo(0.5, 0.5, 0.0).get_absolute_url())
    assert CAUTION not in text
    assert NO_PROOF not in text


def test_it_is_in_no_list_export_or_answer_of_the_api_and_in_no_column(reviewer, photo, chloe):
    photo(0.5, 0.5, 0.0)
    reviewer.force_login(chloe)
    texts = [page(reviewer, reverse("photo_list")), page(reviewer, reverse("admin:shelter_photo_changelist"))]
    texts += [b"".join(reviewer.get(reverse(name))).decode(errors="replace") for name in ("photo_csv", "photo_zip")]
    texts += [json.dumps(reviewer.get(path).json()) for path in ("/api/v1/photos/", "/api/v1/photos/1/")]
    for text in texts:
        assert "caution" not in text.lower()
        assert CAUTION not in text
    columns = {field.name for model in (Photo, Prediction, Review, Animal) for field in model._meta.get_fields()}
    assert not [name for name in columns if "caution" in name or "category" in name]


def test_it_asks_once_for_all_photos_of_a_dog(photo, django_assert_num_queries):
    photos = [photo(1.0, 0.0, 0.0) for _ in range(5)]
    with django_assert_num_queries(1):
        assert not is_called_for(photos)
