"""Everything that cannot be had again, in one folder: rows, files, classifier; and the way back, checked by hashes.

Uploads go on meanwhile. The rows are read in one snapshot; files never change once they are there, so that those which
the snapshot names can be copied after it. Rows are written as they are, independent of the database they came from: a
backup of SQLite is restored into PostgreSQL, and the other way round.

`manifest.json` is written last and holds the SHA-256 of every other part and of itself: a folder without it, or with
a part that differs, is no backup. Restoring looks at every byte before it writes one.
"""

import base64
import gzip
import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import DatabaseError, connection, transaction
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from breeds.classifier import BadCheckpoint, verify_files
from breeds.models import ClassifierVersion
from shelter.models import Import, Photo
from shelter.operations.consistency import SET_ASIDE, stored_hash

FORMAT = 1
MANIFEST, ROWS, LISTING, FILES, MODEL = "manifest.json", "rows.jsonl.gz", "files.jsonl.gz", "files", "model"
AT_ONCE = 500

# Who is logged in, who mistyped a password and which worker swept: of no use elsewhere.
_LEFT_OUT = {"sessions", "axes", "shelter.WorkerSeen"}
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, DatabaseError, ValidationError)


class BadBackup(Exception):
    """What stands in the way, in one line: expected what, received what."""


@dataclass
class Summary:
    """What a backup holds, or what was restored. `missing`: files that rows name and that were not there."""

    rows: int = 0
    files: int = 0
    bytes: int = 0
    model: str = ""
    missing: list[str] = field(default_factory=list)


# -- making one -------------------------------------------------------------------------------------------------------


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
    shutil.rmtree(partial, ignore_errors=True)  # of one that was cut short
    partial.mkdir(parents=True, mode=0o700)
    try:
        summary, manifest = Summary(), {"format": FORMAT, "with_files": with_files}
        with _snapshot():
            manifest |= {"created": timezone.now().isoformat(), "migrations": _applied(), "rows": {}}
            manifest["rows"] = _write_rows(partial / ROWS)
            active = ClassifierVersion.objects.active()
            _write_lines(partial / "wanted", _wanted_files())
        manifest["missing"] = summary.missing = _copy_files(partial, with_files, summary)
        manifest["model"] = _copy_model(partial / MODEL, active)
        manifest["parts"] = {name: _sha256_of(partial / name) for name in (ROWS, LISTING)}
        summary.rows, summary.model = sum(manifest["rows"].values()), manifest["model"]["version"]
        (partial / "wanted").unlink()
        _seal(partial / MANIFEST, manifest)
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
    """One transaction that sees the database as it is now, and keeps nobody from writing."""
    if connection.in_atomic_block:
        yield
        return
    mode = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        mode, connection.transaction_mode = connection.transaction_mode, "DEFERRED"
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute("SELECT COUNT(*) FROM django_migrations")  # from here on
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode


def _applied() -> list[list[str]]:
    return sorted(map(list, MigrationExecutor(connection).loader.applied_migrations))


def _is_kept(model) -> bool:
    return not ({model._meta.app_label, model._meta.label} & _LEFT_OUT) and model._meta.managed


def _columns(model) -> list:
    return [column for column in model._meta.concrete_fields if not getattr(column, "generated", False)]


def _write_rows(path: Path) -> dict[str, int]:
    """All rows, table by table; returns how many each has."""
    counts = {}

    def lines():
        for model in filter(_is_kept, apps.get_models(include_auto_created=True)):
            names, label = [column.attname for column in _columns(model)], model._meta.label
            yield {"model": label, "fields": names}
            counts[label] = 0
            for row in model._base_manager.order_by("pk").values_list(*names).iterator(chunk_size=AT_ONCE):
                counts[label] += 1
                yield row

    _write_lines(path, lines())
    return counts


def _write_lines(path: Path, lines: Iterable) -> None:
    with gzip.open(path, "wt", compresslevel=5, encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, default=_as_text) + "\n")


def _read_lines(path: Path) -> Iterator:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _as_text(value) -> str:
    """As the `to_python` of its field reads it again, to the last digit."""
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | Decimal):
        return str(value)
    raise TypeError(f"Expected a value that a row may hold. Received: {value!r}.")


