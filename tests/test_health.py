"""`/healthz`, `/readyz` and `/metrics`: what is wrong is named, and no more of it than anybody may know."""

import json
import re
import shutil
from datetime import timedelta

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from breeds import classifier as classifiers
from breeds.models import Prediction
from breeds.tasks import classify_photos
from shelter.intake.uploads import upload_photo
from shelter.models import Import, WorkerSeen
from shelter.operations import health
from shelter.tasks import sweep_imports
from tests.support.factories import upload
from tests.support.pictures import jpeg
from tests.support.serving import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture
def well(monkeypatch, settings, tmp_path):
    """All is well: the network was verified, a worker has just swept, the broker is a folder."""
    WorkerSeen.objects.note("worker@here")
    monkeypatch.setattr(health, "verify_active", lambda: None)


def readyz(client, query="") -> tuple[int, dict]:
    response = client.get(f"/readyz{query}")
    return response.status_code, response.json()


def test_it_is_ready_where_all_is_well(client, well):
    status, answer = readyz(client, "?strict")
    assert (status, answer["status"], answer["problems"]) == (200, "ready", [])
    assert set(answer["checks"]) == {"database", "media", "broker", "model", "worker", "queue"}


def test_it_is_unready_without_its_media(client, well, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "a-file" / "media"
    (tmp_path / "a-file").write_text("no folder")
    status, answer = readyz(client)
    assert (status, answer["status"], answer["problems"]) == (503, "unready", ["media"])
    assert str(tmp_path) not in json.dumps(answer)


def test_it_is_unready_on_a_full_disk(client, well, monkeypatch):
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    status, answer = readyz(client)
    assert (status, answer["checks"]["media"]) == (503, "the disk is full")


def test_it_is_unready_while_tables_are_missing(client, well, monkeypatch):
    health._check_migrations.cache_clear()
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda *_: ["one"])
    status, answer = readyz(client)
    assert (status, answer["problems"]) == (503, ["database"])
    assert "migrate" in answer["checks"]["database"]


def test_it_names_a_broker_that_is_down_and_still_takes_photos_in(client, well, settings, monkeypatch):
    from shelter.celery import app

    broken = app.connection_for_write("redis://:secret@127.0.0.1:1/0")
    monkeypatch.setattr(app, "connection_for_write", lambda: broken)
    status, answer = readyz(client)
    assert (status, answer["status"], answer["problems"]) == (200, "degraded", ["broker"])
    assert readyz(client, "?strict")[0] == 503
    assert "secret" not in json.dumps(answer)


def test_it_names_a_classifier_that_is_missing_or_damaged(client, well, monkeypatch, tmp_path, settings, breeds):
    monkeypatch.setattr(health, "verify_active", classifiers.verify_active)
    copy = tmp_path / "checkpoint"
    shutil.copytree(settings.BUNDLED_CLASSIFIER, copy, ignore=shutil.ignore_patterns("model.keras"))
    classifiers.register_checkpoint(copy)
    assert readyz(client)[1]["problems"] == []
    (copy / "labels.json").write_text("[]")
    assert readyz(client)[1]["problems"] == ["model"]
    shutil.rmtree(copy)
    assert readyz(client)[1]["problems"] == ["model"]


def test_it_misses_a_worker_that_has_not_swept_for_two_minutes(client, well):
    WorkerSeen.objects.update(seen_at=timezone.now() - timedelta(seconds=110))
    assert readyz(client)[1]["problems"] == []
    WorkerSeen.objects.update(seen_at=timezone.now() - timedelta(seconds=121))
    assert readyz(client)[1]["problems"] == ["worker"]
    WorkerSeen.objects.all().delete()
    assert readyz(client)[1]["checks"]["worker"] == "no worker was ever seen"


def test_it_takes_an_answer_for_a_sign_of_a_worker_that_is_too_busy_to_sweep(client, well, anne, classifier):
    classifier.row().activate()
    WorkerSeen.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    upload_photo(upload(), user=anne)
    classify_photos()
    assert readyz(client)[1]["problems"] == []


