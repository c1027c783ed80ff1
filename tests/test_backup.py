"""`manage.py backup` and `restore`: all of it comes back, by its hashes, or nothing does."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from breeds import classifier as classifiers
from breeds.models import ClassifierVersion, Prediction, Review
from breeds.tasks import classify_photos
from shelter.intake.uploads import upload_photo
from shelter.models import ApiToken, Import, Photo
from shelter.operations.backup import archive, restoring
from shelter.operations.backup.rows import columns_of, kept_models
from tests.support.emptying import empty_tables
from tests.support.factories import a_dog, a_photo, a_review, upload
from tests.support.pictures import jpeg
from tests.support.s3_server import s3_server, storage_options
from tests.support.serving import ROOT, serving, wait_until


@pytest.fixture
def checkpoint(settings, tmp_path, monkeypatch):
    """The bundled classifier without its large files for training; restored models go to a folder of this test."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(settings.BUNDLED_CLASSIFIER, folder, ignore=shutil.ignore_patterns("model.keras"))
    settings.DATA_DIR = tmp_path / "data"
    return folder


@pytest.fixture
def shelter(anne, chloe, classifier, checkpoint):
    """A bit of everything: answered, reviewed and waiting photos, a dog, a token, an archive that is arriving."""
    classifiers.register_checkpoint(checkpoint).activate()
    photos = [a_photo(anne) for _ in range(5)]
    classify_photos()
    a_dog("Réglisse", photos[0])
    Review.objects.withdraw(a_review(photos[1], anne, breed="beagle"), by=chloe)
    ApiToken.issue(anne, ["read"])
    Import.objects.receive(anne, "a.zip", 12).take_part(0, ContentFile(b"twelve bytes"))
    return photos


