"""The API describes itself: OpenAPI 3.1, an example for every call, and nothing that the description does not say."""

from dataclasses import fields

import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from ml.serving.decision import Thresholds
from shelter.models import Animal, ApiToken, Photo
from shelter.wsgi import application
from tests.support.factories import upload

load_all_checks()
# What every answer must be, whatever came. That odd input is refused is tested where it matters: a call may well
# ignore a header or a query that nobody has defined.
KEPT = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]
CALLS = [
    ("GET", "/api/v1/animals/"), ("POST", "/api/v1/animals/"),
    ("GET", "/api/v1/animals/{id}/"), ("PATCH", "/api/v1/animals/{id}/"),
    ("GET", "/api/v1/breeds/"), ("GET", "/api/v1/breeds/groups/"), ("GET", "/api/v1/breeds/{label}/"),
    ("GET", "/api/v1/imports/"), ("POST", "/api/v1/imports/"), ("GET", "/api/v1/imports/{id}/"),
    ("GET", "/api/v1/imports/{id}/items/"), ("PUT", "/api/v1/imports/{id}/parts/{number}/"),
    ("GET", "/api/v1/models/"), ("GET", "/api/v1/models/{version}/"),
    ("GET", "/api/v1/photos/"), ("POST", "/api/v1/photos/"), ("POST", "/api/v1/photos/check/"),
    ("GET", "/api/v1/photos/export/"), ("GET", "/api/v1/photos/{id}/"), ("PATCH", "/api/v1/photos/{id}/"),
    ("GET", "/api/v1/photos/{id}/predictions/"), ("POST", "/api/v1/photos/{id}/reviews/"),
    ("DELETE", "/api/v1/photos/{id}/reviews/{review}/"),
    ("GET", "/api/v1/photos/{id}/similar/"), ("POST", "/api/v1/predict/"),
    ("GET", "/api/v1/webhooks/"), ("POST", "/api/v1/webhooks/"), ("GET", "/api/v1/webhooks/{id}/"),
    ("DELETE", "/api/v1/webhooks/{id}/"), ("GET", "/api/v1/webhooks/{id}/deliveries/"),
]  # fmt: skip


@pytest.fixture
def document(client, db) -> dict:
    return client.get("/api/v1/schema/?format=json").json()


def test_it_describes_every_call_and_no_other(document):
    described = {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}
    assert described == set(CALLS)
    assert document["openapi"].startswith("3.1")


def test_it_has_an_example_and_a_sentence_for_every_call(document):
    lacking = []
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            if not call.get("description"):
                lacking.append(f"{method} {path}: a description")
            contents = [(status, answer.get("content", {})) for status, answer in call["responses"].items()]
            contents.append(("request", call.get("requestBody", {}).get("content", {})))
            lacking += [
                f"{method} {path} {status}: an example"
                for status, content in contents
                for media_type, media in content.items()
                if media_type in ("application/json", "application/problem+json")
                and not media.keys() & {"example", "examples"}
            ]
    assert lacking == []


def test_it_has_examples_that_fit_the_description(document):
    """What people copy from the documentation is what the calls take and give."""
    from jsonschema_rs import validator_for

    misfits = []
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            bodies = [*call["responses"].values(), call.get("requestBody", {})]
            for media in (media for body in bodies for media in body.get("content", {}).values()):
                check = validator_for(media["schema"] | {"components": document["components"]})
                examples = [example["value"] for example in media.get("examples", {}).values()]
                examples += [media["example"]] if "example" in media else []
                misfits += [f"{method} {path}: {e.message}" for example in examples for e in check.iter_errors(example)]
    assert misfits == []


def test_it_serves_its_documentation_without_any_other_server(client, db):
    page = client.get("/api/v1/docs/").content.decode()
    assert "swagger-ui" in page
    assert "://" not in page.replace("http://testserver", "").replace("http://www.w3.org", "")


def test_it_describes_the_thresholds_as_the_classifier_does(document):
    described = document["components"]["schemas"]["Thresholds"]
    assert set(described["properties"]) == {field.name for field in fields(Thresholds)}
    assert "`energy`" in described["description"]


@pytest.fixture
def stocked(document, api, classifier, anne, settings):
    """Some of everything, and a key for all of it.

    The test's client connects again, with every call, the signals that are cut off here: so `document` comes before.
    """
    cache.clear()
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 10**9)
    photo = api("post", "/photos/", {"image": upload()}).json()
    Photo.objects.filter(pk=photo["id"]).file_under(Animal.objects.create(name="Rex"))
    api("post", "/webhooks/", json={"url": "https://example.org/", "events": ["prediction.done"]})
    api("post", "/imports/", json={"name": "a.zip", "size": 10})
    classifier.row().activate()
    for signal in (request_started, request_finished):  # or the application would hang up on the test's transaction
        signal.disconnect(close_old_connections)
    yield ApiToken.issue(anne, ["read", "upload", "review"])[1]
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.parametrize(("method", "path"), CALLS, ids=[f"{method} {path}" for method, path in CALLS])
def test_it_never_breaks_nor_answers_what_it_does_not_describe(stocked, document, method, path):
    described = schemathesis.openapi.from_dict(document)
    described.app = application
    call = described[path][method]
    cases = call.as_strategy() | call.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(
        max_examples=12, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases)
    def try_it(case):
        case.headers = {**(case.headers or {}), "Authorization": f"Token {stocked}"}
        case.call_and_validate(checks=KEPT)

    try_it()
