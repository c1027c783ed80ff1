"""Write a backup: the rows of one snapshot, the files that they name, the active classifier, and the manifest."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from breeds.classifier import BadCheckpoint, verify_files
from breeds.models import ClassifierVersion
from shelter.models import Import, Photo
from shelter.operations.backup.rows import AT_ONCE, read_lines, write_lines, write_rows
from shelter.operations.consistency import archives_in_pieces, sha256_of, stored_hash

FORMAT = 1
MANIFEST, ROWS, LISTING, FILES, MODEL = "manifest.json", "rows.jsonl.gz", "files.jsonl.gz", "files", "model"


class BadBackup(Exception):
    """Why a backup cannot be written or restored, in one line."""


@dataclass
class Summary:
    """The size of a backup, or of what was restored. `missing`: files that rows name and that were not stored."""

    rows: int = 0
    files: int = 0
    bytes: int = 0
    model: str = ""
    missing: list[str] = field(default_factory=list)


def back_up(target: Path, *, with_files: bool | None = None) -> Summary:
    """Write a backup to `target`, which must not be there yet and appears whole or not at all.

    `with_files` is true for a folder of photos and false for a bucket, whose store keeps its own copies: the backup
    then lists the files and their hashes alone. Raises `BadBackup`.
    """
    if target.exists():
        raise BadBackup(f"Expected a folder that is not there yet. Received: {target}.")
    if with_files is None:
        with_files = isinstance(default_storage, FileSystemStorage)
    _refuse_old_tables()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a backup that was interrupted
    partial.mkdir(parents=True, mode=0o700)
    try:
        summary, manifest = Summary(), {"format": FORMAT, "with_files": with_files}
        with _snapshot():
            manifest |= {"created": timezone.now().isoformat(), "migrations": _applied(), "rows": {}}
            manifest["rows"] = write_rows(partial / ROWS)
            active = ClassifierVersion.objects.active()
            write_lines(partial / "wanted", _wanted_files())
        manifest["missing"] = summary.missing = _copy_files(partial, with_files, summary)
        manifest["model"] = _copy_model(partial / MODEL, active)
        manifest["parts"] = {name: sha256_of((partial / name).open("rb")) for name in (ROWS, LISTING)}
        summary.rows, summary.model = sum(manifest["rows"].values()), manifest["model"]["version"]
        (partial / "wanted").unlink()
        write_manifest(partial / MANIFEST, manifest)
        os.sync()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return summary


def _refuse_old_tables() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise BadBackup("Expected tables of this version of Flair. Received: older ones; run manage.py migrate.")


@contextmanager
def _snapshot():
    """One transaction that reads the database as it is now; others may write meanwhile."""
    if connection.in_atomic_block:
        yield
        return
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        mode, connection.transaction_mode = connection.transaction_mode, "DEFERRED"  # private: tried with Django 5.2
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute("SELECT COUNT(*) FROM django_migrations")  # the snapshot begins here
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode


def _applied() -> list[list[str]]:
    return sorted(map(list, MigrationExecutor(connection).loader.applied_migrations))


def _wanted_files() -> Iterator[list]:
    """[name, SHA-256 or null, key of its photo or import, kind] of every file that the rows of the snapshot name."""
    for photo in Photo.objects.order_by("sha256").iterator(chunk_size=AT_ONCE):
        yield [photo.image.name, stored_hash(photo), photo.pk, "original"]
        if photo.preview:
            yield [photo.preview.name, None, photo.pk, "preview"]
    for batch in archives_in_pieces():
        for number in range(batch.received):
            yield [batch.part_path(number), None, batch.pk, "piece"]


def _copy_files(partial: Path, with_files: bool, summary: Summary) -> list[str]:
    """Copy the wanted files and list them with their hashes; returns the names of missing files."""
    missing = []

    def lines():
        for name, sha256, pk, kind in read_lines(partial / "wanted"):
            facts = {"name": name, "sha256": sha256, "kind": kind, "of": pk, "is_there": True}
            if with_files:
                try:
                    facts |= _copy_out(name, partial / FILES / name)
                except FileNotFoundError:
                    facts["is_there"] = False
                    if (Import if kind == "piece" else Photo).objects.filter(pk=pk).exists():
                        missing.append(name)
            if facts["is_there"]:
                summary.files += 1
                summary.bytes += facts.get("size", 0)
            yield facts

    write_lines(partial / LISTING, lines())
    return missing


def _copy_out(name: str, target: Path) -> dict:
    with default_storage.open(name, "rb") as file:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy)
            size = copy.tell()
        file.seek(0)
        return {"sha256": sha256_of(file), "size": size}


def _copy_model(target: Path, active: ClassifierVersion | None) -> dict:
    """Copy the folder of the active version. A missing or damaged one is left out, and the manifest says why."""
    if active is None:
        return {"version": "", "files": {}, "error": "none is active"}
    try:
        verify_files(active)
    except BadCheckpoint as error:
        return {"version": "", "files": {}, "error": str(error)}
    target.mkdir()
    for path in (path for path in Path(active.folder).iterdir() if path.is_file()):
        shutil.copyfile(path, target / path.name)
    return {"version": active.version, "files": {p.name: sha256_of(p.open("rb")) for p in sorted(target.iterdir())}}


def write_manifest(path: Path, manifest: dict) -> None:
    path.write_text(json.dumps(manifest | {"seal": seal_of(manifest)}, indent=1, ensure_ascii=False))


def seal_of(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
