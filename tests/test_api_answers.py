"""The answer object, field by field, and errors as problem details."""

import threading
import time

import pytest
from django.urls import reverse

from breeds import classifier as classifiers
from breeds.models import Breed, ClassifierVersion, Review
from breeds.tasks import classify_photos
from shelter.api import predict
from shelter.models import Photo
from tests.support.factories import upload
from tests.support.ml import run_fresh
from tests.support.pictures import jpeg

FIELDS = [
    "format", "reviewed", "decision", "label", "group", "probability", "candidates", "words", "reasons", "thresholds",
    "mask", "model", "timings", "milliseconds",
]  # fmt: skip


@pytest.fixture
def answered(api, classifier):
    """A photo that the classifier has answered, as the API shows it."""
    photo = api("post", "/photos/", {"image": upload()}).json()
    classify_photos()
    return api("get", f"/photos/{photo['id']}/").json()


def test_it_answers_with_every_field_of_the_format_in_its_order(api, classifier, answered):
    answer = api("post", "/predict/", {"image": upload()}, scopes=["read"]).json()
    assert list(answer) == FIELDS
    assert [name for name in answered["prediction"] if name in FIELDS] == FIELDS
    assert (answer["format"], answered["prediction"]["format"]) == (1, 1)


def test_it_says_the_same_of_a_photo_that_is_stored_and_of_one_that_is_not(api, classifier, answered):
    answer = api("post", "/predict/", {"image": upload()}, scopes=["read"]).json()
    stored = answered["prediction"]
    same = [name for name in FIELDS if name != "timings"]
    assert {name: stored[name] for name in same} == {name: answer[name] for name in same}


def test_it_says_the_answer_in_both_languages(answered):
    assert answered["prediction"]["words"] == {
        "fr": "Ressemble à un beagle (90,0\u00a0%)",
        "en": "Looks like a beagle (90.0%)",
    }


def test_it_says_how_long_the_photo_waited_and_was_looked_at(answered):
    timings = answered["prediction"]["timings"]
    assert timings["classifying_ms"] == answered["prediction"]["milliseconds"] == 7.0
    assert timings["total_ms"] == pytest.approx(timings["waiting_ms"] + 7.0, abs=0.11)


def test_it_has_neither_words_nor_timings_before_the_answer(api, classifier):
    prediction = api("post", "/photos/", {"image": upload()}).json()["prediction"]
    assert (prediction["words"], prediction["timings"], prediction["model"], prediction["reviewed"]) == (None,) * 4


def test_it_puts_what_a_person_decided_before_what_the_classifier_says(api, anne, answered):
    photo = Photo.objects.get(pk=answered["id"])
    Review.objects.record(photo, by=anne, verdict="correct", breed=Breed.objects.get(slug="basset"))
    prediction = api("get", f"/photos/{photo.pk}/").json()["prediction"]
    assert (prediction["reviewed"]["decision"], prediction["reviewed"]["label"]) == ("breed", "basset")
    assert (prediction["reviewed"]["second_label"], prediction["reviewed"]["by"]) == ("", "anne")
    assert prediction["reviewed"]["words"]["en"] == "It is a basset hound (confirmed by anne)"
    assert prediction["label"] == "beagle"


def test_it_forgets_a_decision_that_was_withdrawn(api, anne, answered):
    photo = Photo.objects.get(pk=answered["id"])
    review = Review.objects.record(photo, by=anne, verdict="not_a_dog").review
    Review.objects.withdraw(review, by=anne)
    assert api("get", f"/photos/{photo.pk}/").json()["prediction"]["reviewed"] is None


def test_it_keeps_the_preprocessing_of_a_version(classifier):
    assert classifier.row().preprocessing == "fake-way-in-1"
    assert ClassifierVersion.objects.get().preprocessing == "fake-way-in-1"


