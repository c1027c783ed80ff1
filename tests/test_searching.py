"""What a search finds, counts, sorts, keeps and hands out."""

from datetime import datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from breeds import words
from breeds.models import Breed
from shelter.models import Photo, SavedSearch
from tests.support.factories import a_dog, a_photo

DAY = timedelta(days=1)


@pytest.fixture
def index(anne, breeds):
    """Three photos: a Brittany filed under Élodie, a terrier whose breed is not sure, and one that waits."""
    brittany, terrier, waiting = (a_photo(anne, name=f"{number}.jpg") for number in range(3))
    rows = Photo.objects.filter
    rows(pk=brittany.pk).update(
        status="done", decision="breed", breed=Breed.objects.get(slug="brittany_spaniel"), group="pointing_dogs",
        probability=0.61584, source="model", animal=a_dog("Élodie", microchip="250268500123456"),
    )  # fmt: skip
    rows(pk=terrier.pk).update(status="done", decision="group", group="terriers", probability=0.8, source="model")
    for number, photo in enumerate((waiting, terrier, brittany)):
        rows(pk=photo.pk).update(uploaded_at=timezone.make_aware(datetime(2026, 2, 28, 23, 59)) + number * DAY)
    return {"brittany": brittany, "terrier": terrier, "waiting": waiting}


def found_by(client, **query) -> set:
    return set(client.get(reverse("photo_list"), query).context["page"])


def facet(client, name: str, **query) -> dict[str, int]:
    search = client.get(reverse("photo_list"), query).context["search"]
    return {choice.value: choice.count for facet in search.facets() if facet.name == name for choice in facet.choices}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"brittany", "terrier", "waiting"}),
        ({"breed": "brittany_spaniel"}, {"brittany"}),
        ({"breed": "beagle"}, set()),
        ({"breed": "no_such_breed"}, set()),
        ({"group": "terriers"}, {"terrier"}),
        ({"decision": "breed"}, {"brittany"}),
        ({"status": "pending"}, {"waiting"}),
        ({"source": "model"}, {"brittany", "terrier"}),
        ({"source": "human"}, set()),
        ({"probability": "50"}, {"brittany"}),
        ({"probability": "70"}, {"terrier"}),
        ({"filed": "yes"}, {"brittany"}),
        ({"filed": "no"}, {"terrier", "waiting"}),
        ({"since": "2026-03-01"}, {"brittany", "terrier"}),
        ({"until": "2026-03-01"}, {"terrier", "waiting"}),
        ({"since": "2026-03-01", "until": "2026-03-01"}, {"terrier"}),
        ({"q": "épagneul breton"}, {"brittany"}),
        ({"q": "EPAGNEUL BRETON"}, {"brittany"}),
        ({"q": "Brittany"}, {"brittany"}),
        ({"q": "élo"}, {"brittany"}),
        ({"q": "elodie"}, {"brittany"}),
        ({"q": "ÉLODIE bretón"}, {"brittany"}),
        ({"q": "elodie terrier"}, set()),
        ({"q": "terriers"}, {"terrier"}),
        ({"q": "chiens d'arrêt"}, {"brittany"}),
        ({"q": "pointing"}, {"brittany"}),
        ({"q": "250268500"}, {"brittany"}),
        ({"q": "250 268 500 123 456"}, {"brittany"}),
        ({"q": "123456"}, {"brittany"}),
        ({"q": "licorne"}, set()),
        ({"q": "%"}, {"brittany", "terrier", "waiting"}),
        ({"group": "no such group"}, {"brittany", "terrier", "waiting"}),
        ({"since": "yesterday", "uploader": "me", "probability": "1"}, {"brittany", "terrier", "waiting"}),
        ({"after": "[9", "before": '["\\u0000", 1]'}, {"brittany", "terrier", "waiting"}),
    ],
)
@pytest.mark.parametrize("language", ["fr", "en"])
def test_it_finds_photos_by_breed_group_state_and_words(staff, index, query, found, language):
    page = staff.get(reverse("photo_list"), query, headers={"Accept-Language": language}).context["page"]
    assert set(page) == {index[name] for name in found}


def test_it_finds_the_photos_of_one_person(staff, index, anne, bruno):
    Photo.objects.filter(pk=index["waiting"].pk).update(uploaded_by=bruno)
    assert found_by(staff, uploader=bruno.pk) == {index["waiting"]}
    assert facet(staff, "uploader") == {str(anne.pk): 2, str(bruno.pk): 1}


def test_it_counts_what_each_choice_would_find(staff, index):
    assert facet(staff, "breed") == {"brittany_spaniel": 1}
    assert facet(staff, "decision") == {"breed": 1, "group": 1}
    assert facet(staff, "status") == {"done": 2, "pending": 1}
    assert facet(staff, "probability") == {"70": 1, "50": 1}
    assert facet(staff, "filed") == {"yes": 1, "no": 2}
    assert staff.get(reverse("photo_list")).context["search"].count == 3


