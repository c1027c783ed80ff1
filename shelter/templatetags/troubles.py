"""What an administrator should look at, for the first page of the admin."""

from django import template
from django.urls import reverse
from django.utils.translation import gettext as _

from shelter.models import Import, Photo

register = template.Library()


@register.simple_tag
def troubles() -> list[dict]:
    """[{text, count, url}] of what failed or is stuck; nothing that is in order."""
    photos, imports = reverse("admin:shelter_photo_changelist"), reverse("admin:shelter_import_changelist")
    found = [
        (_("photos failed"), Photo.objects.filter(status=Photo.Status.FAILED), f"{photos}?status__exact=failed"),
        (_("photos have waited too long"), Photo.objects.stuck(), f"{photos}?waiting=long"),
        (_("imports failed"), Import.objects.filter(status=Import.Status.FAILED), f"{imports}?status__exact=failed"),
        (_("imports are stuck"), Import.objects.stuck(), f"{imports}?waiting=long"),
    ]
    counted = [{"text": text, "count": rows.count(), "url": url} for text, rows, url in found]
    return [trouble for trouble in counted if trouble["count"]]
