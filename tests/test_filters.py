"""Each filter finds the same photos on the page and in the API, crosses and the days' boundaries included."""

from datetime import datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from breeds.models import Breed
from shelter.api.photos import PhotoFilter
from shelter.models import Animal, Import, Photo
from shelter.search.searching import PhotoSearch

MIDNIGHT = timezone.make_aware(datetime(2026, 3, 1))
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ALL = {"beagle", "hound", "beagle_cross", "basset_cross", "waiting"}
CROSSES = {"beagle_cross", "basset_cross"}

# The filter of the page, the same of the API, and the photos that both find.
SHARED = [
    ({}, {}, ALL),
    ({"breed": "beagle"}, {"breed": "beagle"}, {"beagle", "beagle_cross", "basset_cross"}),
    ({"breed": "basset"}, {"breed": "basset"}, CROSSES),
    ({"breed": "dingo"}, {"breed": "dingo"}, set()),
    ({"breed": "no_such_breed"}, {"breed": "no_such_breed"}, set()),
    ({"breed": "beagle", "source": "human"}, {"breed": "beagle", "source": "human"}, CROSSES),
    ({"group": "scenthounds"}, {"group": "scenthounds"}, {"beagle", "hound"}),
    ({"decision": "cross"}, {"decision": "cross"}, CROSSES),
    ({"decision": "breed"}, {"decision": "breed"}, {"beagle"}),
    ({"status": "pending"}, {"status": "pending"}, {"waiting"}),
    ({"source": "model"}, {"source": "model"}, {"beagle", "hound"}),
    ({"probability": "90"}, {"probability_min": "0.9"}, {"beagle"}),
    ({"probability": "70"}, {"probability_min": "0.7", "probability_max": "0.9"}, {"hound"}),
    ({"probability": "50"}, {"probability_min": "0.5", "probability_max": "0.7"}, set()),
    ({"filed": "yes"}, {"filed": "true"}, {"beagle"}),
    ({"filed": "no"}, {"filed": "false"}, ALL - {"beagle"}),
    ({"uploader": "bruno"}, {"uploaded_by": "bruno"}, {"waiting"}),
    ({"since": "2026-03-01"}, {"uploaded_since": MIDNIGHT}, ALL - {"beagle"}),
    ({"until": "2026-03-01"}, {"uploaded_before": MIDNIGHT + DAY}, {"beagle", "hound", "beagle_cross"}),
    (
        {"since": "2026-03-01", "until": "2026-03-01"},
        {"uploaded_since": MIDNIGHT, "uploaded_before": MIDNIGHT + DAY},
        {"hound", "beagle_cross"},
    ),
    ({"q": "rex"}, {"q": "rex"}, {"beagle"}),
    ({"q": "basset"}, {"q": "basset"}, CROSSES),
]
ONLY_IN_API = [
    ({"second_breed": "beagle"}, {"basset_cross"}),
    ({"second_breed": "no_such_breed"}, set()),
    ({"animal": "rex"}, {"beagle"}),
    ({"sha256": f"{2:064}"}, {"beagle_cross"}),
    ({"updated_since": MIDNIGHT + DAY}, {"basset_cross", "waiting"}),
]


@pytest.fixture
def index(anne, bruno, breeds):
    """A beagle filed under Rex, a hound, two crosses and a photo that waits, sent from minute to minute over a day."""
    breed = {slug: Breed.objects.get(slug=slug) for slug in ("beagle", "basset")}
    model, human = {"status": "done", "source": "model"}, {"status": "done", "source": "human", "decision": "cross"}
    rows = {
        "beagle": model | {"decision": "breed", "breed": breed["beagle"], "group": "scenthounds", "probability": 0.9},
        "hound": model | {"decision": "group", "group": "scenthounds", "probability": 0.7},
        "beagle_cross": human | {"breed": breed["beagle"], "second_breed": breed["basset"]},
        "basset_cross": human | {"breed": breed["basset"], "second_breed": breed["beagle"]},
        "waiting": {"uploaded_by": bruno},
    }
    moments = [MIDNIGHT - MINUTE, MIDNIGHT, MIDNIGHT + DAY - MINUTE, MIDNIGHT + DAY, MIDNIGHT + DAY + MINUTE]
    photos = {}
    for number, ((name, row), moment) in enumerate(zip(rows.items(), moments, strict=True)):
        facts = {"original_name": name, "sha256": f"{number:064}", "size": 1, "width": 1, "height": 1}
        row = facts | {"uploaded_by": anne, "uploaded_at": moment, "updated_at": moment} | row
        photos[name] = Photo.objects.create(**row)
    Photo.objects.filter(pk=photos["beagle"].pk).update(animal=Animal.objects.create(name="Rex"))
    return photos