def test_it_predicts_without_tensorflow(tmp_path):
    code = (
        "import sys, django; django.setup(); import shelter.urls; from django.conf import settings; "
        "from breeds.classifier import load_classifier; from tests.support.pictures import jpeg; "
        "load_classifier(settings.BUNDLED_CLASSIFIER).classify(jpeg()); "
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    assert run_fresh(code, tmp_path) == "[]"


def test_it_takes_no_more_photos_at_once_than_it_has_places_for(api, classifier, settings, monkeypatch):
    settings.PREDICT_PLACES = 1
    monkeypatch.setattr(predict, "places", predict.Places(1))
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with predict.places.one():
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(10)
    refused = api("post", "/predict/", {"image": upload()}, scopes=["read"])
    leave.set()
    holder.join()
    assert (refused.status_code, refused["Retry-After"], refused.json()["code"]) == (429, "1", "busy")
    assert api("post", "/predict/", {"image": upload()}, scopes=["read"]).status_code == 200


@pytest.fixture
def busy(monkeypatch):
    """Places with one worker, which is at work until `busy.leave` is set, then at once done."""
    places = predict.Places(1)
    places.leave, begun = threading.Event(), threading.Event()
    monkeypatch.setattr(predict, "places", places)
    thread = threading.Thread(target=lambda: places.work(lambda: begun.set() or places.leave.wait(10)))
    thread.start()
    begun.wait(10)
    yield places
    places.leave.set()
    thread.join(10)


def test_it_lets_a_photo_wait_for_its_turn_only_so_long(api, classifier, busy, monkeypatch):
    monkeypatch.setattr(predict, "PREDICT_WAIT_SECONDS", 0.01)
    refused = api("post", "/predict/", {"image": upload()}, scopes=["read"])
    assert (refused.status_code, refused["Retry-After"], classifier.seen) == (429, "1", [])


def test_photos_have_their_turn_in_the_order_in_which_they_came(busy):
    served, waiting = [], []
    for number in range(6):
        waiting.append(threading.Thread(target=busy.work, args=[lambda number=number: served.append(number)]))
        waiting[-1].start()
        while busy._pool._work_queue.qsize() <= number:
            time.sleep(0.001)
    busy.leave.set()
    for thread in waiting:
        thread.join(10)
    assert served == list(range(6))


def test_who_gave_up_waiting_leaves_the_line_and_the_place_to_the_next(api, classifier, busy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(predict, "PREDICT_WAIT_SECONDS", 0.01)
        assert api("post", "/predict/", {"image": upload(jpeg(3))}, scopes=["read"]).status_code == 429
    busy.leave.set()
    for _ in range(3):
        assert api("post", "/predict/", {"image": upload()}, scopes=["read"]).status_code == 200
        with busy.one() as is_alone:
            assert is_alone
    assert len(classifier.seen) == 3


def test_a_photo_whose_turn_has_come_is_answered_however_long_it_takes(monkeypatch):
    monkeypatch.setattr(predict, "PREDICT_WAIT_SECONDS", 0.01)
    assert predict.Places(1).work(lambda: time.sleep(0.1) or "answer") == "answer"


def test_a_photo_that_is_alone_gets_several_threads_and_others_get_one(api, classifier, settings, monkeypatch):
    settings.PREDICT_THREADS, asked = 3, []
    row = classifier.row()
    monkeypatch.setattr(classifiers, "active_classifier", lambda number: asked.append(number) or (classifier, row))
    api("post", "/predict/", {"image": upload()}, scopes=["read"])
    with predict.places.one():
        api("post", "/predict/", {"image": upload()}, scopes=["read"])
    assert asked == [3, 1]


def test_the_pool_starts_no_thread_before_the_first_photo():
    before = threading.active_count()
    places = predict.Places(1)
    assert threading.active_count() == before
    assert places.work(threading.current_thread) is not threading.current_thread()


# -- problems ---------------------------------------------------------------------------------------------------------


def test_it_tells_a_refused_file_as_a_problem_with_its_name_and_field(api, classifier):
    for path in ("/photos/", "/predict/"):
        response = api("post", path, {"image": upload(jpeg()[:1500], "coupee.jpg")})
        body = response.json()
        assert response["Content-Type"] == "application/problem+json"
        assert (body["status"], body["code"], body["type"]) == (400, "truncated", "urn:flair:problem:truncated")
        assert (body["title"], body["field"], body["file"]) == ("Bad Request", "image", "coupee.jpg")
        assert "coupee.jpg" in body["detail"]


def test_it_names_the_offending_field_with_its_code(api):
    body = api("post", "/photos/", {"image": upload(), "animal": "rex"}).json()
    assert (body["code"], body["field"], body["codes"]) == ("invalid", "animal", {"animal": ["incorrect_type"]})


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/photos/999999999999999999999999/", 404, "not_found"),
        ("get", "/nothing/", 404, "not_found"),
        ("delete", "/photos/", 405, "method_not_allowed"),
        ("options", "/photos/", 405, "method_not_allowed"),
    ],
)
def test_it_tells_every_other_error_as_a_problem_too(api, method, path, status, code):
    response = api(method, path, "" if method == "options" else None)
    assert (response.status_code, response.json()["code"], response.json()["status"]) == (status, code, status)
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        ("{", "application/json", 400, "parse_error"),
        ("[" * 100_000, "application/json", 400, "parse_error"),
        ("NaN", "application/json", 400, "parse_error"),
        ("[]", "application/json", 400, "invalid"),
        ('"\\ud800"', "application/json", 400, "invalid"),
        (" " * 2_000_001, "application/json", 413, "request_too_large"),
        ("<a/>", "application/xml", 415, "unsupported_media_type"),
    ],
    ids=["cut", "deep", "nan", "list", "surrogate", "large", "xml"],
)
def test_it_answers_odd_json_with_a_problem(client, anne, api, body, media_type, status, code):
    key = api.key(["read", "upload"])
    response = client.post(
        "/api/v1/photos/check/", body, content_type=media_type, headers={"Authorization": f"Token {key}"}
    )
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_it_answers_406_for_a_media_type_that_it_does_not_write(client, api):
    headers = {"Authorization": f"Token {api.key(['read'])}", "Accept": "text/xml"}
    response = client.get("/api/v1/photos/", headers=headers)
    assert (response.status_code, response["Content-Type"]) == (406, "application/problem+json")


@pytest.mark.parametrize("digits", ["²", "٣", "1²", "①"])
def test_it_takes_for_a_number_what_has_only_ascii_digits(client, anne, api, digits):
    """`"²".isdigit()` is true, and `int("²")` an error."""
    key = {"Authorization": f"Token {api.key(['read', 'upload'])}"}
    refused = client.get("/api/v1/photos/", {"page_size": digits}, headers=key)
    assert (refused.status_code, refused.json()["field"]) == (400, "page_size")
    body = {"data": '{"sha256": ["%s"]}' % ("0" * 64), "content_type": "application/json"}
    assert client.post("/api/v1/photos/check/", **body, headers=key, CONTENT_LENGTH=digits).status_code < 500
    client.force_login(anne)
    pages = {"quality": "version", "review_queue": "photo", "photo_list": "page"}
    for name, field in pages.items():
        assert client.get(reverse(name), {field: digits}).status_code < 500
