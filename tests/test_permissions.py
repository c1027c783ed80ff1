"""Who may what: every address, every way to come in. An address without a row fails, and so does a row without one."""

import json
import os
import subprocess
import sys
import zipfile
from datetime import timedelta
from types import SimpleNamespace

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone

from breeds.models import Review
from breeds.tasks import classify_photos
from shelter.intake.uploads import upload_into
from shelter.models import Animal, ApiToken, Import, Photo, Removal, SavedSearch, Webhook
from tests.support.factories import an_account, upload
from tests.support.pictures import jpeg
from tests.support.serving import ROOT

# -- who ---------------------------------------------------------------------------------------------------------------
# Anne is staff and owns everything here; Bruno is staff, Rita also a reviewer, Chloé the administrator. The others are
# scripts of Anne's: with a token of one scope, or with one that was revoked.

PEOPLE = ["stranger", "anne", "bruno", "rita", "chloe"]
SCRIPTS = ["read", "upload", "review", "revoked"]
EVERYONE = [*PEOPLE, *SCRIPTS]

# What happens: `ok` is what the row says; the others are always the same.
STATUS = {"login": 302, "admin login": 302, "no": 403, "hidden": 404, "key": 401}


def rule(**outcomes: str) -> dict[str, str]:
    """Who is let in where people log in by a form: a token opens no page, so that a script is a stranger there."""
    scripts = dict.fromkeys(SCRIPTS, outcomes["stranger"])
    return scripts | outcomes


def by_key(*scopes: str) -> dict[str, str]:
    """Who is let in to the API: everybody logged in, and scripts whose token has the scope."""
    people = dict.fromkeys(PEOPLE, "ok") | {"stranger": "key", "revoked": "key"}
    return people | {scope: "ok" if scope in scopes else "no" for scope in ("read", "upload", "review")}


OPEN = dict.fromkeys(EVERYONE, "ok")
DESCRIBED = OPEN | {"revoked": "key"}  # who sends a key is told that it opens nothing
ACCOUNTS = rule(stranger="login", anne="ok", bruno="ok", rita="ok", chloe="ok")
OWNER = rule(stranger="login", anne="ok", bruno="hidden", rita="hidden", chloe="hidden")
REVIEWERS = rule(stranger="login", anne="no", bruno="no", rita="ok", chloe="ok")
ADMINS = rule(stranger="admin login", anne="admin login", bruno="admin login", rita="admin login", chloe="ok")
MANAGERS = rule(stranger="login", anne="no", bruno="no", rita="no", chloe="ok")
READ, UPLOAD, REVIEW = by_key("read"), by_key("upload"), by_key("review")
OTHERS = dict.fromkeys(["bruno", "rita", "chloe"], "hidden")
OWN_KEY, OWN_UPLOAD = READ | OTHERS, UPLOAD | OTHERS

# -- what --------------------------------------------------------------------------------------------------------------
# name of the address -> {method: (rule, status for those who may)}. Methods that a row leaves out are refused with 405.

