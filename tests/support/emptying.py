"""Empty all tables, those of rows that are only appended too."""

from django.apps import apps
from django.db import connection, transaction


def empty_tables() -> None:
    tables = [model._meta.db_table for model in apps.get_models(include_auto_created=True)]
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE {', '.join(tables)}; SET CONSTRAINTS ALL DEFERRED")
        else:
            _delete_rows(cursor, tables)


def _delete_rows(cursor, tables: list[str]) -> None:
    """Without the triggers that refuse it; SQLite cannot switch them off."""
    cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%_refuses_%'")
    triggers = cursor.fetchall()
    for name, _sql in triggers:
        cursor.execute(f"DROP TRIGGER {name}")
    for table in tables:
        cursor.execute(f"DELETE FROM {table}")
    for _name, sql in triggers:
        cursor.execute(sql)
