"""Rows that are written once: history is never changed or deleted, only continued.

Some tables have triggers in the database that refuse the same (`shelter.migrations.0017`). Deleting a photo deletes its
reviews, by the database's cascade.
"""

from typing import TypeVar

from django.db import models


class AppendOnlyError(TypeError):
    """Code tried to change or delete a row that is only appended."""

    def __init__(self):
        super().__init__("Rows of this table are only appended: they are never changed or deleted.")


Row = TypeVar("Row", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[Row]):
    def update(self, **fields):
        raise AppendOnlyError

    def bulk_update(self, *arguments, **options):
        raise AppendOnlyError

    def bulk_create(self, objs, *arguments, update_conflicts=False, **options):
        if update_conflicts:
            raise AppendOnlyError
        return super().bulk_create(objs, *arguments, **options)

    def delete(self):
        raise AppendOnlyError

    delete.alters_data = True  # type: ignore[attr-defined]  # Django: no template may call it
    delete.queryset_only = True  # type: ignore[attr-defined]  # Django: no manager has it


class AppendOnly(models.Model):
    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *arguments, **options):
        if not self._state.adding:
            raise AppendOnlyError
        super().save(*arguments, **options)

    def delete(self, *arguments, **options):
        raise AppendOnlyError
