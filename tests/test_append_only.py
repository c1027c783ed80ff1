"""Rows that tell who did what: neither the admin, nor the API, nor code, nor SQL by hand changes them."""

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, connection, transaction
from django.urls import reverse
from django.utils import timezone

from breeds.audit import log_change
from breeds.models import Activation, AppendOnlyError, Review
from shelter.models import Removal
from tests.support.factories import a_review, an_answered_photo


@pytest.fixture
def rows(anne, chloe, classifier, monkeypatch):
    """One of each kind, by its table."""
    photo = an_answered_photo(anne)
    review = a_review(photo, anne, "not_a_dog")
    log_change(anne, [photo], "Filed")
    return {
        "breeds_review": review,
        "django_admin_log": LogEntry.objects.get(),
        "breeds_activation": Activation.objects.create(version=classifier.row(), by=chloe),
        "shelter_removal": Removal.objects.create(rule="receipts", days=1, object_id=1, of=timezone.now()),
    }


def refused(sql: str, *values) -> bool:
    with pytest.raises(IntegrityError, match="only appended"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, values)
    return True


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("breeds_review", "verdict"),
        ("django_admin_log", "change_message"),
        ("breeds_activation", "by_id"),
        ("shelter_removal", "rule"),
    ],
)
def test_the_database_itself_refuses_a_change(rows, table, column):
    """By whatever way it comes, and after every migration: SQLite drops triggers when it makes a table anew."""
    assert refused(f"UPDATE {table} SET {column} = {column} WHERE id = %s", rows[table].pk)
    if table in ("breeds_activation", "shelter_removal"):
        assert refused(f"DELETE FROM {table} WHERE id = %s", rows[table].pk)


@pytest.mark.parametrize(
    ("table", "field", "error"),
    [
        ("django_admin_log", "change_message", IntegrityError),
        ("breeds_activation", "at", AppendOnlyError),
        ("breeds_review", "reason", AppendOnlyError),
        ("shelter_removal", "days", AppendOnlyError),
    ],
)
def test_code_changes_no_row_of_history(rows, table, field, error):
    row = rows[table]
    with pytest.raises(error), transaction.atomic():
        row.save()
    with pytest.raises(error), transaction.atomic():
        type(row).objects.update(**{field: getattr(row, field)})


def test_the_admin_and_the_api_have_no_way_to_change_them(client, chloe, rows, api):
    client.force_login(chloe)
    for row in rows.values():
        name = f"admin:{row._meta.app_label}_{row._meta.model_name}"
        for action in ("change", "delete"):
            assert client.post(reverse(f"{name}_{action}", args=[row.pk]), {"post": "yes"}).status_code == 403
        chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        client.post(reverse(f"{name}_changelist"), chosen)
        assert type(row).objects.filter(pk=row.pk).exists()
    photo = rows["breeds_review"].photo_id
    for method in ("put", "patch", "delete"):
        assert api(method, f"/photos/{photo}/reviews/", scopes=["review"]).status_code == 405


def test_a_photo_takes_its_reviews_along(rows):
    rows["breeds_review"].photo.delete()
    assert not Review.objects.exists()


def test_an_account_takes_its_lines_of_the_log_along_where_nothing_else_holds_it(rows, bruno):
    log_change(bruno, [rows["breeds_review"].photo], "Filed")
    bruno.delete()
    assert LogEntry.objects.count() == 1
