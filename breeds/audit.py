"""Who changed what: one log for the admin and the pages, kept in the admin's own table.

What people say of photos and what classifiers answered need no line here: those rows are never changed, and are their
own history.
"""

from collections.abc import Collection

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.admin.options import ModelAdmin
from django.utils.translation import override


def log_change(user, objects: Collection, message: str | list) -> None:
    """One line for each of `objects`, in the words of `message` or as `changed_values` puts it; one query."""
    if objects:
        LogEntry.objects.log_actions(user.pk, objects, CHANGE, message)


def log_addition(user, row) -> None:
    LogEntry.objects.log_actions(user.pk, [row], ADDITION, [{"added": {}}], single_object=True)


def changed_values(form) -> list[dict]:
    """What a valid form changes, with the values of before and after, as the log keeps it; names in English."""
    values = []
    for name in form.changed_data:
        with override(None):
            label = str(form.fields[name].label or name)
        before, after = _shown(form, name, form[name].initial), _shown(form, name, form.cleaned_data.get(name))
        values.append(f"{label}: “{before}” → “{after}”" if name != "password" else label)
    return [{"changed": {"fields": values}}] if values else []


def _shown(form, name: str, value) -> str:
    """A value as a person would read it: rows by their name instead of their number."""
    queryset = getattr(form.fields[name], "queryset", None)
    if queryset is not None and value not in (None, "") and not hasattr(value, "_meta"):
        many = value if isinstance(value, list | tuple) or hasattr(value, "model") else [value]
        keys = [getattr(one, "pk", one) for one in many]
        value = ", ".join(str(row) for row in queryset.model._default_manager.filter(pk__in=keys))
    return "" if value is None else str(value)[:200]


class AuditedAdmin(ModelAdmin):
    """An admin whose history says what each field was before."""

    def construct_change_message(self, request, form, formsets, add=False):
        if add or not form.changed_data:
            return super().construct_change_message(request, form, formsets, add)
        return changed_values(form)
