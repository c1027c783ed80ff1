"""Restore a backup: compare every byte with its hash, then bring files and rows back, all of them or none."""

import json
import shutil
import zlib
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.executor import MigrationExecutor

from shelter.models import Import, Photo
from shelter.operations.backup.archive import FILES, FORMAT, LISTING, MANIFEST, MODEL, ROWS, BadBackup, Summary, seal_of
from shelter.operations.backup.rows import load_rows, read_lines
from shelter.operations.consistency import Consistency, sha256_of

# Errors that reading a damaged backup raises.
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, DatabaseError, ValidationError)


def restore(source: Path) -> Summary:
    """Bring a backup back into an empty database and an empty storage, all of it or nothing. Raises `BadBackup`."""
    manifest = read_manifest(source)
    check_backup(source, manifest)
    targets = _migration_targets(manifest)
    _refuse_full_target(source)
    summary = Summary(missing=manifest["missing"], model=manifest["model"]["version"])
    written, model_folder = [], settings.DATA_DIR / "models" / (summary.model or "none")
    had_model = model_folder.exists()
    try:
        _bring_files_back(source, manifest, written, summary)
        if summary.model:
            shutil.copytree(source / MODEL, model_folder, dirs_exist_ok=True)
        executor = MigrationExecutor(connection)
        executor.migrate(targets)
        models = executor.loader.project_state(targets, at_end=True).apps
        with transaction.atomic():
            counts = load_rows(source / ROWS, models, manifest["rows"])
            if counts != manifest["rows"]:
                raise BadBackup(f"Expected rows as in {MANIFEST}. Received: {counts}; nothing was kept.")
            summary.rows = sum(counts.values())
            _settle(source, models, summary.model, model_folder)
    except BaseException as error:
        for name in written:
            default_storage.delete(name)
        if not had_model:
            shutil.rmtree(model_folder, ignore_errors=True)
        if isinstance(error, _DAMAGED):
            raise BadBackup(f"Expected to restore {source}. Received: {error!r}; nothing was kept.") from error
        raise
    call_command("migrate", interactive=False, verbosity=0)  # on to this version of Flair
    _delete_again(source, manifest)
    return summary


def _delete_again(source: Path, manifest: dict) -> None:
    """Delete the photos that were deleted between the snapshot of the rows and the copy of the files."""
    missing = set(manifest["missing"])
    for facts in read_lines(source / LISTING):
        if not facts["is_there"] and facts["kind"] == "original" and facts["name"] not in missing:
            for photo in Photo.objects.filter(pk=facts["of"]):
                photo.delete_with_files()


def read_manifest(source: Path) -> dict:
    """Raises `BadBackup` if the backup is unfinished, damaged or of another format."""
    try:
        manifest = json.loads((source / MANIFEST).read_text())
        seal = manifest.pop("seal")
    except FileNotFoundError:
        raise BadBackup(f"Expected a finished backup with a {MANIFEST}. Received: {source} without it.") from None
    except _DAMAGED:
        raise BadBackup(f"Expected a whole {MANIFEST} in {source}. Received: a damaged one.") from None
    if seal != seal_of(manifest):
        raise BadBackup(f"Expected a {MANIFEST} as it was written. Received: a changed one in {source}.")
    if manifest["format"] != FORMAT:
        raise BadBackup(f"Expected a backup of format {FORMAT}. Received: format {manifest['format']} in {source}.")
    return manifest


def check_backup(source: Path, manifest: dict) -> None:
    """Read every byte of a backup and compare it with what was written. Raises `BadBackup`."""
    for name, sha256 in manifest["parts"].items():
        _check_part(source / name, sha256)
    for name, sha256 in manifest["model"]["files"].items():
        _check_part(source / MODEL / name, sha256)
    if manifest["with_files"]:
        for facts in read_lines(source / LISTING):
            if facts["is_there"]:
                _check_part(source / FILES / facts["name"], facts["sha256"])


def _check_part(path: Path, sha256: str) -> None:
    try:
        actual = sha256_of(path.open("rb"))
    except OSError as error:
        raise BadBackup(f"Expected {path} in the backup. Received: {error.strerror}.") from error
    if actual != sha256:
        raise BadBackup(f"Expected {path} to have SHA-256 {sha256[:16]}…. Received: {actual[:16]}…; it is damaged.")


def _migration_targets(manifest: dict) -> list[tuple[str, str]]:
    """The newest migrations that the backup was made under. Raises `BadBackup` if this Flair cannot migrate to them."""
    executor, wanted = MigrationExecutor(connection), {tuple(node) for node in manifest["migrations"]}
    if further := set(executor.loader.applied_migrations) - wanted:
        names = ", ".join(".".join(node) for node in sorted(further))
        raise BadBackup(f"Expected a database without tables, or with those of the backup. Received: also {names}.")
    if foreign := wanted - set(executor.loader.graph.nodes):
        names = ", ".join(".".join(node) for node in sorted(foreign))
        raise BadBackup(f"Expected a backup of this or an older Flair. Received: one with {names}.")
    try:
        children = {node: executor.loader.graph.node_map[node].children for node in wanted}
    except (KeyError, NodeNotFoundError) as error:
        raise BadBackup(f"Expected migrations that fit each other. Received: {error}.") from error
    return sorted(
        node for node in wanted if not any(child.key[0] == node[0] and child.key in wanted for child in children[node])
    )


def _refuse_full_target(source: Path) -> None:
    """Raises `BadBackup` if there are users, photos, imports or dogs, or files that the backup does not list."""
    tables = set(connection.introspection.table_names())
    for model in (apps.get_model("auth.User"), Photo, Import, apps.get_model("shelter.Animal")):
        if model._meta.db_table in tables and (count := model._base_manager.count()):
            name = model._meta.label
            raise BadBackup(f"Expected an empty database. Received: {count} rows of {name}. Nothing was changed.")
    listed = {facts["name"] for facts in read_lines(source / LISTING)}
    for names in Consistency().folders():
        for name in names:
            if name not in listed and not name.startswith("thumbnails/"):
                raise BadBackup(f"Expected an empty storage. Received: {name} in it. Nothing was changed.")


def _bring_files_back(source: Path, manifest: dict, written: list[str], summary: Summary) -> None:
    """Write the files, or find them in the bucket, and compare each stored file with its hash."""
    for facts in read_lines(source / LISTING):
        if not facts["is_there"]:
            continue
        name = facts["name"]
        if manifest["with_files"] and not default_storage.exists(name):
            written.append(name)
            with (source / FILES / name).open("rb") as file:
                default_storage.save(name, File(file, name=name))
        summary.files += 1
        summary.bytes += facts.get("size", 0)
        if expected := facts["sha256"]:
            actual = sha256_of(default_storage.open(name)) if default_storage.exists(name) else "nothing"
            if actual != expected:
                raise BadBackup(f"Expected {name} in the storage with SHA-256 {expected[:16]}…. Received: {actual}.")


def _settle(source: Path, models, version: str, model_folder: Path) -> None:
    """Correct rows that name files or folders of the other machine."""
    if version:
        models.get_model("breeds.ClassifierVersion").objects.filter(version=version).update(folder=str(model_folder))
    gone = {"original": [], "preview": [], "piece": []}
    for facts in read_lines(source / LISTING):
        if not facts["is_there"]:
            gone[facts["kind"]].append(facts["of"])
    batches = models.get_model("shelter.Import").objects.filter(pk__in=gone["piece"])
    batches.update(status="failed", error_code="abandoned", lease=None, leased_until=None)
    models.get_model("shelter.Photo").objects.filter(pk__in=gone["preview"]).update(preview="")
