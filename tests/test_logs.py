"""Log lines: each with its request and photo, none with a secret."""

import io
import json
import logging
import re

import pytest
from django.conf import settings as django_settings
from django.urls import reverse

from breeds.tasks import classify_photos
from shelter.logs import JsonFormatter, LineFormatter, without_secrets
from shelter.models import ApiToken
from tests.support.factories import upload


@pytest.fixture(params=["json", "line"])
def log(request):
    """What is logged at any level, as production writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if request.param == "json" else LineFormatter("{name}: {message}", style="{"))
    root, quiet = logging.getLogger(), logging.getLogger("django.request")
    levels = root.level, quiet.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    quiet.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(levels[0])
    quiet.setLevel(levels[1])


@pytest.fixture
def lines(log, request):
    if request.node.callspec.params["log"] == "line":
        pytest.skip("for machines")
    return lambda: [json.loads(line) for line in log.getvalue().splitlines()]


def test_it_gives_a_request_the_id_that_the_proxy_sent(client, lines, db):
    response = client.get("/accounts/login/", headers={"X-Request-ID": "abc-123"})
    assert response["X-Request-ID"] == "abc-123"
    (line,) = [line for line in lines() if line["logger"] == "shelter.requests"]
    assert (line["request"], line["route"], line["status"], line["method"]) == (
        "abc-123",
        "accounts/login/",
        200,
        "GET",
    )


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "é", "<script>", "a;b"])
def test_it_makes_an_id_where_none_or_a_strange_one_was_sent(client, db, sent):
    assert re.fullmatch("[0-9a-f]{32}", client.get("/healthz", headers={"X-Request-ID": sent})["X-Request-ID"])


def test_it_is_quiet_about_probes_that_succeed(client, lines, db):
    client.get("/healthz")
    assert [line for line in lines() if line["logger"] == "shelter.requests"] == []


def test_it_names_the_photo_from_its_upload_to_its_answer(staff, anne, classifier, lines, monkeypatch):
    staff.post(reverse("upload"), {"images": [upload()]}, headers={"X-Request-ID": "up-1"})
    photo = anne.photos.get()
    classifier.errors[photo.image.open().read()] = OSError("disk")
    for _ in range(3):
        classify_photos()
    of_photo = [line for line in lines() if line.get("photo") == photo.pk]
    assert [line["logger"] for line in of_photo] == ["shelter.intake.uploads", *["breeds.tasks"] * 4]
    assert of_photo[0]["request"] == "up-1"
    assert "OSError" in of_photo[1]["exception"]
    assert of_photo[-1]["status"] == "failed"


def test_it_writes_no_secret_of_anybody_into_the_log(client, anne, log, settings, monkeypatch):
    _token, key = ApiToken.issue(anne, ["read"])
    client.post(reverse("login"), {"username": "anne", "password": "wrong-un-mot"})
    client.post(reverse("login"), {"username": "anne", "password": "un-mot-de-passe"})
    session = client.cookies["sessionid"].value
    client.get("/api/v1/photos/", headers={"Authorization": f"Token {key}"})
    client.get("/api/v1/photos/", headers={"Authorization": f"Token {key}x"})
    client.get("/accounts/reset/MQ/cabc12-0123456789abcdef/")
    client.get("/nowhere/?token=" + key)
    client.raise_request_exception = False
    monkeypatch.setattr("shelter.pages.breeds.ClassifierVersion.objects.active", _raise_secrets(key, session))
    assert client.get(reverse("breed_list")).status_code == 500
    written = log.getvalue()
    assert "Traceback" in written
    for secret in (
        key, session, "un-mot-de-passe", "wrong-un-mot", "cabc12-0123456789abcdef", "pg-password",
        django_settings.SECRET_KEY, "cle-s3",
    ):  # fmt: skip
        assert secret not in written


def _raise_secrets(key: str, session: str):
    def fail(*_arguments, **_options):
        raise ConnectionError(
            f"postgres://flair:pg-password@db:5432/flair refused {{'Authorization': 'Token {key}', "
            f"'sessionid': '{session}'}} secret_key=cle-s3 SECRET_KEY: '{django_settings.SECRET_KEY}' "
            "password=un-mot-de-passe"
        )

    return fail


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Token flair_" + "a" * 43, "Token flair_***"),
        ("key flair_" + "a" * 43 + " of Anne", "key flair_*** of Anne"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("GET /accounts/reset/MQ/set-password/", "GET /accounts/reset/MQ/***/"),
        ('{"password": "a b", "name": "x"}', '{"password": ***, "name": "x"}'),
        ("http://localhost:8000/photos/@home", "http://localhost:8000/photos/@home"),
        ("Photo 12: done, token is not shown", "Photo 12: done, token is not shown"),
    ],
)
def test_it_takes_out_secrets_and_leaves_the_rest(text, clean):
    assert without_secrets(text) == clean
