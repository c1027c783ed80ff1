import hashlib
from dataclasses import asdict
from datetime import timedelta

import pytest
from django.utils import timezone

from breeds import classifier as classifiers
from breeds.models import ClassifierVersion, Review
from breeds.tasks import classify_photos
from ml.serving.decision import Thresholds
from shelter.models import Animal, ApiToken, Photo
from tests.support.factories import upload
from tests.support.pictures import jpeg
from tests.test_uploading import REFUSED


def test_it_stores_a_photo_and_answers_201_with_its_id_and_pending(api):
    response = api("post", "/photos/", {"image": upload()})
    assert response.status_code == 201
    assert response.json()["status"] == "pending"
    assert Photo.objects.get(pk=response.json()["id"]).sha256 == hashlib.sha256(jpeg()).hexdigest()


def test_it_answers_200_with_the_known_id_for_the_same_bytes(api):
    first = api("post", "/photos/", {"image": upload()}).json()
    again = api("post", "/photos/", {"image": upload(name="other.jpg")})
    assert (again.status_code, again.json()["id"]) == (200, first["id"])


def test_it_gives_the_answer_once_it_is_there(api, classifier):
    photo = api("post", "/photos/", {"image": upload()}).json()
    classify_photos()
    answer = api("get", f"/photos/{photo['id']}/").json()
    assert (answer["status"], answer["decision"], answer["breed"]) == ("done", "breed", "beagle")
    assert answer["prediction"]["candidates"][0] == {"label": "beagle", "probability": 0.9}
    assert answer["prediction"]["model"]["version"] == "fake-1"


REASON = {
    "code": "breed_sure",
    "value": 0.9,
    "threshold": 0.7,
    "names": ["beagle"],
    "runner_up": 0.05,
    "words": {
        "fr": "«\u00a0beagle\u00a0» atteint 90,0\u00a0%. Flair nomme une race à partir de 70,0\u00a0%.",
        "en": "“beagle” reaches 90.0%. Flair names a breed from 70.0%.",
    },
}
THRESHOLDS = asdict(Thresholds(energy=2.0, breed=0.7, group=0.8))


def test_it_says_why_in_both_languages(api, classifier):
    answer = api("post", "/predict/", {"image": upload()}, scopes=["read"]).json()
    assert (answer["reasons"], answer["thresholds"], answer["mask"]) == ([REASON], THRESHOLDS, ["dingo"])
    photo = api("post", "/photos/", {"image": upload()}).json()
    classify_photos()
    stored = api("get", f"/photos/{photo['id']}/").json()["prediction"]
    assert (stored["reasons"], stored["thresholds"], stored["mask"]) == ([REASON], THRESHOLDS, ["dingo"])


def test_it_has_no_reasons_before_the_answer_nor_thresholds_that_were_not_kept(api, classifier):
    photo = api("post", "/photos/", {"image": upload()}).json()
    assert (photo["prediction"]["reasons"], photo["prediction"]["thresholds"], photo["prediction"]["mask"]) == (
        [],
        None,
        None,
    )
    classify_photos()
    ClassifierVersion.objects.update(thresholds={})
    assert api("get", f"/photos/{photo['id']}/").json()["prediction"]["thresholds"] == {}


def test_it_files_a_photo_under_an_animal(api):
    rex = Animal.objects.create(name="Rex")
    assert api("post", "/photos/", {"image": upload(), "animal": rex.pk}).json()["animal"] == rex.pk


def test_it_lists_photos_filtered_and_in_pages(api, classifier):
    for seed in range(3):
        api("post", "/photos/", {"image": upload(jpeg(seed))})
    classify_photos()
    api("post", "/photos/", {"image": upload(jpeg(9))})
    first = api("get", "/photos/", {"breed": "beagle", "page_size": 2}).json()
    assert [photo["breed"] for photo in first["results"]] == ["beagle", "beagle"]
    rest = api("get", "/photos/?" + first["next"].split("?")[1]).json()
    assert len(rest["results"]) == 1


def test_it_lists_what_changed_since_a_moment(api, classifier):
    api("post", "/photos/", {"image": upload()})
    moment = timezone.now()
    assert api("get", "/photos/", {"updated_since": moment.isoformat()}).json()["results"] == []
    classify_photos()
    assert len(api("get", "/photos/", {"updated_since": moment.isoformat()}).json()["results"]) == 1


def test_it_predicts_without_storing_anything(api, classifier, stored_files):
    answer = api("post", "/predict/", {"image": upload()}, scopes=["read"]).json()
    assert (answer["decision"], answer["label"], answer["model"]) == (
        "breed",
        "beagle",
        {"name": "fake", "version": "fake-1", "preprocessing": "fake-way-in-1"},
    )
    assert (Photo.objects.count(), stored_files()) == (0, set())


@pytest.mark.parametrize("path", ["/photos/", "/predict/"])
@pytest.mark.parametrize(("name", "content"), REFUSED.values(), ids=REFUSED)
def test_it_answers_400_with_a_code_and_the_files_name_for_bad_uploads(api, classifier, path, name, content):
    response = api("post", path, {"image": upload(content, name)})
    assert response.status_code == 400
    assert response.json()["code"] in {*classifiers.UnreadableImage.REASONS}
    assert name in response.json()["detail"]


