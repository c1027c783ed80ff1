"""The groups `reviewer` and `admin` may work through the review queue."""

from django.db import migrations


def give_right(apps, schema_editor):
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="breeds", model="review"
    )
    right, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename="use_review_queue", defaults={"name": "Can work through the review queue"}
    )
    for group in apps.get_model("auth", "Group").objects.filter(name__in=["reviewer", "admin"]):
        group.permissions.add(right)


class Migration(migrations.Migration):

    dependencies = [("breeds", "0008_review_turns"), ("shelter", "0006_imports")]

    operations = [migrations.RunPython(give_right, migrations.RunPython.noop)]
