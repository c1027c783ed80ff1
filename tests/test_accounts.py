"""What people settle for themselves: mail address, forgotten passwords, keys for scripts."""

import re
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils import timezone

from breeds.models import Activation, Review
from breeds.tasks import classify_photos
from shelter.models import ApiToken, Import, Webhook
from shelter.tasks import send_webhooks
from tests.support.factories import a_review, an_answered_photo, upload

KEY = {"name": "Site internet", "scopes": ["read", "upload"], "days": "30"}


def key_on(response) -> str:
    return re.search(r"flair_[\w-]{40,}", response.content.decode())[0]


def test_it_shows_a_new_key_once(staff, anne):
    response = staff.post(reverse("make_token"), KEY)
    token = ApiToken.find(key_on(response))
    assert (token.user, token.name, token.scopes) == (anne, "Site internet", ["read", "upload"])
    assert (token.expires_at - timezone.now()).days in (29, 30)
    assert "no-store" in response["Cache-Control"]
    assert "flair_" not in staff.get(reverse("account")).content.decode()


def test_it_makes_a_key_that_opens_the_api_until_it_is_revoked(staff, anne):
    key = key_on(staff.post(reverse("make_token"), KEY | {"days": "0"}))

    def status() -> int:
        return staff.get("/api/v1/photos/", headers={"Authorization": f"Token {key}"}).status_code

    assert status() == 200
    staff.post(reverse("revoke_token", args=[ApiToken.find(key).pk]))
    assert status() == 401
    assert not staff.get(reverse("account")).context["tokens"]


@pytest.mark.parametrize("change", [{"name": ""}, {"scopes": []}, {"scopes": ["root"]}, {"days": "9999"}])
def test_it_makes_no_key_without_a_name_a_scope_and_a_known_span(staff, anne, change):
    assert staff.post(reverse("make_token"), KEY | change).status_code == 422
    assert not ApiToken.objects.exists()


def test_it_revokes_only_ones_own_keys(staff, bruno):
    token, key = ApiToken.issue(bruno, ["read"])
    assert staff.post(reverse("revoke_token", args=[token.pk])).status_code == 404
    assert ApiToken.find(key)


def test_it_changes_the_mail_address_for_who_knows_the_password(staff, anne):
    response = staff.post(reverse("account"), {"email": "a@example.org", "password": "wrong"})
    assert response.status_code == 422
    anne.refresh_from_db()
    assert anne.email == ""
    staff.post(reverse("account"), {"email": "a@example.org", "password": "un-mot-de-passe"})
    anne.refresh_from_db()
    assert anne.email == "a@example.org"


@pytest.mark.parametrize(
    ("language", "subject"), [("fr", "Flair : choisir un nouveau mot de passe"), ("en", "Flair: choose a new password")]
)
def test_it_sends_a_link_that_sets_a_new_password_once(client, anne, mailoutbox, language, subject):
    anne.email = "anne@example.org"
    anne.save()
    client.post(reverse("password_reset"), {"email": "Anne@example.org"}, headers={"Accept-Language": language})
    (mail,) = mailoutbox
    assert (mail.subject, mail.to) == (subject, ["anne@example.org"])
    link = re.search(r"http://testserver(/\S+)", mail.body)[1]
    form = client.get(link, follow=True)
    new = {"new_password1": "un-autre-mot-1", "new_password2": "un-autre-mot-1"}
    done = client.post(form.redirect_chain[-1][0], new, follow=True)
    assert done.status_code == 200
    assert client.login(request=done.wsgi_request, username="anne", password="un-autre-mot-1")
    assert not client.get(link, follow=True).context["validlink"]


@pytest.mark.parametrize(
    ("first_name", "last_name", "shown"), [("Chloé", "d’Épinay", "Chloé d’Épinay"), ("", "", "c-login")]
)
def test_it_shows_the_name_of_a_person_or_else_the_login(admin, chloe, classifier, first_name, last_name, shown):
    chloe.username, chloe.first_name, chloe.last_name = "c-login", first_name, last_name
    chloe.save()
    photos = [an_answered_photo(chloe) for _ in range(3)]
    Review.objects.withdraw(a_review(photos[0], chloe, breed="pug"), by=chloe)
    for photo in photos[1:]:
        a_review(photo, chloe, breed="pug")
    batch = Import.objects.upload_of(chloe, None)
    Activation.objects.create(version=classifier.row(), by=chloe)
    for address in (
        reverse("photo_list"), reverse("photo_csv"), reverse("import_list"), batch.get_absolute_url(),
        reverse("animal_suggestions"), reverse("model_list"), *(photo.get_absolute_url() for photo in photos),
    ):  # fmt: skip
        page = b"".join(admin.get(address)).decode()
        assert shown in page.split("</header>")[-1], address
        assert shown == "c-login" or "c-login" not in page, address


def test_it_tells_nobody_which_addresses_have_an_account(client, db, mailoutbox):
    response = client.post(reverse("password_reset"), {"email": "nobody@example.org"}, follow=True)
    assert response.redirect_chain[-1][0] == reverse("password_reset_done")
    assert mailoutbox == []


def test_it_keeps_the_language_longer_than_the_browser_is_open(client, db):
    response = client.post(reverse("set_language"), {"language": "en", "next": "/accounts/login/"})
    assert response.cookies["django_language"]["max-age"] > 300 * 24 * 3600


