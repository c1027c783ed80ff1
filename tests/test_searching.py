import pytest
from django.urls import reverse

from breeds import words
from breeds.models import Breed
from shelter.models import Animal, Photo
from shelter.uploads import upload_photo
from tests.support import jpeg, upload


@pytest.fixture
def index(anne, breeds):
    """Three photos: a Brittany filed under Rex, a terrier whose breed is not sure, and one that waits."""
    brittany, terrier, waiting = (upload_photo(upload(jpeg(i), f"{i}.jpg"), user=anne).photo for i in range(3))
    rows = Photo.objects.filter
    rows(pk=brittany.pk).update(
        status="done", decision="breed", breed=Breed.objects.get(slug="brittany_spaniel"), group="pointing_dogs",
        probability=0.61584, source="model", animal=Animal.objects.create(name="Rex"),
    )  # fmt: skip
    rows(pk=terrier.pk).update(status="done", decision="group", group="terriers", probability=0.8, source="model")
    return {"brittany": brittany, "terrier": terrier, "waiting": waiting}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"brittany", "terrier", "waiting"}),
        ({"breed": "brittany_spaniel"}, {"brittany"}),
        ({"group": "terriers"}, {"terrier"}),
        ({"decision": "breed"}, {"brittany"}),
        ({"status": "pending"}, {"waiting"}),
        ({"q": "épagneul breton"}, {"brittany"}),
        ({"q": "EPAGNEUL BRETON"}, {"brittany"}),
        ({"q": "Brittany"}, {"brittany"}),
        ({"q": "rex"}, {"brittany"}),
        ({"q": "terriers"}, {"terrier"}),
        ({"q": "licorne"}, set()),
        ({"group": "no such group"}, {"brittany", "terrier", "waiting"}),
    ],
)
def test_it_finds_photos_by_breed_group_state_and_words(staff, index, query, found):
    page = staff.get(reverse("photo_list"), query).context["page_obj"]
    assert set(page) == {index[name] for name in found}


def test_it_counts_what_there_is_to_find(staff, index):
    context = staff.get(reverse("photo_list")).context
    assert [(row["breed"].slug, row["count"]) for row in context["breed_counts"]] == [("brittany_spaniel", 1)]
    assert {row["value"]: row["count"] for row in context["decision_counts"]} == {"breed": 1, "group": 1}


def test_it_needs_the_same_few_queries_for_one_photo_and_for_many(staff, index, anne, django_assert_max_num_queries):
    for seed in range(10, 30):
        upload_photo(upload(jpeg(seed)), user=anne, animal=Animal.objects.create(name=f"Dog {seed}"))
    with django_assert_max_num_queries(12):
        staff.get(reverse("photo_list"))


def test_it_says_which_breeds_the_model_cannot_know(staff, classifier):
    classifier.row().activate()
    page = staff.get(reverse("breed_list"))
    unknown = {breed.slug for group in page.context["groups"] for breed in group["unknown"]}
    assert {"dachshund", "dalmatian", "jack_russell_terrier"} <= unknown
    assert "beagle" not in unknown


def test_it_files_a_photo_under_a_dog_of_that_name(staff, index):
    staff.post(reverse("photo_animal", args=[index["terrier"].pk]), {"name": "rex"})
    assert Photo.objects.get(pk=index["terrier"].pk).animal.name == "Rex"


def test_it_takes_a_photo_out_again_with_an_empty_name(staff, index):
    staff.post(reverse("photo_animal", args=[index["brittany"].pk]), {"name": " "})
    assert Photo.objects.get(pk=index["brittany"].pk).animal is None


@pytest.mark.parametrize(
    ("language", "words_of"),
    [("fr", "Ressemble à un épagneul breton (61,6\u00a0%)"), ("en", "Looks like a Brittany spaniel (61.6%)")],
)
def test_it_says_the_answer_in_french_and_in_english(staff, index, language, words_of):
    page = staff.get(reverse("photo", args=[index["brittany"].pk]), headers={"Accept-Language": language})
    assert words_of in page.content.decode().replace("&nbsp;", "\u00a0")


@pytest.mark.parametrize("breed_name", ["Akita", "English setter", "Irish terrier"])
def test_it_uses_the_right_english_article(breed_name):
    from django.utils.translation import override

    with override("en"):
        sentence = words.sentence("breed", Breed(name_en=breed_name), "", 0.5)
    assert sentence == f"Looks like an {breed_name} (50.0%)"


@pytest.mark.parametrize("text", ["Épagneul-Breton", "epagneul  breton", "ÉPAGNEUL BRETON"])
def test_it_compares_names_without_accents_case_and_hyphens(text):
    assert words.fold(text) == "epagneul breton"