def _wanted_files() -> Iterator[list]:
    """[name, SHA-256 or null, key of its photo or import, kind] of what the rows of the snapshot name."""
    for photo in Photo.objects.order_by("sha256").iterator(chunk_size=AT_ONCE):
        yield [photo.image.name, stored_hash(photo), photo.pk, "original"]
        if photo.preview:
            yield [photo.preview.name, None, photo.pk, "preview"]
    for batch in Import.objects.filter(kind=Import.Kind.ARCHIVE, source="").exclude(status__in=["done", "failed"]):
        for number in range(batch.received):
            yield [batch.part_path(number), None, batch.pk, "piece"]


def _copy_files(partial: Path, with_files: bool, summary: Summary) -> list[str]:
    """Copy what is wanted and list it with the hash of what was copied; returns the names of what was not there."""
    missing = []

    def lines():
        for name, sha256, pk, kind in _read_lines(partial / "wanted"):
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

    _write_lines(partial / LISTING, lines())
    return missing


def _copy_out(name: str, target: Path) -> dict:
    with default_storage.open(name, "rb") as file:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as copy:
            for chunk in file.chunks():
                digest.update(chunk)
                size += copy.write(chunk)
    return {"sha256": digest.hexdigest(), "size": size}


def _copy_model(target: Path, active: ClassifierVersion | None) -> dict:
    """The folder of the active version, verified. One that is missing or damaged is left out, and named so."""
    if active is None:
        return {"version": "", "files": {}, "error": "none is active"}
    try:
        verify_files(active)
    except BadCheckpoint as error:
        return {"version": "", "files": {}, "error": str(error)}
    target.mkdir()
    for path in (path for path in Path(active.folder).iterdir() if path.is_file()):
        shutil.copyfile(path, target / path.name)
    return {"version": active.version, "files": {p.name: _sha256_of(p) for p in sorted(target.iterdir())}}


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(path: Path, manifest: dict) -> None:
    path.write_text(json.dumps(manifest | {"seal": _seal_of(manifest)}, indent=1, ensure_ascii=False))