PAGES = {
    "upload": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 200)},
    "upload_check": {"POST": (ACCOUNTS, 400)},
    "import_list": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 400)},
    "import": {"GET": (ACCOUNTS, 200)},
    "import_progress": {"GET": (ACCOUNTS, 200)},
    "import_receipts": {"GET": (ACCOUNTS, 200)},
    "import_suggestions": {"GET": (ACCOUNTS, 200)},
    "import_dogs": {"POST": (ACCOUNTS, 302)},
    "import_part": {"POST": (OWNER, 409)},
    "photo_list": {"GET": (ACCOUNTS, 200)},
    "photo_csv": {"GET": (ACCOUNTS, 200)},
    "photo_zip": {"GET": (ACCOUNTS, 200)},
    "photo": {"GET": (ACCOUNTS, 200)},
    "photo_answers": {"GET": (ACCOUNTS, 200)},
    "photo_file": {"GET": (ACCOUNTS, 200)},
    "photo_lookalikes": {"GET": (ACCOUNTS, 200)},
    "photo_review": {"POST": (ACCOUNTS, 422)},
    "review_withdraw": {"POST": (ACCOUNTS, 302)},
    "review_queue": {"GET": (REVIEWERS, 200), "POST": (REVIEWERS, 302)},
    "review_grid": {"GET": (REVIEWERS, 200), "POST": (REVIEWERS, 302)},
    "review_lookalikes": {"GET": (REVIEWERS, 200)},
    "quality": {"GET": (REVIEWERS, 200)},
    "model_list": {"GET": (MANAGERS, 200)},
    "model_progress": {"GET": (MANAGERS, 200)},
    "model": {"GET": (MANAGERS, 200)},
    "model_trial_progress": {"GET": (MANAGERS, 200)},
    "model_activate": {"GET": (MANAGERS, 200), "POST": (MANAGERS, 302)},
    "model_try": {"POST": (MANAGERS, 302)},
    "model_again": {"POST": (MANAGERS, 302)},
    "review_later": {"POST": (REVIEWERS, 302)},
    "review_undo": {"POST": (REVIEWERS, 302)},
    "save_search": {"POST": (ACCOUNTS, 302)},
    "delete_search": {"POST": (OWNER, 302)},
    "file_photos": {"POST": (ACCOUNTS, 302)},
    "animal_list": {"GET": (ACCOUNTS, 200)},
    "animal": {"GET": (ACCOUNTS, 200)},
    "animal_new": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 200)},
    "animal_edit": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 200)},
    "animal_photo": {"POST": (ACCOUNTS, 302)},
    "animal_names": {"GET": (ACCOUNTS, 200)},
    "animal_suggestions": {"GET": (ACCOUNTS, 200)},
    "breed_list": {"GET": (ACCOUNTS, 200)},
    "lookalikes": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 422)},
    "account": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 200)},
    "make_token": {"POST": (ACCOUNTS, 422)},
    "revoke_token": {"POST": (OWNER, 302)},
    "make_webhook": {"POST": (ACCOUNTS, 422)},
    "delete_webhook": {"POST": (OWNER, 302)},
    "test_webhook": {"POST": (OWNER, 302)},
    "login": {"GET": (OPEN, 200), "POST": (OPEN, 200)},
    "logout": {"POST": (OPEN, 302)},
    "password_change": {"GET": (ACCOUNTS, 200), "POST": (ACCOUNTS, 200)},
    "password_change_done": {"GET": (ACCOUNTS, 200)},
    "password_reset": {"GET": (OPEN, 200), "POST": (OPEN, 200)},
    "password_reset_done": {"GET": (OPEN, 200)},
    "password_reset_confirm": {"GET": (OPEN, 200), "POST": (OPEN, 200)},
    "password_reset_complete": {"GET": (OPEN, 200)},
    "set_language": {"GET": (OPEN, 302), "POST": (OPEN, 302)},
    "healthz": {"GET": (OPEN, 200)},
    "readyz": {"GET": (OPEN, 200)},
    "metrics": {"GET": (OPEN, 200)},
    "schema": {"GET": (DESCRIBED, 200)},
    "api_docs": {"GET": (DESCRIBED, 200)},
    "predict": {"POST": (READ, 400)},
    "photo-list": {"GET": (READ, 200), "POST": (UPLOAD, 400)},
    "photo-check": {"POST": (UPLOAD, 415)},
    "photo-detail": {"GET": (READ, 200), "PATCH": (UPLOAD, 400)},
    "photo-predictions": {"GET": (READ, 200)},
    "photo-export": {"GET": (READ, 400)},
    "photo-similar": {"GET": (READ, 200)},
    "photo-reviews": {"POST": (REVIEW, 400)},
    "photo-review": {"DELETE": (REVIEW | {"bruno": "no"}, 204)},
    "animal-list": {"GET": (READ, 200), "POST": (UPLOAD, 415)},
    "animal-detail": {"GET": (READ, 200), "PATCH": (UPLOAD, 200)},
    "breed-list": {"GET": (READ, 200)},
    "breed-detail": {"GET": (READ, 200)},
    "breed-groups": {"GET": (READ, 200)},
    "model-list": {"GET": (READ, 200)},
    "model-detail": {"GET": (READ, 200)},
    "import-list": {"GET": (READ, 200), "POST": (UPLOAD, 400)},
    "import-detail": {"GET": (READ, 200)},
    "import-items": {"GET": (READ, 200)},
    "import-part": {"PUT": (OWN_UPLOAD, 400)},
    "webhook-list": {"GET": (READ, 200), "POST": (READ, 415)},
    "webhook-detail": {"GET": (OWN_KEY, 200), "DELETE": (OWN_KEY, 204)},
    "webhook-deliveries": {"GET": (OWN_KEY, 200)},
}

