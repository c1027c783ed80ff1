"""The pages on which versions are tried, compared and chosen; with checkpoints in test_model_life.py."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from breeds import tasks
from breeds.models import Activation, ClassifierVersion, Prediction, ShadowAnswer
from breeds.tasks import answer_again
from shelter.models import Photo
from shelter.pages import versions as model_pages
from tests.support.factories import a_review, an_answered_photo

ENGLISH = {"Accept-Language": "en"}


@pytest.fixture
def active(classifier):
    version = classifier.row()
    version.activate()
    return version


@pytest.fixture
def new(active, monkeypatch):
    """A version that is registered, and whose checkpoint is taken for whole."""
    monkeypatch.setattr(model_pages, "verified_version", lambda named: ClassifierVersion.objects.get(version=named))
    return ClassifierVersion.objects.create(version="new-1", name="new", folder="x", backbone="b", image_size=32)


@pytest.fixture
def photos(active, anne):
    return [an_answered_photo(anne) for _ in range(4)]


def try_as(version, photo, label="pug", group="companion_and_toy"):
    ShadowAnswer.objects.create(version=version, photo=photo, decision="breed", label=label, group=group)


def test_it_shows_what_would_change_by_decision_breed_and_photo(admin, new, photos, anne):
    a_review(photos[0], anne, breed="pug")
    a_review(photos[1], anne, breed="beagle")
    for photo in photos[:3]:
        try_as(new, photo)
    response = admin.get(reverse("model", args=[new.pk]), headers=ENGLISH)
    found, page = response.context["found"], response.content.decode()
    assert (found.answered, found.changed, found.gained, found.lost) == (3, 3, 1, 1)
    assert "3 of 3 answers would change." in page
    sheets = {sheet["id"]: [card["photo"] for card in sheet["cards"]] for sheet in response.context["sheets"]}
    assert sheets == {"lost": [photos[1]], "gained": [photos[0]], "other": [photos[2]]}
    assert [(row["name"], row["gained"], row["lost"]) for row in response.context["breeds"]] == [
        ("Beagle", 0, 1), ("Pug", 1, 0),
    ]  # fmt: skip


def test_it_compares_anew_once_there_is_another_answer_or_review(admin, new, photos, anne):
    def found():
        return admin.get(reverse("model", args=[new.pk])).context["found"]

    try_as(new, photos[0])
    assert (found().answered, found().lost) == (1, 0)
    a_review(photos[0], anne, "confirm")
    assert found().lost == 1
    try_as(new, photos[1])
    assert found().answered == 2


def test_it_asks_before_it_activates_and_logs_who_did(admin, new, active, chloe):
    address = reverse("model_activate", args=[new.pk])
    asked = admin.get(address, headers=ENGLISH).content.decode()
    assert "never tried in the shadow" in asked
    assert ClassifierVersion.objects.active() == active
    admin.post(address)
    assert ClassifierVersion.objects.active() == new
    assert Activation.objects.first().by == chloe
    assert LogEntry.objects.get().object_id == str(new.pk)
    assert "chloe" in admin.get(reverse("model_list")).content.decode()


def test_it_says_so_where_a_version_answers_already(admin, new, active):
    page = admin.post(reverse("model_activate", args=[active.pk]), headers=ENGLISH, follow=True).content.decode()
    assert "answers already" in page
    assert Activation.objects.count() == 1


def test_it_offers_the_way_back_once_there_is_one(admin, new, active):
    assert admin.get(reverse("model_list")).context["before"] is None
    new.activate()
    assert admin.get(reverse("model_list")).context["before"] == active


def test_it_opens_to_the_group_admin_and_to_no_reviewer(client, new):
    for group, status in (("admin", 200), ("reviewer", 403)):
        user = User.objects.create_user(group)
        user.groups.add(Group.objects.get(name=group))
        client.force_login(user)
        for name, args in (("model_list", []), ("model", [new.pk]), ("model_activate", [new.pk])):
            assert client.get(reverse(name, args=args)).status_code == status
    assert client.post(reverse("model_activate", args=[new.pk])).status_code == 403
    assert client.post(reverse("model_again")).status_code == 403


def test_it_queues_the_photos_again_and_shows_how_far_it_is(admin, new, photos):
    new.activate()
    shown = admin.get(reverse("model_list")).context
    assert (shown["old"], shown["done"], shown["waiting"]) == (4, 0, 0)
    assert answer_again() == 4
    assert answer_again() == 0
    assert set(Prediction.objects.filter(status="pending").values_list("priority", flat=True)) == {0}
    assert admin.get(reverse("model_progress")).context["waiting"] == 4
    assert set(Photo.objects.values_list("status", flat=True)) == {"done"}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's planner chose badly")
def test_it_finds_the_photos_to_answer_again_without_a_walk_through_all_answers_for_each(active):
    """100,000 photos times 100,000 answers took more than ten minutes."""
    plan = Prediction.objects.not_answered_by(Photo.objects.all(), active).explain()
    assert "answers_by_photo (photo_id=? AND version_id=?)" in plan


def test_it_says_so_where_no_worker_can_be_reached(admin, new, monkeypatch):
    def broken():
        raise OSError("no broker")

    monkeypatch.setattr(model_pages.answer_again, "delay", broken)
    page = admin.post(reverse("model_again"), headers=ENGLISH, follow=True).content.decode()
    assert "cannot be reached" in page


def test_it_lets_one_worker_at_a_time_try_a_version(new):
    new.request_trial()
    assert ClassifierVersion.objects.claim_trial() == new
    assert ClassifierVersion.objects.claim_trial() is None
    later = timezone.now() + timedelta(minutes=5)
    assert ClassifierVersion.objects.claim_trial(now=later) == new
    new.give_back_trial(is_over=True)
    assert not ClassifierVersion.objects.awaits_trial(now=later)


def test_it_sends_the_hint_of_a_trial_again_that_was_lost(new, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks, "hint_trials", lambda: sent.append(1))
    tasks.sweep()
    assert not sent
    new.request_trial()
    tasks.sweep()
    assert sent


def test_it_needs_as_many_queries_for_many_versions_as_for_one(admin, new, photos):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin.get(reverse("model_list")).status_code == 200
        return len(captured)

    queries()
    few = queries()
    for number in range(5):
        version = ClassifierVersion.objects.create(version=f"v{number}", name="v", folder="x", image_size=32)
        try_as(version, photos[0])
    assert queries() == few <= 16
