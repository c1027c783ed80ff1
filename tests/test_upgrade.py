"""Data made by commit a6a63c3 opens under the code of today: `tests/data/a6a63c3` is a backup that its code wrote.

`rows.jsonl` and `files.jsonl` are its two lists, unpacked. Each line of `files.jsonl` also has the content of the file
in base64: photos of 48 x 36 pixels, made by code. `expected.json` contains the answers of the old code. One of them was
changed on purpose: `?breed=` of the API also returns crosses (photos 3 and 12), as the page always did.
"""

import base64
import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count

from breeds.models import Review
from breeds.tasks import classify_photos
from shelter.intake.uploads import upload_photo
from shelter.models import Delivery, Photo, Removal, SavedSearch, Webhook
from shelter.operations.backup import archive, restore
from shelter.operations.consistency import Consistency, sha256_of
from tests.support.emptying import empty_tables

OLD = Path(__file__).parent / "data" / "a6a63c3"
EXPECTED = json.loads((OLD / "expected.json").read_text())

# SQLite migrates no tables inside a transaction.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def upgraded(settings, tmp_path, transactional_db):
    """Load the old rows into the old tables, migrate these to the tables of today, and store the old files."""
    settings.SECRET_KEY = EXPECTED["secret_key"]
    settings.DATA_DIR = tmp_path / "data"
    manifest = json.loads((OLD / "manifest.json").read_text())
    empty_tables()
    newest = {}
    for app, name in manifest["migrations"]:
        newest[app] = max(name, newest.get(app, ""))
    MigrationExecutor(connection).migrate(list(newest.items()))
    restore(old_backup(tmp_path / "backup", manifest))
    yield
    call_command("migrate", verbosity=0)
    empty_tables()


def old_backup(folder: Path, manifest: dict) -> Path:
    """Write the backup as the old code did. The manifest gets new hashes of the lists: this zlib may differ."""
    seal = manifest.pop("seal")
    assert archive.seal_of(manifest) == seal
    folder.mkdir()
    for name in ("rows.jsonl", "files.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((OLD / name).read_bytes()))
        with (folder / f"{name}.gz").open("rb") as file:
            manifest["parts"][f"{name}.gz"] = sha256_of(file)
    for facts in map(json.loads, (OLD / "files.jsonl").read_text().splitlines()):
        path = folder / "files" / facts["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(facts["content"]))
    archive.write_manifest(folder / "manifest.json", manifest)
    return folder


def differences(before, now, where="") -> list[str]:
    """The places at which `now` differs from `before`; fields that are new are no difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            place
            for name in before
            for place in differences(before[name], now.get(name, "no field"), f"{where}.{name}")
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            place
            for n, pair in enumerate(zip(before, now, strict=True))
            for place in differences(*pair, f"{where}[{n}]")
        ]
    return [] if before == now else [f"{where}: {before!r} is now {now!r}"]


@pytest.fixture
def call(client):
    """Call the API with one of the old tokens."""

    def call(method: str, path: str, key: str = "of anne", headers=None, **options):
        headers = {"Authorization": f"Token {EXPECTED['keys'][key]}", **(headers or {})}
        return getattr(client, method)(f"/api/v1{path}", headers=headers, **options)

    return call


def test_the_data_of_an_older_flair_opens_unchanged(upgraded, client, call):
    photos = {
        str(photo.pk): {
            "newest_answer": getattr(photo.newest_answer, "pk", None),
            "standing_review": getattr(photo.standing_review, "pk", None),
            "twin": getattr(photo.twin, "pk", None),
            "reviews": [list(row) for row in photo.reviews.order_by("pk").values_list("pk", "verdict", "by__username")],
        }
        for photo in Photo.objects.order_by("pk")
    }
    assert photos == EXPECTED["photos"]

    answers = {path: call("get", path).json() for path in EXPECTED["api"]}
    assert differences(EXPECTED["api"], answers) == []

    client.force_login(User.objects.get(username="anne"))
    for path, sentences in EXPECTED["pages"].items():
        page = " ".join(client.get(path, headers={"Accept-Language": "fr"}).content.decode().split())
        assert [sentence for sentence in sentences if sentence not in page] == [], path

    assert {str(hook.pk): hook.secret for hook in Webhook.objects.all()} == EXPECTED["webhook_secrets"]
    assert dict(Delivery.objects.order_by().values_list("status").annotate(Count("pk"))) == EXPECTED["deliveries"]
    assert list(SavedSearch.objects.values_list("name", "query")) == [("Beagles sûrs", "breed=beagle&source=human")]
    assert sorted(Removal.objects.values_list("rule", flat=True)) == ["loose photo", "original", "receipts"]
    assert list(Consistency(grace=timedelta(0), verify_hashes=True).findings()) == []


def test_work_goes_on_with_the_data_of_an_older_flair(upgraded, call, classifier, monkeypatch):
    assert call("get", "/photos/", "revoked").status_code == 401

    repeated = EXPECTED["repeated"]
    again = call(
        "post",
        repeated["path"],
        "of bruno",
        {"Idempotency-Key": "once"},
        data=repeated["json"],
        content_type="application/json",
    )
    assert (again.status_code, again.json()) == (repeated["status"], repeated["answer"])
    assert again.headers["Idempotency-Replayed"] == "true"

    for photo in Photo.objects.all():
        assert upload_photo(ContentFile(photo.image.open().read(), photo.original_name), user=None).photo == photo

    classify_photos()
    assert Photo.objects.get(original_name="waiting.jpg").status == Photo.Status.DONE

    latest = Photo.objects.get(pk=3).standing_review
    Review.objects.withdraw(latest, by=User.objects.get(username="chloe"))
    assert Photo.objects.get(pk=3).standing_review.verdict == Review.Verdict.CORRECT