# What an administrator may do with the rows of each model in the admin; everybody else is sent to its login.
EDIT, LOOK = {"add", "change", "delete"}, set()
ADMIN_MODELS = {
    "auth_user": EDIT,
    "auth_group": EDIT,
    "axes_accessattempt": {"change", "delete"},
    "axes_accesslog": {"change", "delete"},
    "axes_accessfailurelog": {"change", "delete"},
    "breeds_breed": EDIT,
    "breeds_classifierversion": LOOK,
    "breeds_prediction": LOOK,
    "breeds_review": LOOK,
    "shelter_animal": EDIT,
    "shelter_apitoken": {"change", "delete"},
    "shelter_photo": {"change", "delete"},
    "shelter_removal": LOOK,
    "admin_logentry": LOOK,
    "breeds_activation": LOOK,
    "shelter_import": LOOK,
    "shelter_webhook": {"change", "delete"},
}
ADMIN_PAGES = {
    "admin:index": {"GET": (ADMINS, 200)},
    "admin:app_list": {"GET": (ADMINS, 200)},
    "admin:password_change": {"GET": (ADMINS, 200)},
    "admin:password_change_done": {"GET": (ADMINS, 200)},
    "admin:autocomplete": {"GET": (ADMINS, 403)},  # it wants to know of what
    "admin:jsi18n": {"GET": (ADMINS, 200)},
    "admin:view_on_site": {"GET": (ADMINS, 302)},
    "admin:auth_user_password_change": {"GET": (ADMINS, 200)},
    "admin:login": {"GET": (OPEN | {"chloe": "ok"}, 200)},
    "admin:logout": {"POST": (OPEN, 302)},
    "admin:": {"GET": (ADMINS, 404)},  # whatever else lies below /admin/
}


@pytest.fixture
def world(anne, bruno, chloe, classifier, client, monkeypatch):
    """Everything of which there is an address, Anne's as far as it is anybody's; and a browser for everyone."""
    monkeypatch.setattr("shelter.pages.account.send", lambda *message: (204, ""))
    classifier.row().activate()
    rita = an_account("rita", "staff", "reviewer")
    batch = Import.objects.upload_of(anne, None)
    photo = upload_into(batch, upload()).photo
    rex = Animal.objects.create(name="Rex")
    Photo.objects.filter(pk=photo.pk).file_under(rex)
    classify_photos()
    photo.refresh_from_db()
    browsers = {"stranger": Client()}
    for person in (anne, bruno, rita, chloe):
        browsers[person.username] = Client()
        browsers[person.username].force_login(person)
    for scope in SCRIPTS:
        token, key = ApiToken.issue(anne, ["read", "upload", "review"] if scope == "revoked" else [scope])
        browsers[scope] = Client(headers={"Authorization": f"Token {key}"})
    ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())
    return SimpleNamespace(
        photo=photo, animal=rex, batch=batch, anne=anne, browsers=browsers, token=ApiToken.objects.earliest("pk"),
        archive=Import.objects.receive(anne, "a.zip", 100), prediction=photo.predictions.get(),
        search=SavedSearch.objects.create(user=anne, name="Beagles", query="q=beagle"), version=classifier.row(),
        review=Review.objects.record(photo, by=anne, verdict=Review.Verdict.NOT_A_DOG).review,
        webhook=Webhook.objects.create(user=anne, url="https://example.org/flair", events=["review.changed"]),
        removal=Removal.objects.create(rule="receipts", days=1, object_id=1, of=timezone.now()),
    )  # fmt: skip


