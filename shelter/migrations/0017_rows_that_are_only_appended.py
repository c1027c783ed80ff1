"""What people said, what was activated, changed by hand and removed by rule: the database itself refuses a change.

Deleting stays possible where a deletion takes such rows along (a photo its reviews, an account its lines of the log).
"""

from django.db import migrations

CHANGE, ANY = ("UPDATE",), ("UPDATE", "DELETE")
TABLES = {
    "breeds_review": CHANGE,
    "django_admin_log": CHANGE,
    "breeds_activation": ANY,
    "shelter_removal": ANY,
}


def protect(apps, schema_editor):
    is_postgres = schema_editor.connection.vendor == "postgresql"
    if is_postgres:
        schema_editor.execute(
            """
            CREATE FUNCTION flair_only_appended() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION USING MESSAGE = 'rows of ' || TG_TABLE_NAME || ' are only appended',
                    ERRCODE = 'integrity_constraint_violation';
            END $$
            """
        )
    for table, verbs in TABLES.items():
        for verb in verbs:
            refuse = (
                "EXECUTE FUNCTION flair_only_appended()"
                if is_postgres
                else f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are only appended'); END"
            )
            schema_editor.execute(
                f"CREATE TRIGGER {_name(table, verb)} BEFORE {verb} ON {table} FOR EACH ROW {refuse}"
            )


def release(apps, schema_editor):
    is_postgres = schema_editor.connection.vendor == "postgresql"
    for table, verbs in TABLES.items():
        for verb in verbs:
            schema_editor.execute(f"DROP TRIGGER {_name(table, verb)}" + (f" ON {table}" if is_postgres else ""))
    if is_postgres:
        schema_editor.execute("DROP FUNCTION flair_only_appended()")


def _name(table: str, verb: str) -> str:
    return f"{table}_refuses_{verb.lower()}"


class Migration(migrations.Migration):
    dependencies = [
        ("shelter", "0016_removals"),
        ("breeds", "0012_answers_for_scripts"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [migrations.RunPython(protect, release)]