def sent(value) -> str:
    return value.isoformat() if isinstance(value, datetime) else value


def found_by_api(api, **filters) -> set[str]:
    response = api("get", "/photos/", {name: sent(value) for name, value in filters.items()})
    assert response.status_code == 200
    return {photo["original_name"] for photo in response.json()["results"]}


def exported(response) -> set[str]:
    """The file names, which no other column contains, of a table."""
    content = b"".join(response.streaming_content).decode()
    return {name for name in ALL if f",{name}," in content}


@pytest.mark.parametrize(("on_page", "in_api", "names"), SHARED)
def test_page_and_api_find_the_same_photos(staff, api, index, bruno, on_page, in_api, names):
    if "uploader" in on_page:
        on_page = {"uploader": bruno.pk}
    page = staff.get(reverse("photo_list"), on_page)
    assert {photo.original_name for photo in page.context["page"]} == names
    assert page.context["search"].count == len(names)
    assert found_by_api(api, **in_api) == names


@pytest.mark.parametrize(("on_page", "in_api", "names"), [case for case in SHARED if "breed" in case[0]])
def test_both_exports_contain_the_same_photos(staff, api, index, on_page, in_api, names):
    english = {"Accept-Language": "en"}
    assert exported(staff.get(reverse("photo_csv"), on_page, headers=english)) == names
    assert exported(api("get", "/photos/export/", in_api | {"kind": "csv"}, headers=english)) == names


@pytest.mark.parametrize(("in_api", "names"), ONLY_IN_API)
def test_the_api_finds_photos_by_filters_of_its_own(api, index, in_api, names):
    if "animal" in in_api:
        in_api = {"animal": Animal.objects.get().pk}
    assert found_by_api(api, **in_api) == names


def test_no_filter_is_left_out_above():
    on_page = {name for case in SHARED for name in case[0]}
    in_api = {name for case in SHARED for name in case[1]} | {name for case in ONLY_IN_API for name in case[0]}
    assert on_page == PhotoSearch.base_fields.keys() - {"sort"}
    assert in_api == PhotoFilter.base_filters.keys()


@pytest.mark.parametrize(
    ("path", "name", "column", "is_found"),
    [
        ("/photos/", "uploaded_since", "uploaded_at", [True, True, False]),
        ("/photos/", "uploaded_before", "uploaded_at", [False, False, True]),
        ("/photos/", "updated_since", "updated_at", [True, True, False]),
        ("/animals/", "updated_since", "updated_at", [True, True, False]),
        ("/imports/", "updated_since", "changed_at", [True, True, False]),
    ],
)
def test_a_date_filter_of_the_api_divides_at_its_moment(api, anne, path, name, column, is_found):
    rows = {
        "/photos/": lambda: Photo.objects.create(size=1, width=1, height=1),
        "/animals/": lambda: Animal.objects.create(name="Rex"),
        "/imports/": lambda: Import.objects.create(user=anne),
    }
    row = rows[path]()
    type(row).objects.filter(pk=row.pk).update(**{column: MIDNIGHT})
    asked = [MIDNIGHT - MINUTE, MIDNIGHT, MIDNIGHT + MINUTE]
    answers = [api("get", path, {name: moment.isoformat()}).json()["results"] for moment in asked]
    assert [bool(results) for results in answers] == is_found