def address(name: str, world) -> str:
    arguments = {
        "import_part": [world.archive.pk, 0],
        "photo_file": [world.photo.pk, "preview"],
        "animal": [world.animal.pk],
        "animal-detail": [world.animal.pk],
        "breed-detail": [world.photo.breed.slug if world.photo.breed else "beagle"],
        "model-detail": [world.version.version],
        "import-part": [world.archive.pk, 0],
        "import_list": [],
        "import-list": [],
        "photo-review": [world.photo.pk, world.review.pk],
        "delete_webhook": [world.webhook.pk],
        "test_webhook": [world.webhook.pk],
        "webhook-detail": [world.webhook.pk],
        "webhook-deliveries": [world.webhook.pk],
        "animal_edit": [world.animal.pk],
        "animal_photo": [world.animal.pk],
        "review_withdraw": [world.review.pk],
        "delete_search": [world.search.pk],
        "revoke_token": [world.token.pk],
        "password_reset_confirm": ["MQ", "set-password"],
        "admin:app_list": ["shelter"],
        "admin:view_on_site": [_content_type(world.photo), world.photo.pk],
        "admin:auth_user_password_change": [world.anne.pk],
    }
    if name == "admin:":
        return reverse("admin:index") + "nowhere/"
    if name not in arguments:
        one_import = name.startswith("import")
        one_photo = name in {
            "photo", "photo_lookalikes", "photo_review", "photo-detail", "photo-similar",
            "photo-reviews", "photo-predictions", "review_later", "review_lookalikes",
        }  # fmt: skip
        one_version = name in {"model", "model_trial_progress", "model_activate", "model_try"}
        arguments[name] = (
            [world.version.pk]
            if one_version
            else [world.batch.pk]
            if one_import
            else [world.photo.pk]
            if one_photo
            else []
        )
    return reverse(name, args=arguments[name])


def _content_type(row) -> int:
    from django.contrib.contenttypes.models import ContentType

    return ContentType.objects.get_for_model(row).pk


def ask(world, who: str, method: str, url: str):
    """One request whose traces are taken back."""
    with transaction.atomic():
        response = getattr(world.browsers[who], method.lower())(url)
        if response.streaming:
            b"".join(response.streaming_content)
        transaction.set_rollback(True)
    return response


def outcome(response) -> str | int:
    """The word for how somebody was turned away, or the status."""
    if response.status_code == 302 and response.url.startswith("/admin/login/"):
        return "admin login"
    if response.status_code == 302 and response.url.startswith("/accounts/login/"):
        return "login"
    return {403: "no", 404: "hidden", 401: "key"}.get(response.status_code, response.status_code)


def expected(allowed: dict, who: str, status: int):
    if allowed[who] != "ok":
        return allowed[who]
    return {403: "no", 404: "hidden", 401: "key"}.get(status, status)


ROWS = [(name, method) for name, methods in (PAGES | ADMIN_PAGES).items() for method in methods]


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_it_lets_in_those_who_may_and_nobody_else(world, name, method):
    allowed, status = (PAGES | ADMIN_PAGES)[name][method]
    url, found, wanted = address(name, world), {}, {}
    for who in EVERYONE:
        response = ask(world, who, method, url)
        found[who] = outcome(response)
        if name == "admin:login" and who == "chloe":
            found[who] = 200 if response.status_code == 302 else response.status_code  # she is in already
        if name in {"logout", "admin:logout"} and response.status_code == 302:
            found[who] = 302
        wanted[who] = expected(allowed, who, status)
        assert_safe(response, name)
    assert found == wanted


def assert_safe(response, name: str) -> None:
    """Whatever the answer is, a browser runs nothing in it that is not ours."""
    policy = response["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert (
        "default-src 'none'; sandbox" in policy
        if name == "photo_file" and response.status_code == 200
        else ("default-src 'self'" in policy)
    )
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("name", PAGES)
def test_it_refuses_every_method_that_has_no_row(world, name):
    url = address(name, world)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - set(PAGES[name]):
        if PAGES[name].get("GET", (None,))[0] is OPEN or name in {"login", "set_language", "password_change"}:
            continue  # Django's own views and pages without rows answer as they like, with nothing to lose
        response = ask(world, "anne", method, url)
        assert response.status_code in {405, 403, 404}, (method, response.status_code)


@pytest.mark.parametrize("model", ADMIN_MODELS)
def test_it_opens_the_tables_of_the_admin_to_administrators_alone_and_lets_them_change_only_some(world, model):
    may, row = ADMIN_MODELS[model], _row_of(model, world)
    urls = {"changelist": reverse(f"admin:{model}_changelist"), "add": reverse(f"admin:{model}_add")}
    if row is not None:
        urls |= {
            action: reverse(f"admin:{model}_{action}", args=[row.pk]) for action in ("change", "delete", "history")
        }
    for action, url in urls.items():
        for who in EVERYONE:
            if who != "chloe":
                assert outcome(ask(world, who, "GET", url)) == "admin login", (who, action)
        response = ask(world, "chloe", "GET", url)
        allowed = action in may or action in {"changelist", "history", "change"}
        assert response.status_code == (200 if allowed else 403), action
        assert_safe(response, model)
    if row is not None and "change" not in may:
        assert ask(world, "chloe", "POST", urls["change"]).status_code == 403