def rows() -> dict[str, list]:
    """Every row of every table that a backup holds, but for where the classifier lies."""
    found = {}
    for model in kept_models():
        names = [column.attname for column in columns_of(model) if column.attname != "folder"]
        values = model._base_manager.order_by("pk").values_list(*names)
        found[model._meta.label] = [[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in values]
    return found


def files(stored_files) -> dict[str, str]:
    return {name: hashlib.sha256(default_storage.open(name).read()).hexdigest() for name in stored_files()}


def another_machine(settings, tmp_path, name="elsewhere") -> None:
    """An empty database and an empty storage."""
    empty_tables()
    settings.MEDIA_ROOT = tmp_path / name
    settings.DATA_DIR = tmp_path / f"{name}-data"


def run(*arguments) -> str:
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def test_it_restores_every_row_and_file_on_an_empty_machine(shelter, settings, tmp_path, stored_files):
    rows_before, files_before = rows(), files(stored_files)
    said = run("backup", tmp_path / "backup")
    assert f"{len(files_before)} files" in said

    another_machine(settings, tmp_path)
    run("restore", tmp_path / "backup")

    assert rows() == rows_before
    assert files(stored_files) == files_before
    assert call_command("fsck", "--hashes") is None
    version = classifiers.verify_active()
    assert version.folder == str(settings.DATA_DIR / "models" / version.version)
    assert upload_photo(upload(jpeg(99)), user=None).photo.pk > max(photo.pk for photo in shelter)


def test_it_goes_on_with_what_was_waiting(shelter, settings, tmp_path, classifier):
    run("backup", tmp_path / "backup")
    another_machine(settings, tmp_path)
    run("restore", tmp_path / "backup")
    classify_photos()
    assert not Prediction.objects.filter(status="pending").exists()


def test_it_backs_up_nothing_that_came_after_its_snapshot_and_forgets_what_was_deleted_meanwhile(
    shelter, settings, tmp_path, monkeypatch, anne, stored_files, django_capture_on_commit_callbacks
):
    copy_files = archive._copy_files

    def busy(*arguments):
        upload_photo(upload(jpeg(77)), user=anne)
        with django_capture_on_commit_callbacks(execute=True):
            Photo.objects.get(pk=shelter[0].pk).delete_with_files()
        return copy_files(*arguments)

    monkeypatch.setattr(archive, "_copy_files", busy)
    run("backup", tmp_path / "backup")
    another_machine(settings, tmp_path)
    with django_capture_on_commit_callbacks(execute=True):
        run("restore", tmp_path / "backup")
    assert set(Photo.objects.values_list("pk", flat=True)) == {photo.pk for photo in shelter[1:]}
    assert call_command("fsck", "--hashes") is None


def test_it_says_which_file_was_missing_and_keeps_the_rest(shelter, settings, tmp_path):
    default_storage.delete(shelter[2].image.name)
    with pytest.raises(CommandError, match="without 1 of them"):
        run("backup", tmp_path / "backup")
    another_machine(settings, tmp_path)
    assert f"Missing since before the backup: {shelter[2].image.name}" in run("restore", tmp_path / "backup")
    assert Photo.objects.count() == 5


def test_it_lists_the_files_of_a_bucket_and_looks_for_them_there(anne, checkpoint, settings, tmp_path, breeds):
    classifiers.register_checkpoint(checkpoint)
    with s3_server() as (address, objects):
        settings.STORAGES = settings.STORAGES | {"default": storage_options(address)}
        photo = upload_photo(upload(), user=anne).photo
        run("backup", tmp_path / "backup")
        assert not (tmp_path / "backup" / "files").exists()
        another_machine(settings, tmp_path)
        kept = dict(objects)
        objects[photo.image.name] = (b"damaged", objects[photo.image.name][1])
        with pytest.raises(CommandError, match="in the storage with SHA-256"):
            run("restore", tmp_path / "backup")
        assert (Photo.objects.count(), objects.keys()) == (0, kept.keys())
        objects.update(kept)
        run("restore", tmp_path / "backup")
        assert Photo.objects.get().image.open().read() == jpeg()


@pytest.fixture
def backup(shelter, settings, tmp_path):
    run("backup", tmp_path / "backup")
    another_machine(settings, tmp_path)
    return tmp_path / "backup"


def changed(path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


DAMAGES = {
    "rows cut short": lambda folder: changed(folder / "rows.jsonl.gz", lambda content: content[:-100]),
    "a bit of the rows": lambda folder: changed(folder / "rows.jsonl.gz", flipped),
    "no rows": lambda folder: (folder / "rows.jsonl.gz").unlink(),
    "a bit of the listing": lambda folder: changed(folder / "files.jsonl.gz", flipped),
    "a bit of a photo": lambda folder: changed(next(folder.glob("files/originals/*/*")), flipped),
    "a photo gone": lambda folder: next(folder.glob("files/originals/*/*")).unlink(),
    "a photo emptied": lambda folder: next(folder.glob("files/previews/*/*")).write_bytes(b""),
    "a bit of the classifier": lambda folder: changed(folder / "model" / "model.tflite.xz", flipped),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "the manifest cut short": lambda folder: changed(folder / "manifest.json", lambda content: content[:200]),
    "a word of the manifest": lambda folder: changed(
        folder / "manifest.json", lambda content: content.replace(b'"with_files": true', b'"with_files": false')
    ),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_restores_nothing_of_a_damaged_backup_and_says_why_in_one_line(backup, damage, stored_files):
    DAMAGES[damage](backup)
    with pytest.raises(CommandError) as raised:
        run("restore", backup)
    assert "Received: " in str(raised.value)
    assert "\n" not in str(raised.value)
    assert stored_files() == set()
    assert not any(rows().values())


def test_it_refuses_a_backup_of_a_newer_flair(backup):
    manifest = json.loads((backup / "manifest.json").read_text())
    del manifest["seal"]
    manifest["migrations"].append(["shelter", "9999_flying_dogs"])
    archive.write_manifest(backup / "manifest.json", manifest)
    with pytest.raises(CommandError, match="9999_flying_dogs"):
        run("restore", backup)


def test_it_refuses_a_machine_on_which_somebody_works_already(backup, stored_files, django_user_model):
    default_storage.save("originals/ab/else.jpg", ContentFile(b"x"))
    with pytest.raises(CommandError, match="empty storage"):
        run("restore", backup)
    default_storage.delete("originals/ab/else.jpg")
    django_user_model.objects.create_user("somebody")
    with pytest.raises(CommandError, match="empty database"):
        run("restore", backup)
    assert stored_files() == set()


def test_it_takes_everything_back_where_the_restoring_stops_halfway(backup, monkeypatch, stored_files, settings):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(restoring, "load_rows", full)
    with pytest.raises(CommandError, match="nothing was kept"):
        run("restore", backup)
    assert stored_files() == set()
    assert not list((settings.DATA_DIR / "models").glob("*"))
    monkeypatch.undo()


def test_it_goes_on_after_a_restoring_that_was_killed(backup, settings):
    """Files lie there, rows do not."""
    for path in (backup / "files").rglob("*"):
        if path.is_file():
            name = str(path.relative_to(backup / "files"))
            default_storage.save(name, ContentFile(path.read_bytes()))
    run("restore", backup)
    assert Photo.objects.count() == 5


def test_it_leaves_nothing_of_a_backup_that_could_not_be_written(shelter, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_copy_out", full)
    with pytest.raises(CommandError, match="No space left"):
        run("backup", tmp_path / "backup")
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]


def test_it_overwrites_no_backup(backup):
    with pytest.raises(CommandError, match="not there yet"):
        run("backup", backup)


def test_it_checks_a_backup_without_restoring_it(backup):
    assert "is whole" in run("restore", "--check", backup)
    assert not Photo.objects.exists()


def test_it_keeps_rows_and_photos_from_other_accounts_of_the_machine(backup):
    assert backup.stat().st_mode & 0o077 == 0


def test_it_backs_up_the_rows_though_the_classifier_is_damaged(shelter, tmp_path, checkpoint):
    (checkpoint / "labels.json").write_text("[]")
    assert "left out" in run("backup", tmp_path / "backup")
    assert ClassifierVersion.objects.active()


@pytest.mark.slow
def test_it_backs_up_a_flair_that_is_at_work_and_restores_it_on_an_empty_folder(tmp_path):
    with serving(tmp_path / "data") as flair:
        token, ids, is_over = flair.token(), [], threading.Event()

        def keep_uploading():
            while not is_over.is_set():
                ids.append(flair.api("POST", "/photos/", token, jpeg(len(ids)))["id"])

        uploading = threading.Thread(target=keep_uploading)
        uploading.start()
        wait_until(lambda: len(ids) > 10, 60, "ten photos")
        before = len(ids)
        try:
            flair.manage("backup", str(tmp_path / "backup"))
        finally:
            is_over.set()
            uploading.join()

    elsewhere = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    elsewhere |= {"DJANGO_SETTINGS_MODULE": "shelter.settings", "FLAIR_DATA_DIR": str(tmp_path / "elsewhere")}

    def manage(*arguments):
        command = [sys.executable, "manage.py", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=elsewhere, capture_output=True, text=True, timeout=120)

    restored = manage("restore", tmp_path / "backup")
    assert restored.returncode == 0, restored.stderr
    checked = manage("fsck", "--hashes")
    assert checked.returncode == 0, checked.stdout
    listed = manage("shell", "-v", "0", "-c", "from shelter.models import Photo; print(Photo.objects.count())")
    assert before <= int(listed.stdout.split()[-1]) <= len(ids)
