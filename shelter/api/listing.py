"""What every read of the API has in common: pages by cursor, `ordering`, sparse `fields`, and ETags."""

import base64
import hashlib
import json

from django.http import HttpResponseNotModified
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from breeds.numbers import whole_number
from shelter.search.paging import key_of, page_of

PAGE_SIZE, MAX_PAGE_SIZE = 50, 200

FIELDS = OpenApiParameter(
    "fields",
    str,
    description="Only these fields, separated by commas: smaller answers, and quicker where they leave out the answers "
    "of the classifier.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of an earlier answer; 304 while that is still the same.",
)
READING = [FIELDS, IF_NONE_MATCH]


def reads(*, list: str, retrieve: str):
    """Describe the two reads of a view set."""
    return extend_schema_view(
        list=extend_schema(description=list, parameters=READING),
        retrieve=extend_schema(description=retrieve, parameters=READING),
    )


class CursorPages(BasePagination):
    """Pages by key, however far down: `{next, previous, results}`, where the first two are addresses or null.

    A view names its `orderings` (what may be asked -> the column, indexed together with the id) and its
    `default_ordering`. Rows of equal value never repeat nor get lost between pages, as many as they may be.
    """

    def paginate_queryset(self, queryset, request, view=None):
        order = self._order(request, view)
        after, before = self._cursors(request, queryset.model, order)
        self._url = request.build_absolute_uri()
        self._page = page_of(queryset, order, self._size(request), after=after, before=before)
        return self._page.rows

    def get_paginated_response(self, data):
        return Response({
            "next": self._link("a", self._page.following),
            "previous": self._link("b", self._page.previous),
            "results": data,
        })  # fmt: skip

    def _link(self, side: str, cursor: str) -> str | None:
        if not cursor:
            return None
        packed = base64.urlsafe_b64encode(json.dumps([side, cursor]).encode()).decode()
        return replace_query_param(self._url, "cursor", packed)

    def _cursors(self, request, model, order) -> tuple[str, str]:
        given = request.query_params.get("cursor")
        if not given:
            return "", ""
        try:
            side, cursor = json.loads(base64.urlsafe_b64decode(given.encode()))
            key = side in ("a", "b") and key_of(model, [name.removeprefix("-") for name in order], cursor)
        except (ValueError, TypeError, RecursionError):
            key = None
        if not key:
            raise ValidationError({"cursor": "This is no cursor from `next` or `previous` of this list."})
        return (cursor, "") if side == "a" else ("", cursor)

    def _order(self, request, view) -> tuple[str, str]:
        asked = request.query_params.get("ordering") or view.default_ordering
        name, sign = asked.removeprefix("-"), "-" if asked.startswith("-") else ""
        if name not in view.orderings:
            choices = ", ".join(f"{name}, -{name}" for name in view.orderings)
            raise ValidationError({"ordering": f"Expected one of {choices}. Received: {asked[:100]}."})
        return sign + view.orderings[name], sign + "id"

    def _size(self, request) -> int:
        given = request.query_params.get("page_size") or str(PAGE_SIZE)
        size = whole_number(given, MAX_PAGE_SIZE)
        if not size:
            raise ValidationError({"page_size": f"Expected 1 to {MAX_PAGE_SIZE}. Received: {given[:100]}."})
        return size

    def get_paginated_response_schema(self, schema):
        link = {"type": ["string", "null"], "format": "uri", "example": None}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": link | {"example": "http://localhost:8000/api/v1/…/?cursor=WyJhIiwgIls0MSwgNDFdIl0%3D"},
                "previous": link,
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view):
        orderings = [sign + name for name in view.orderings for sign in ("", "-")]
        return [
            _query("cursor", {"type": "string"}, "From `next` or `previous` of an earlier page."),
            _query(
                "page_size", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE}, "Rows."
            ),
            _query(
                "ordering",
                {"type": "string", "enum": orderings, "default": view.default_ordering},
                "What the list is sorted by; with `-`, downwards.",
            ),
        ]


def _query(name: str, schema: dict, description: str) -> dict:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


class ReadViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Lists in pages and single rows. Answers to GET have sparse fields and an ETag of their content."""

    pagination_class = CursorPages
    filterset_class = filterset_fields = None
    orderings = {"id": "id"}
    default_ordering = "-id"
    lookup_value_converter = "int"  # anything else is a 404, not an error

    def only(self) -> set[str] | None:
        """The fields that are asked for; None for all of them."""
        asked = self.request.query_params.get("fields", "") if self.request.method in ("GET", "HEAD") else ""
        return {name.strip() for name in asked.split(",") if name.strip()} or None

    def wants(self, field: str) -> bool:
        only = self.only()
        return only is None or field in only

    def get_serializer(self, *arguments, **options):
        serializer = super().get_serializer(*arguments, **options)
        only = self.only()
        if only:
            fields = getattr(serializer, "child", serializer).fields
            if unknown := only - set(fields):
                shown = ", ".join(sorted(unknown))[:200]
                raise ValidationError({"fields": f"Expected some of {', '.join(fields)}. Received: {shown}."})
            for name in set(fields) - only:
                fields.pop(name)
        return serializer

    def finalize_response(self, request, response, *arguments, **options):
        response = super().finalize_response(request, response, *arguments, **options)
        patch_vary_headers(response, ["Authorization", "Cookie", "Accept-Language"])
        response.headers.setdefault("Cache-Control", "private, no-cache")
        if request.method in ("GET", "HEAD") and response.status_code == 200 and hasattr(response, "render"):
            response.add_post_render_callback(lambda rendered: _unless_unchanged(request, rendered))
        return response


def _unless_unchanged(request, response):
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    response.headers["ETag"] = etag
    earlier = {name.removeprefix("W/") for name in parse_etags(request.headers.get("If-None-Match", ""))}
    if not earlier & {etag, "*"}:
        return response
    kept = {name: response.headers[name] for name in ("ETag", "Cache-Control", "Vary")}
    return HttpResponseNotModified(headers=kept)