def _row_of(model: str, world):
    rows = {
        "auth_user": world.anne, "auth_group": Group.objects.get(name="staff"), "breeds_prediction": world.prediction,
        "breeds_classifierversion": world.version, "breeds_review": world.review, "shelter_animal": world.animal,
        "breeds_breed": world.photo.breed, "shelter_apitoken": world.token, "shelter_photo": world.photo,
        "shelter_removal": world.removal,
    }  # fmt: skip
    return rows.get(model)


def test_it_has_a_row_for_every_address_and_an_address_for_every_row():
    found = set(_names(get_resolver().url_patterns))
    actions = {"changelist", "add", "change", "delete", "history"}
    of_models = {f"admin:{model}_{action}" for model in ADMIN_MODELS for action in actions}
    assert found == set(PAGES) | set(ADMIN_PAGES) | of_models


def test_it_has_a_row_for_every_table_of_the_admin():
    registered = {f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry}
    assert registered == set(ADMIN_MODELS)


def _names(patterns, namespace: str = ""):
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _names(pattern.url_patterns, f"{pattern.namespace}:" if pattern.namespace else namespace)
        else:
            yield namespace + (pattern.name or "")


# -- originals ---------------------------------------------------------------------------------------------------------


def test_it_sends_staff_from_the_original_to_the_preview(world):
    url = reverse("photo_file", args=[world.photo.pk, "original"])
    for who in ("anne", "bruno"):
        assert ask(world, who, "GET", url).url == reverse("photo_file", args=[world.photo.pk, "preview"])
    assert ask(world, "chloe", "GET", url).status_code == 200
    for who in ("stranger", "read", "revoked"):
        assert outcome(ask(world, who, "GET", url)) == "login"


def test_it_serves_no_file_of_the_data_folder_by_its_name(world, settings):
    for path in ("media", "static/../media", "media/originals", "static/..%2fmedia", "static/../secret-key"):
        for who in ("stranger", "chloe"):
            assert ask(world, who, "GET", f"/{path}/{world.photo.image.name}").status_code == 404


def test_it_exports_nothing_but_what_may_be_seen(world):
    """The zip of a list holds previews for those who may not open originals."""
    content = b"".join(world.browsers["anne"].get(reverse("photo_zip")).streaming_content)
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert jpeg() not in [packed.read(name) for name in packed.namelist()]


# -- the end of an account ---------------------------------------------------------------------------------------------


def logged_in(user) -> Client:
    browser = Client()
    browser.post(reverse("login"), {"username": user.username, "password": "un-mot-de-passe"})
    assert browser.get(reverse("upload")).status_code == 200
    return browser


def test_it_ends_sessions_and_tokens_with_the_account(anne, client):
    browser, (_token, key) = logged_in(anne), ApiToken.issue(anne, ["read"])
    headers = {"Authorization": f"Token {key}"}
    assert client.get("/api/v1/photos/", headers=headers).status_code == 200
    anne.is_active = False
    anne.save()
    assert browser.get(reverse("upload")).status_code == 302
    assert browser.get("/api/v1/photos/").status_code == 401
    assert client.get("/api/v1/photos/", headers=headers).status_code == 401
    assert client.post(reverse("login"), {"username": "anne", "password": "un-mot-de-passe"}).status_code == 200
    assert client.get(reverse("upload")).status_code == 302


def test_it_ends_the_other_sessions_when_the_password_changes(anne):
    browser = logged_in(anne)
    anne.set_password("un-autre-mot-de-passe")
    anne.save()
    assert browser.get(reverse("upload")).status_code == 302


def test_it_takes_a_right_away_at_once(anne, world):
    anne.groups.clear()
    assert world.browsers["anne"].post(reverse("photo_review", args=[world.photo.pk])).status_code == 403


