"""Rows of the database as lines of JSON, and back, as they are: independent of the database they came from."""

import base64
import gzip
import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from itertools import groupby, islice
from pathlib import Path

from django.apps import apps
from django.core.management.color import no_style
from django.db import connection

AT_ONCE = 500

# Left out of backups: sessions, login attempts, worker heartbeats.
_LEFT_OUT = {"sessions", "axes", "shelter.WorkerSeen"}


def kept_models() -> list:
    models = apps.get_models(include_auto_created=True)
    return [m for m in models if m._meta.managed and not {m._meta.app_label, m._meta.label} & _LEFT_OUT]


def columns_of(model) -> list:
    return [column for column in model._meta.concrete_fields if not getattr(column, "generated", False)]


def write_rows(path: Path) -> dict[str, int]:
    """All rows, table by table; returns how many each has."""
    counts = {}

    def lines():
        for model in kept_models():
            names, label = [column.attname for column in columns_of(model)], model._meta.label
            yield {"model": label, "fields": names}
            counts[label] = 0
            for row in model._base_manager.order_by("pk").values_list(*names).iterator(chunk_size=AT_ONCE):
                counts[label] += 1
                yield row

    write_lines(path, lines())
    return counts


def write_lines(path: Path, lines: Iterable) -> None:
    with gzip.open(path, "wt", compresslevel=5, encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, default=_as_text) + "\n")


def read_lines(path: Path) -> Iterator:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _as_text(value) -> str:
    """The text from which `to_python` of the column makes the same value, to the last digit."""
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | Decimal):
        return str(value)
    raise TypeError(f"Expected a value that a row may hold. Received: {value!r}.")


def load_rows(path: Path, models, labels: Iterable[str]) -> dict[str, int]:
    """Replace all rows of the tables `labels` by those of the file; returns how many each has.

    `models` is the registry of the migrations that the rows were read under.
    """
    kept = [models.get_model(label) for label in labels]
    with connection.cursor() as cursor:
        for model in kept:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")
    counts = dict.fromkeys(labels, 0)
    for is_header, lines in groupby(read_lines(path), lambda line: isinstance(line, dict)):
        if is_header:
            *_tables_without_rows, header = lines
            model = models.get_model(header["model"])
            by_attname = {column.attname: column for column in model._meta.concrete_fields}
            columns = [by_attname[name] for name in header["fields"]]
            continue
        while rows := list(islice(lines, AT_ONCE)):
            _insert(model, columns, rows)
            counts[model._meta.label] += len(rows)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), kept):
            cursor.execute(statement)
    connection.check_constraints()
    return counts


def _insert(model, columns: list, rows: list[list]) -> None:
    """Without the values that `save` and `bulk_create` would add: times and folded names are those of the backup."""
    made = [
        model(**{column.attname: _value(column, value) for column, value in zip(columns, row, strict=True)})
        for row in rows
    ]
    size = connection.ops.bulk_batch_size(columns, made)
    for start in range(0, len(made), size):
        some = made[start : start + size]
        model._base_manager._insert(some, columns, using=connection.alias, raw=True)  # private: tried with Django 5.2


def _value(column, value):
    if value is None or column.get_internal_type() == "JSONField":
        return value
    return (column.target_field if column.is_relation else column).to_python(value)