def _seal_of(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


# -- the way back -----------------------------------------------------------------------------------------------------


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
            summary.rows = _load_rows(source / ROWS, models, manifest["rows"])
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
    """Photos that somebody deleted between the snapshot of the rows and the copy of the files."""
    missing = set(manifest["missing"])
    for facts in _read_lines(source / LISTING):
        if not facts["is_there"] and facts["kind"] == "original" and facts["name"] not in missing:
            for photo in Photo.objects.filter(pk=facts["of"]):
                photo.delete_with_files()


def read_manifest(source: Path) -> dict:
    """Raises `BadBackup` for what is no whole backup of a format that is known here."""
    try:
        manifest = json.loads((source / MANIFEST).read_text())
        seal = manifest.pop("seal")
    except FileNotFoundError:
        raise BadBackup(f"Expected a finished backup with a {MANIFEST}. Received: {source} without it.") from None
    except _DAMAGED:
        raise BadBackup(f"Expected a whole {MANIFEST} in {source}. Received: a damaged one.") from None
    if seal != _seal_of(manifest):
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
        for facts in _read_lines(source / LISTING):
            if facts["is_there"]:
                _check_part(source / FILES / facts["name"], facts["sha256"])


def _check_part(path: Path, sha256: str) -> None:
    try:
        found = _sha256_of(path)
    except OSError as error:
        raise BadBackup(f"Expected {path} in the backup. Received: {error.strerror}.") from error
    if found != sha256:
        raise BadBackup(f"Expected {path} to have SHA-256 {sha256[:16]}…. Received: {found[:16]}…; it is damaged.")


def _migration_targets(manifest: dict) -> list[tuple[str, str]]:
    """The state of the tables that the rows were read from. Raises `BadBackup` where it cannot be had here."""
    executor, wanted = MigrationExecutor(connection), {tuple(node) for node in manifest["migrations"]}
    if further := set(executor.loader.applied_migrations) - wanted:
        names = ", ".join(".".join(node) for node in sorted(further))
        raise BadBackup(f"Expected a database without tables, or with those of the backup. Received: also {names}.")
    known = set(executor.loader.graph.nodes)
    if foreign := wanted - known:
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
    """No person's or dog's row may be there, and no file but those that the backup lists."""
    tables = set(connection.introspection.table_names())
    for model in (apps.get_model("auth.User"), Photo, Import, apps.get_model("shelter.Animal")):
        if model._meta.db_table in tables and (count := model._base_manager.count()):
            name = model._meta.label
            raise BadBackup(f"Expected an empty database. Received: {count} rows of {name}. Nothing was changed.")
    listed = {facts["name"] for facts in _read_lines(source / LISTING)}
    for name in _stored_names():
        if name not in listed and not name.startswith((f"{SET_ASIDE}/", "thumbnails/")):
            raise BadBackup(f"Expected an empty storage. Received: {name} in it. Nothing was changed.")


def _stored_names(folder: str = "") -> Iterator[str]:
    try:
        folders, files = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{name}".lstrip("/") for name in files)
    for name in folders:
        yield from _stored_names(f"{folder}/{name}".lstrip("/"))


def _bring_files_back(source: Path, manifest: dict, written: list[str], summary: Summary) -> None:
    """Write the files, or look for them in the bucket, and read each again."""
    for facts in _read_lines(source / LISTING):
        if not facts["is_there"]:
            continue
        name = facts["name"]
        if manifest["with_files"] and not default_storage.exists(name):
            written.append(name)
            with (source / FILES / name).open("rb") as file:
                default_storage.save(name, File(file, name=name))
        summary.files += 1
        summary.bytes += facts.get("size", 0)
        if facts["sha256"] and (found := _stored_sha256(name)) != facts["sha256"]:
            raise BadBackup(
                f"Expected {name} in the storage with SHA-256 {facts['sha256'][:16]}…. Received: {found or 'nothing'}."
            )


def _stored_sha256(name: str) -> str:
    digest = hashlib.sha256()
    try:
        with default_storage.open(name, "rb") as file:
            for chunk in file.chunks():
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _load_rows(path: Path, models, counts: dict[str, int]) -> int:
    """Put the rows where the migrations left tables, and rows of their own, which go. Returns how many there are."""
    kept = [models.get_model(label) for label in counts]
    with connection.cursor() as cursor:
        for model in kept:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")
    lines = _read_lines(path)
    model, columns, found = None, [], dict.fromkeys(counts, 0)
    while some := list(islice(lines, AT_ONCE)):
        rows = []
        for line in some:
            if isinstance(line, dict):
                _insert(model, columns, rows)
                model, rows = models.get_model(line["model"]), []
                columns = [model._meta.get_field(name) for name in _names(model, line["fields"])]
                continue
            found[model._meta.label] += 1
            rows.append(line)
        _insert(model, columns, rows)
    if found != counts:
        raise BadBackup(f"Expected {sum(counts.values())} rows. Received: {sum(found.values())}.")
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), kept):
            cursor.execute(statement)
    connection.check_constraints()
    return sum(found.values())


def _names(model, attnames: list[str]) -> list[str]:
    by_attname = {column.attname: column.name for column in model._meta.concrete_fields}
    return [by_attname[attname] for attname in attnames]


def _insert(model, columns: list, rows: list[list]) -> None:
    """As they are, without what `save` would add: times, folded names and guards are those of the backup."""
    if not rows:
        return
    made = [
        model(**{column.attname: _value(column, value) for column, value in zip(columns, row, strict=True)})
        for row in rows
    ]
    size = connection.ops.bulk_batch_size(columns, made)
    for start in range(0, len(made), size):
        model._base_manager._insert(made[start : start + size], fields=columns, using=connection.alias, raw=True)


def _value(column, value):
    if value is None or column.get_internal_type() == "JSONField":
        return value
    return (column.target_field if column.is_relation else column).to_python(value)


def _settle(source: Path, models, version: str, model_folder: Path) -> None:
    """What the rows say of things that did not come along."""
    if version:
        models.get_model("breeds.ClassifierVersion").objects.filter(version=version).update(folder=str(model_folder))
    gone = {"original": [], "preview": [], "piece": []}
    for facts in _read_lines(source / LISTING):
        if not facts["is_there"]:
            gone[facts["kind"]].append(facts["of"])
    batches = models.get_model("shelter.Import").objects.filter(pk__in=gone["piece"])
    batches.update(status="failed", error_code="abandoned", lease=None, leased_until=None)
    models.get_model("shelter.Photo").objects.filter(pk__in=gone["preview"]).update(preview="")