@pytest.mark.parametrize(("hours", "is_good"), [(23, True), (25, False)])
def test_the_link_for_a_forgotten_password_is_good_for_a_day(anne, monkeypatch, hours, is_good):
    token = default_token_generator.make_token(anne)
    monkeypatch.setattr(default_token_generator, "_now", lambda: datetime.now() + timedelta(hours=hours))
    assert default_token_generator.check_token(anne, token) == is_good


def fail_to_log_in(client, settings, language="fr"):
    for _ in range(settings.AXES_FAILURE_LIMIT):
        wrong = {"username": "anne", "password": "wrong"}
        response = client.post(reverse("login"), wrong, headers={"Accept-Language": language})
    return response


@pytest.mark.parametrize(("language", "words"), [("fr", "quart d’heure"), ("en", "quarter of an hour")])
def test_it_says_in_plain_words_that_an_account_is_locked(client, anne, settings, language, words):
    response = fail_to_log_in(client, settings, language)
    assert response.status_code == 429
    assert words in response.content.decode()
    assert reverse("password_reset") in response.content.decode()


def test_it_locks_nobody_else(client, anne, bruno, settings):
    fail_to_log_in(client, settings)
    assert client.post(reverse("login"), {"username": "bruno", "password": "un-mot-de-passe"}).status_code == 302


def test_it_opens_a_locked_account_to_who_has_read_its_mail(client, anne, settings, mailoutbox):
    fail_to_log_in(client, settings)
    right = {"username": "anne", "password": "un-mot-de-passe"}
    assert client.post(reverse("login"), right).status_code == 429  # even the right password has to wait
    anne.email = "anne@example.org"
    anne.save()
    client.post(reverse("password_reset"), {"email": "anne@example.org"})
    form = client.get(re.search(r"http://testserver(/\S+)", mailoutbox[0].body)[1], follow=True)
    new = {"new_password1": "un-autre-mot-1", "new_password2": "un-autre-mot-1"}
    client.post(form.redirect_chain[-1][0], new)
    assert client.post(reverse("login"), right | {"password": "un-autre-mot-1"}).status_code == 302


# -- addresses that are told ------------------------------------------------------------------------------------------

HOOK = {"webhook-url": "https://refuge.example/flair", "webhook-events": ["prediction.done", "review.changed"]}


def test_it_shows_the_secret_of_a_new_address_once(staff, anne):
    response = staff.post(reverse("make_webhook"), HOOK)
    hook = Webhook.objects.get()
    assert (hook.user, hook.url, hook.events) == (anne, HOOK["webhook-url"], HOOK["webhook-events"])
    assert hook.secret in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    page = staff.get(reverse("account")).content.decode()
    assert HOOK["webhook-url"] in page
    assert "whsec_" not in page


@pytest.mark.parametrize(
    "change",
    [{"webhook-events": []}, {"webhook-events": ["all"]}, {"webhook-url": "https://10.0.0.1/"}, {"webhook-url": "x"},
     {"webhook-url": "http://refuge.example/"}, {"webhook-url": "https://localhost/"}],
)  # fmt: skip
def test_it_adds_no_address_that_the_api_would_refuse(staff, change):
    assert staff.post(reverse("make_webhook"), HOOK | change).status_code == 422
    assert not Webhook.objects.exists()


def test_it_adds_no_more_addresses_than_one_may_have(staff, anne):
    Webhook.objects.bulk_create(Webhook(user=anne, url="https://refuge.example/") for _ in range(Webhook.MOST))
    assert staff.post(reverse("make_webhook"), HOOK).status_code == 422
    assert Webhook.objects.count() == Webhook.MOST


def test_it_removes_an_address_of_ones_own_alone(staff, anne, bruno):
    own, other = (Webhook.objects.create(user=user, url="https://refuge.example/") for user in (anne, bruno))
    assert staff.post(reverse("delete_webhook", args=[other.pk])).status_code == 404
    staff.post(reverse("delete_webhook", args=[own.pk]))
    assert list(Webhook.objects.all()) == [other]


def test_it_sends_a_signed_test_and_says_how_it_was_taken(staff, anne, receiver):
    hook = Webhook.objects.create(
        user=anne, url=receiver.url, failures=3, last_error="gone", paused_until=timezone.now()
    )
    page = staff.post(reverse("test_webhook", args=[hook.pk]), follow=True).content.decode()
    ((headers, body),) = receiver.got
    assert (receiver.messages[0]["event"], receiver.messages[0]["photo"]) == ("test", None)
    message_id, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == hook.signature(message_id, timestamp, body)
    assert "204" in page
    hook.refresh_from_db()
    assert (hook.failures, hook.last_error, hook.paused_until) == (0, "", None)


def test_it_says_why_a_test_was_not_taken_and_changes_nothing(staff, anne, receiver):
    hook = Webhook.objects.create(user=anne, url=receiver.url, failures=3)
    receiver.answers = [500]
    assert "Received: 500" in staff.post(reverse("test_webhook", args=[hook.pk]), follow=True).content.decode()
    hook.refresh_from_db()
    assert hook.failures == 3


def test_it_shows_how_the_last_message_fared(staff, anne, receiver, api, classifier):
    hook = Webhook.objects.create(user=anne, url=receiver.url, events=["prediction.done"])
    receiver.answers = [503]
    api("post", "/photos/", {"image": upload()})
    classify_photos()
    send_webhooks()
    (shown,) = staff.get(reverse("account")).context["webhooks"]
    assert (shown, shown.last_delivery.answer_status, shown.last_delivery.attempts) == (hook, 503, 1)
