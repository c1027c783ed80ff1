"""Webhooks: told once and surely, signed, and never a way into the network."""

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from breeds.models import Review
from breeds.tasks import classify_photos
from shelter import posting
from shelter.models import ApiToken, Delivery, Photo, Webhook, webhooks
from shelter.tasks import send_webhooks, sweep_imports, sweep_webhooks
from tests.support.factories import upload

EVENTS = ["prediction.done", "prediction.failed", "review.changed"]


@pytest.fixture
def hook(anne, receiver):
    return Webhook.objects.create(user=anne, url=receiver.url, events=EVENTS)


@pytest.fixture
def photo(api, classifier):
    return Photo.objects.get(pk=api("post", "/photos/", {"image": upload()}).json()["id"])


def test_it_tells_of_an_answer_with_the_photo_as_the_api_shows_it(api, hook, receiver, photo):
    classify_photos()
    assert send_webhooks() == 1
    (message,) = receiver.messages
    assert (message["event"], message["photo"]["id"]) == ("prediction.done", photo.pk)
    assert message["photo"] == json.loads(api("get", f"/photos/{photo.pk}/").content)
    assert send_webhooks() == 0


def test_it_signs_what_it_sends(api, receiver, classifier):
    made = api("post", "/webhooks/", json={"url": receiver.url, "events": ["prediction.done"]})
    secret = made.json()["secret"]
    api("post", "/photos/", {"image": upload()})
    classify_photos()
    send_webhooks()
    ((headers, body),) = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == expected
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 10
    assert headers["webhook-id"] == json.loads(body)["id"] == str(Delivery.objects.get().uuid)


def test_it_shows_the_secret_once(api, receiver):
    made = api("post", "/webhooks/", json={"url": receiver.url, "events": EVENTS}, headers={"Idempotency-Key": "1"})
    assert made.status_code == 201
    again = api("post", "/webhooks/", json={"url": receiver.url, "events": EVENTS}, headers={"Idempotency-Key": "1"})
    assert again.json()["id"] == made.json()["id"]
    assert "secret" not in again.json()
    assert "secret" not in api("get", f"/webhooks/{made.json()['id']}/").json()


def test_it_tells_of_failures_and_of_what_people_say(api, anne, hook, receiver, photo, classifier):
    Photo.objects.filter(pk=photo.pk).update(image="gone.jpg")
    classify_photos()
    review = Review.objects.record(photo, by=anne, verdict="not_a_dog").review
    Review.objects.withdraw(review, by=anne)
    send_webhooks()
    told = [message["event"] for message in receiver.messages]
    assert told == ["prediction.failed", "review.changed", "review.changed"]


def test_it_writes_no_message_of_what_did_not_happen(anne, hook, photo):
    with transaction.atomic():
        Review.objects.record(photo, by=anne, verdict="not_a_dog")
        transaction.set_rollback(True)
    assert not Delivery.objects.exists()


def test_it_tells_only_what_was_asked_for(hook, receiver, photo):
    Webhook.objects.update(events=["review.changed"])
    classify_photos()
    assert not Delivery.objects.exists()


def test_it_sends_again_later_where_that_failed(hook, receiver, photo, monkeypatch):
    receiver.answers = [500, 302]
    classify_photos()
    for expected in (1, 2):
        assert send_webhooks() == 1
        delivery, rested = Delivery.objects.get(), Webhook.objects.get()
        assert (delivery.status, delivery.attempts, rested.failures) == ("waiting", expected, expected)
        assert delivery.due_at > timezone.now() + timedelta(seconds=webhooks.PAUSES[expected - 1] - 2)
        assert send_webhooks() == 0
        Delivery.objects.update(due_at=timezone.now())
        assert send_webhooks() == 0  # the address as a whole rests
        Webhook.objects.update(paused_until=None)
    assert delivery.error == "Expected a status 2xx. Received: 302."
    assert send_webhooks() == 1
    delivery, hook = Delivery.objects.get(), Webhook.objects.get()
    assert (delivery.status, delivery.answer_status, hook.failures, hook.last_error) == ("sent", 204, 0, "")
    assert len({message["id"] for message in receiver.messages}) == 1


def test_a_message_is_tried_again_after_ten_seconds_and_given_up_after_38_hours(monkeypatch):
    monkeypatch.setattr("shelter.models.webhooks.secrets.randbelow", lambda _most: 0)
    pauses = [webhooks.pause_after(attempts) for attempts in range(1, 10)]
    assert (pauses[0], sum(pauses[:-1]) // 3600, pauses[-1]) == (10, 38, None)


def test_the_pause_between_two_attempts_is_drawn_from_a_tenth_of_it():
    pauses = {webhooks.pause_after(1) for _ in range(200)}
    assert 10 <= min(pauses) < max(pauses) < 11


def test_an_address_that_fails_rests_for_at_most_an_hour(hook):
    for _ in range(12):
        hook.failed("Expected a status 2xx. Received: 500.")
    hook.refresh_from_db()
    assert timedelta(minutes=59) < hook.paused_until - timezone.now() <= timedelta(hours=1)


def test_it_gives_up_in_the_end(hook, receiver, photo):
    receiver.answers = [500] * 20
    classify_photos()
    for _ in range(20):
        send_webhooks()
        Delivery.objects.update(due_at=timezone.now())
        Webhook.objects.update(paused_until=None)
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.attempts) == ("failed", len(webhooks.PAUSES) + 1)


