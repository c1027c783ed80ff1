"""The group `admin` reads the log of changes and the list of activations."""

from django.db import migrations

RIGHTS = [("admin", "logentry", "view_logentry", "Can view log entry"),
          ("breeds", "activation", "view_activation", "Can view activation")]


def give_rights(apps, schema_editor):
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name="admin")
    for app_label, model, codename, name in RIGHTS:
        content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
            app_label=app_label, model=model
        )
        right, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=codename, defaults={"name": name}
        )
        group.permissions.add(right)


class Migration(migrations.Migration):

    dependencies = [("breeds", "0009_model_life"), ("shelter", "0009_saved_searches_and_facets")]

    operations = [
        migrations.AlterModelOptions(
            name="animal",
            options={"ordering": ["name_folded", "pk"], "verbose_name": "animal", "verbose_name_plural": "animals"},
        ),
        migrations.AlterModelOptions(
            name="apitoken",
            options={"ordering": ["-created_at"], "verbose_name": "API token", "verbose_name_plural": "API tokens"},
        ),
        migrations.RunPython(give_rights, migrations.RunPython.noop),
    ]