@pytest.mark.parametrize("path", ["/photos/", "/predict/"])
def test_it_answers_400_when_there_is_no_image(api, classifier, path):
    response = api("post", path, {"picture": upload()})
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert "image" in response.json()["errors"]


def test_it_answers_503_when_no_classifier_can_be_loaded(api, monkeypatch):
    def broken(num_threads=1):
        raise classifiers.BadCheckpoint("nothing there")

    monkeypatch.setattr(classifiers, "active_classifier", broken)
    response = api("post", "/predict/", {"image": upload()})
    assert (response.status_code, response.json()["code"]) == (503, "no_classifier")


@pytest.mark.parametrize("path", ["/photos/999/", "/photos/abc/", "/nothing/"])
def test_it_answers_404_as_json(api, path):
    response = api("get", path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("value", ["yesterday", "2026-99-01"])
def test_it_answers_400_for_a_filter_that_means_nothing(api, value):
    response = api("get", "/photos/", {"updated_since": value})
    assert (response.status_code, "updated_since" in response.json()["errors"]) == (400, True)


def test_it_wants_a_token(client, db):
    response = client.get("/api/v1/photos/")
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Token")
    assert response.json()["code"] == "not_authenticated"


def test_it_refuses_a_token_without_the_scope_and_names_it(api):
    response = api("post", "/photos/", {"image": upload()}, scopes=["read"])
    assert response.status_code == 403
    assert "upload" in response.json()["detail"]


@pytest.mark.parametrize(
    "change",
    [{"revoked_at": timezone.now()}, {"expires_at": timezone.now() - timedelta(seconds=1)}],
    ids=["revoked", "expired"],
)
def test_it_refuses_a_token_that_is_over(api, anne, change):
    token, key = ApiToken.issue(anne, ["read"])
    ApiToken.objects.filter(pk=token.pk).update(**change)
    assert api("get", "/photos/", key=key).status_code == 401


def test_it_refuses_the_token_of_an_account_that_was_closed(api, anne):
    _token, key = ApiToken.issue(anne, ["read"])
    anne.is_active = False
    anne.save()
    assert api("get", "/photos/", key=key).status_code == 401


def test_it_keeps_only_the_hash_of_a_key(anne):
    token, key = ApiToken.issue(anne, ["read"])
    assert token.digest == hashlib.sha256(key.encode()).hexdigest()
    assert not ApiToken.objects.filter(digest__contains=key).exists()


def test_it_accepts_the_session_of_a_person_with_csrf(client, anne):
    client.force_login(anne)
    client.handler.enforce_csrf_checks = True
    assert client.get("/api/v1/photos/").status_code == 200
    assert client.post("/api/v1/photos/", {"image": upload()}).status_code == 403


def test_it_describes_itself_as_openapi(api):
    schema = api("get", "/schema/?format=json").json()
    assert schema["openapi"].startswith("3.1")
    assert {"/api/v1/predict/", "/api/v1/photos/", "/api/v1/photos/{id}/"} <= set(schema["paths"])


# -- taking a decision back -------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(api, classifier):
    """A photo that the classifier has answered and Anne has reviewed, and the review's address."""
    photo = api("post", "/photos/", {"image": upload()}).json()["id"]
    classify_photos()
    review = api("post", f"/photos/{photo}/reviews/", json={"verdict": "not_a_dog"}, scopes=["review"]).json()["id"]
    return photo, f"/photos/{photo}/reviews/{review}/"


def test_it_takes_a_decision_back_and_may_be_asked_again(api, reviewed):
    photo, address = reviewed
    for _ in range(2):
        assert api("delete", address, scopes=["review"]).status_code == 204
    shown = api("get", f"/photos/{photo}/").json()
    assert (shown["source"], shown["decision"], shown["review"]) == ("model", "breed", None)
    assert [review.verdict for review in Review.objects.order_by("pk")] == ["not_a_dog", "withdraw"]


def test_it_takes_back_what_others_said_only_for_those_who_may(api, reviewed, bruno, chloe):
    _photo, address = reviewed
    keys = [ApiToken.issue(person, ["review"])[1] for person in (bruno, chloe)]
    refused = api("delete", address, key=keys[0])
    assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    assert api("delete", address, key=keys[1]).status_code == 204


def test_it_takes_nothing_back_that_was_not_said_of_this_photo(api, reviewed):
    photo, address = reviewed
    other = api("post", "/photos/", {"image": upload(jpeg(seed=1))}).json()["id"]
    review = Review.objects.get()
    assert api("delete", f"/photos/{other}/reviews/{review.pk}/", scopes=["review"]).status_code == 404
    api("delete", address, scopes=["review"])
    withdrawal = Review.objects.get(verdict="withdraw")
    assert api("delete", f"/photos/{photo}/reviews/{withdrawal.pk}/", scopes=["review"]).status_code == 404