def test_it_loses_nothing_when_the_worker_dies_while_sending(hook, receiver, photo):
    classify_photos()
    assert Delivery.objects.claim()
    assert Delivery.objects.claim() is None
    assert not sweep_webhooks()
    assert Delivery.objects.claim(timezone.now() + timedelta(seconds=55)) is None
    assert Delivery.objects.claim(timezone.now() + timedelta(seconds=61)).attempts == 2


def test_it_loses_nothing_when_the_broker_is_down(hook, receiver, photo, monkeypatch):
    def down():
        raise ConnectionError("no broker")

    monkeypatch.setattr(send_webhooks, "delay", down)
    classify_photos()
    assert sweep_webhooks()


@pytest.mark.parametrize("change", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_it_tells_nothing_once_its_token_is_over(anne, hook, photo, change):
    token, _key = ApiToken.issue(anne, ["read"])
    Webhook.objects.update(token=token)
    classify_photos()
    ApiToken.objects.filter(pk=token.pk).update(**change)
    assert send_webhooks() == 0
    assert not Webhook.objects.active().exists()


def test_it_tells_nothing_to_an_account_that_was_closed(anne, hook, photo):
    classify_photos()
    anne.is_active = False
    anne.save()
    assert send_webhooks() == 0


def test_it_forgets_old_messages(hook, photo):
    classify_photos()
    Delivery.objects.update(created_at=timezone.now() - timedelta(days=13, hours=23))
    sweep_imports()
    assert Delivery.objects.exists()
    Delivery.objects.update(created_at=timezone.now() - timedelta(days=14, hours=1))
    sweep_imports()
    assert not Delivery.objects.exists()


def test_it_lists_messages_and_ends_a_webhook(api, hook, receiver, photo):
    receiver.answers = [500]
    classify_photos()
    send_webhooks()
    (row,) = api("get", f"/webhooks/{hook.pk}/deliveries/").json()["results"]
    assert (row["event"], row["status"], row["answer_status"], row["attempts"]) == (
        "prediction.done",
        "waiting",
        500,
        1,
    )
    assert api("get", f"/webhooks/{hook.pk}/").json()["failures"] == 1
    assert api("delete", f"/webhooks/{hook.pk}/").status_code == 204
    assert not Delivery.objects.exists()


def test_it_keeps_webhooks_to_their_owners(api, hook, bruno):
    key = ApiToken.issue(bruno, ["read"])[1]
    assert api("get", "/webhooks/", key=key).json()["results"] == []
    for method, path in (("get", ""), ("delete", ""), ("get", "deliveries/")):
        assert api(method, f"/webhooks/{hook.pk}/{path}", key=key).status_code == 404


def test_it_bounds_the_webhooks_of_one_person(api, anne, receiver, monkeypatch):
    monkeypatch.setattr(Webhook, "MOST", 1)
    statuses = [api("post", "/webhooks/", json={"url": receiver.url, "events": EVENTS}).status_code for _ in range(2)]
    assert statuses == [201, 400]


# -- addresses that nobody may have Flair send to ---------------------------------------------------------------------


FORBIDDEN = [
    "http://example.org/", "ftp://example.org/", "https://user:pw@example.org/", "https:///", "https://localhost/",
    "https://flair/", "https://127.0.0.1/", "https://10.1.2.3/", "https://192.168.1.1/", "https://172.16.0.1/",
    "https://169.254.169.254/latest/", "https://0.0.0.0/", "https://100.64.0.1/", "https://224.0.0.1/",
    "https://255.255.255.255/", "https://[::1]/", "https://[::]/", "https://[fe80::1]/", "https://[fc00::1]/",
    "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[::7f00:1]/",
    "https://example.org:99999/", "https://exämple.org/",
]  # fmt: skip


@pytest.mark.parametrize("url", FORBIDDEN)
def test_it_takes_no_address_within_the_network(api, url):
    response = api("post", "/webhooks/", json={"url": url, "events": EVENTS})
    assert (response.status_code, response.json()["field"]) == (400, "url")
    with pytest.raises((posting.ForbiddenAddress, ValueError)):
        posting.check_url(url)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "::1", "169.254.169.254"])
def test_it_sends_to_no_name_that_leads_into_the_network(anne, photo, monkeypatch, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **o: [public, (family, socket.SOCK_STREAM, 6, "", (address, 443))]
    )
    monkeypatch.setattr(socket, "create_connection", lambda *a, **o: pytest.fail("connected"))
    Webhook.objects.create(user=anne, url="https://inside.example.org/", events=EVENTS)
    classify_photos()
    send_webhooks()
    assert "ForbiddenAddress" in Delivery.objects.get().error


def test_it_connects_to_the_address_that_it_looked_at(monkeypatch):
    """A name that is looked up twice could lead elsewhere the second time."""
    looked_up, connected = [], []

    def lookup(host, port, **options):
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    def connect(address, timeout):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ConnectionRefusedError):
        posting.post("https://example.org/a", b"{}", {})
    assert (looked_up, connected) == (["example.org"], [("93.184.216.34", 443)])


def test_it_waits_no_longer_than_it_must_for_an_answer_that_drips(settings, monkeypatch):
    settings.WEBHOOK_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(posting, "SECONDS_IN_ALL", 0.5)
    server = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = server.accept()
        with connection:
            for byte in b"HTTP/1.1 200 OK":
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                threading.Event().wait(0.1)

    threading.Thread(target=drip, daemon=True).start()
    with server, pytest.raises(TimeoutError):
        posting.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {})


def test_it_knows_public_addresses():
    assert posting.is_public(ipaddress.ip_address("93.184.216.34"))
    assert posting.is_public(ipaddress.ip_address("2606:2800:220:1::1"))
