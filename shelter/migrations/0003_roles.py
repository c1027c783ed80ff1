"""The groups `staff`, `reviewer` and `admin`, and what each may do; accounts of before become staff."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

RIGHTS = {
    "staff": ["breeds.add_review"],
    "reviewer": ["breeds.add_review", "breeds.withdraw_any_review"],
}
ADMIN_APPS = ["auth", "breeds", "shelter"]


def make_groups(apps, schema_editor):
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for label in ADMIN_APPS:  # permissions come after all migrations, which is too late here
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0, using=schema_editor.connection.alias)
        config.models_module = None
    for name, rights in RIGHTS.items():
        group, _ = Group.objects.get_or_create(name=name)
        for right in rights:
            app, codename = right.split(".")
            group.permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    admin, _ = Group.objects.get_or_create(name="admin")
    admin.permissions.add(*Permission.objects.filter(content_type__app_label__in=ADMIN_APPS))
    staff = Group.objects.get(name="staff")
    for user in apps.get_model("auth", "User").objects.filter(is_active=True):
        user.groups.add(staff)


class Migration(migrations.Migration):

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("breeds", "0005_reviews"),
        ("shelter", "0002_photo_second_breed"),
    ]

    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