def test_it_notes_the_worker_that_sweeps_and_forgets_those_long_gone():
    WorkerSeen.objects.note("gone", timezone.now() - timedelta(days=2))
    sweep_imports()
    assert [worker.name for worker in WorkerSeen.objects.all()] == [""]


def test_it_names_a_queue_in_which_somebody_has_waited_for_ten_minutes(client, well, anne):
    upload_photo(upload(), user=anne)
    Prediction.objects.update(created_at=timezone.now() - timedelta(seconds=590))
    assert readyz(client)[1]["problems"] == []
    Prediction.objects.update(created_at=timezone.now() - timedelta(seconds=605))
    assert readyz(client)[1]["problems"] == ["queue"]
    Prediction.objects.update(priority=Prediction.Priority.BULK)
    assert readyz(client)[1]["problems"] == []


def figures(client) -> dict:
    """(name, labels) -> value, as Prometheus reads the page."""
    response = client.get("/metrics")
    assert response["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(response.content.decode())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def test_it_counts_from_the_rows(client, anne, classifier):
    classifier.row().activate()
    photos = [upload_photo(upload(jpeg(seed)), user=anne).photo for seed in range(4)]
    classifier.errors[jpeg(0)] = classifiers.UnreadableImage("undecodable", "no")
    classify_photos()
    photos += [upload_photo(upload(jpeg(seed)), user=anne).photo for seed in (4, 5)]
    Prediction.objects.filter(photo=photos[5]).update(priority=Prediction.Priority.BULK)
    Prediction.objects.filter(photo=photos[4]).update(created_at=timezone.now() - timedelta(seconds=90))
    Import.objects.receive(anne, "a.zip", 10)
    WorkerSeen.objects.note("secret-host")

    found = figures(client)

    assert found["flair_photos", ("done",)] == 3
    assert found["flair_photos_failed", ("undecodable",)] == 1
    assert found["flair_queue_pending", ("interactive",)] == found["flair_queue_pending", ("bulk",)] == 1
    assert 90 <= found["flair_queue_age_seconds", ("interactive",)] < 120
    assert found["flair_answers_per_second", ()] == pytest.approx(3 / 300)
    assert found["flair_answer_seconds", ()] == pytest.approx(0.007)
    assert found["flair_classifier_info", ("fake", "fake-1")] == 1
    assert found["flair_imports", ("receiving",)] == 1
    assert found["flair_workers", ()] == 1
    assert b"secret-host" not in client.get("/metrics").content


def test_it_says_the_figures_of_an_empty_shelter(client):
    found = figures(client)
    assert found["flair_photos", ("pending",)] == found["flair_queue_age_seconds", ("bulk",)] == 0


def test_the_alarms_of_the_documentation_ask_for_figures_that_are_there(client, anne, classifier):
    classifier.row().activate()
    classifier.errors[jpeg(0)] = classifiers.UnreadableImage("undecodable", "no")
    upload_photo(upload(jpeg(0)), user=anne)
    classify_photos()
    found = {(name, label) for name, labels in figures(client) for label in (None, *labels)}
    alarms = (ROOT / "docs" / "operations.md").read_text()
    asked = re.findall(r'`?\b(flair_(?!client)\w+)(?:\{priority="(\w+)")?', alarms)
    assert len(asked) > 5
    assert [(name, label) for name, label in asked if (name, label or None) not in found] == []


def test_it_costs_no_more_queries_for_more_photos(client, anne, classifier, django_assert_max_num_queries):
    for seed in range(8):
        upload_photo(upload(jpeg(seed)), user=anne)
    with django_assert_max_num_queries(20):
        client.get("/metrics")


def test_it_keeps_the_figures_behind_a_token_where_one_is_set(client, settings):
    settings.METRICS_TOKEN = "a-long-token"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer é"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer a-long-token"}).status_code == 200