def test_it_takes_no_token_after_its_day(anne, client):
    _token, key = ApiToken.issue(anne, ["read"], expires_at=timezone.now())
    assert client.get("/api/v1/photos/", headers={"Authorization": f"Token {key}"}).status_code == 401


def test_it_needs_the_right_beside_the_scope(anne, world):
    anne.groups.clear()
    url = reverse("photo-reviews", args=[world.photo.pk])
    assert outcome(ask(world, "review", "POST", url)) == "no"


def test_ten_wrong_passwords_lock_an_account_for_a_quarter_of_an_hour(client, anne):
    def log_in(password: str) -> int:
        return client.post(reverse("login"), {"username": "anne", "password": password}).status_code

    assert [log_in("wrong") for _ in range(10)] == [200] * 9 + [429]
    assert log_in("un-mot-de-passe") == 429
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14))
    assert log_in("un-mot-de-passe") == 429
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert log_in("un-mot-de-passe") == 302


@pytest.mark.parametrize("by_proxy", [True, False])
def test_it_locks_out_who_guesses_and_not_those_behind_the_same_proxy(client, anne, settings, by_proxy):
    """And whoever guesses stays out whatever he says of himself; without a proxy nothing of it is believed."""
    settings.MEDIA_BY_PROXY = by_proxy

    def log_in(password: str, forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded}
        return client.post(reverse("login"), {"username": "anne", "password": password}, headers=headers).status_code

    for number in range(settings.AXES_FAILURE_LIMIT):
        log_in("wrong", f"192.0.2.{number}, 198.51.100.7")
    assert log_in("un-mot-de-passe", "192.0.2.99, 198.51.100.7") == 429
    assert log_in("un-mot-de-passe", "198.51.100.8") == (302 if by_proxy else 429)


def test_it_takes_no_form_that_another_site_made(anne):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(anne)
    for name in ("upload", "make_token", "save_search", "logout", "photo-list"):
        assert browser.post(reverse(name)).status_code == 403


# -- settings of production --------------------------------------------------------------------------------------------

PRODUCTION = {
    "FLAIR_HTTPS": "true", "FLAIR_ALLOWED_HOSTS": "flair.example", "FLAIR_TRUSTED_ORIGINS": "https://flair.example",
    "FLAIR_SECRET_KEY": "a-key-of-fifty-characters-or-more-that-is-made-for-this-test-0123456789",
    "FLAIR_S3_BUCKET": "flair", "FLAIR_S3_REGION": "us-east-1", "FLAIR_MEDIA_BY_PROXY": "true",
}  # fmt: skip


def production(tmp_path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | PRODUCTION | {
        "DJANGO_SETTINGS_MODULE": "shelter.settings", "FLAIR_DATA_DIR": str(tmp_path),
    }  # fmt: skip
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_it_passes_djangos_own_check_of_a_deployment(tmp_path):
    """Every check of Django and of the packages, not only those of security, with all that production sets."""
    checked = production(tmp_path, "manage.py", "check", "--deploy", "--database", "default", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


def test_it_sends_cookies_over_https_alone_and_out_of_reach_of_scripts(tmp_path):
    code = (
        "import django, json; django.setup(); from django.conf import settings; "
        "names = ['SESSION_COOKIE_SECURE', 'SESSION_COOKIE_HTTPONLY', 'CSRF_COOKIE_SECURE', 'SECURE_SSL_REDIRECT', "
        "'DEBUG', 'SESSION_COOKIE_SAMESITE']; print(json.dumps({name: getattr(settings, name) for name in names}))"
    )
    assert json.loads(production(tmp_path, "-c", code).stdout) == {
        "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_HTTPONLY": True, "CSRF_COOKIE_SECURE": True,
        "SECURE_SSL_REDIRECT": True, "DEBUG": False, "SESSION_COOKIE_SAMESITE": "Lax",
    }  # fmt: skip


def test_it_says_404_for_a_photo_that_is_not_there(staff):
    assert staff.get(reverse("photo", args=[999])).status_code == 404


def test_it_lets_an_administrator_send_photos_to_the_classifier_again(client, chloe, world):
    client.force_login(chloe)
    chosen = {"action": "classify_again", "_selected_action": [world.photo.pk]}
    client.post(reverse("admin:shelter_photo_changelist"), chosen)
    assert world.photo.predictions.filter(status="pending").exists()
