"""Pages of long lists by key instead of by number: the thousandth page costs what the first one does."""

import json
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet


@dataclass(frozen=True)
class Page:
    """Some rows, and the cursors with which the pages beside them are asked for (empty at an end of the list)."""

    rows: list
    previous: str
    following: str

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)


def page_of(rows: QuerySet, order: tuple[str, str], size: int, *, after: str = "", before: str = "") -> Page:
    """One page of `rows` in the order of two columns, the second of them unique, both up or both down.

    `after` and `before` are cursors of an earlier page. A malformed cursor gives the first page.
    """
    descending = order[0].startswith("-")
    names = [name.removeprefix("-") for name in order]
    after_key, before_key = key_of(rows.model, names, after), key_of(rows.model, names, before)
    backwards = bool(before_key) and not after_key
    downwards = descending != backwards
    if key := after_key or before_key:
        rows = rows.filter(_beyond(names, key, smaller=downwards))
    sign = "-" if downwards else ""
    page = list(rows.order_by(*(sign + name for name in names))[: size + 1])
    has_more, page = len(page) > size, page[:size]  # in the direction of the walk
    if not page:
        return Page([], previous="", following="")
    if backwards:
        page.reverse()
        has_previous, has_following = has_more, True
    else:
        has_previous, has_following = bool(key), has_more
    return Page(
        page,
        previous=_cursor(page[0], names) if has_previous else "",
        following=_cursor(page[-1], names) if has_following else "",
    )


def _beyond(names: list[str], key: list, *, smaller: bool) -> Q:
    """(first, second) < key, or > key, in the form of which databases make a range of an index."""
    operator, (first, second), (value, pk) = "lt" if smaller else "gt", names, key
    if first == second:
        return Q(**{f"{second}__{operator}": pk})
    return Q(**{f"{first}__{operator}e": value}) & (
        Q(**{f"{first}__{operator}": value}) | Q(**{f"{second}__{operator}": pk})
    )


def _cursor(row, names: list[str]) -> str:
    return json.dumps([getattr(row, name) for name in names], ensure_ascii=False, default=str)


def key_of(model, names: list[str], cursor: str) -> list | None:
    """Decode a cursor into column values; None if it is malformed."""
    try:
        values = json.loads(cursor)
        if not isinstance(values, list) or len(values) != len(names) or "\0" in cursor or "\\u0000" in cursor:
            return None
        key = [_column(model, name).to_python(value) for name, value in zip(names, values, strict=True)]
    except (ValueError, TypeError, OverflowError, ValidationError):
        return None
    return None if None in key else key


def _column(model, name: str):
    field = model._meta.get_field(name)
    return getattr(field, "output_field", field)  # a generated column takes everything, its own field does not