def test_it_counts_under_the_other_choices_so_that_a_choice_can_be_changed(staff, index):
    assert facet(staff, "decision", decision="breed") == {"breed": 1, "group": 1}
    assert facet(staff, "group", decision="breed") == {"pointing_dogs": 1}
    assert facet(staff, "group", decision="breed", group="terriers") == {"pointing_dogs": 1, "terriers": 0}
    assert staff.get(reverse("photo_list"), {"decision": "breed"}).context["search"].count == 1


def test_each_choice_leads_to_as_many_photos_as_it_says(staff, index):
    for facet_of in staff.get(reverse("photo_list")).context["search"].facets():
        for choice in facet_of.choices:
            shown = staff.get(f"{reverse('photo_list')}?{choice.query}").context
            assert len(shown["page"]) == shown["search"].count == choice.count


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("newest", ["waiting", "terrier", "brittany"]),
        ("oldest", ["brittany", "terrier", "waiting"]),
        ("surest", ["terrier", "brittany", "waiting"]),
        ("unsurest", ["waiting", "brittany", "terrier"]),
        ("backwards", ["waiting", "terrier", "brittany"]),
    ],
)
def test_it_sorts(staff, index, sort, order):
    page = staff.get(reverse("photo_list"), {"sort": sort}).context["page"]
    assert list(page) == [index[name] for name in order]


@pytest.mark.parametrize("sort", ["newest", "oldest", "surest", "unsurest"])
def test_it_walks_all_pages_forth_and_back_without_a_gap(staff, index, anne, monkeypatch, sort):
    monkeypatch.setattr("shelter.pages.search.PHOTOS_A_PAGE", 3)
    for seed in range(10, 15):
        a_photo(anne, seed)
    Photo.objects.filter(pk__gt=index["waiting"].pk).update(probability=0.5)

    def get(**query):
        return staff.get(reverse("photo_list"), {"sort": sort} | query).context["page"]

    pages = [get()]
    while pages[-1].following:
        pages.append(get(after=pages[-1].following))
    walked = [photo.pk for page in pages for photo in page]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert sorted(walked) == sorted(Photo.objects.values_list("pk", flat=True))
    back = get(before=pages[2].previous)
    assert (back.rows, back.following != "", back.previous != "") == (pages[1].rows, True, True)
    first = get(before=back.previous)
    assert (first.rows, first.previous) == (pages[0].rows, "")


def test_it_needs_the_same_few_queries_for_one_photo_and_for_many(staff, index, anne, django_assert_max_num_queries):
    for seed in range(10, 30):
        a_photo(anne, seed, animal=a_dog(f"Dog {seed}"))
    with django_assert_max_num_queries(12):
        staff.get(reverse("photo_list"), {"q": "dog", "filed": "yes", "sort": "surest"})


def test_it_keeps_a_search_under_a_name(staff, index, bruno):
    staff.post(reverse("save_search"), {"name": " À  revoir ", "decision": "group", "sort": "oldest"})
    saved = staff.get(reverse("photo_list")).context["saved"].get()
    assert (saved.name, saved.query) == ("À revoir", "decision=group&sort=oldest")
    assert set(staff.get(f"{reverse('photo_list')}?{saved.query}").context["page"]) == {index["terrier"]}
    assert not bruno.saved_searches.exists()


def test_it_changes_a_saved_search_of_the_same_name(staff, anne):
    for decision in ("group", "breed"):
        staff.post(reverse("save_search"), {"name": "À revoir", "decision": decision})
    assert anne.saved_searches.get().query == "decision=breed"


@pytest.mark.parametrize("data", [{"name": "", "q": "rex"}, {"name": "all"}, {"name": "all", "group": "none"}])
def test_it_keeps_no_search_without_a_name_or_a_filter(staff, anne, data):
    page = staff.post(reverse("save_search"), data, follow=True)
    assert len(list(page.context["messages"])) == 1
    assert not anne.saved_searches.exists()


def test_it_keeps_a_limited_number_of_searches(staff, anne):
    for number in range(SavedSearch.MOST + 1):
        staff.post(reverse("save_search"), {"name": f"Search {number}", "q": "rex"})
    assert anne.saved_searches.count() == SavedSearch.MOST


def test_it_removes_only_ones_own_searches(staff, anne, bruno):
    for user in (anne, bruno):
        SavedSearch.objects.keep(user, "Rex", "q=rex")
    assert staff.post(reverse("delete_search", args=[bruno.saved_searches.get().pk])).status_code == 404
    assert staff.post(reverse("delete_search", args=[anne.saved_searches.get().pk])).status_code == 302
    assert (anne.saved_searches.count(), bruno.saved_searches.count()) == (0, 1)


def test_it_says_which_breeds_the_model_cannot_know(staff, classifier):
    classifier.row().activate()
    page = staff.get(reverse("breed_list"))
    unknown = {breed.slug for group in page.context["groups"] for breed in group["unknown"]}
    assert {"dachshund", "dalmatian", "jack_russell_terrier"} <= unknown
    assert "beagle" not in unknown


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
