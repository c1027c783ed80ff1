"""The API of exports: all photos that some filters find, as one file."""

import json

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action

from shelter.api.listing import READING
from shelter.api.photo_json import with_answers
from shelter.api.problems import Refused, checked
from shelter.models import Photo
from shelter.search.exports import MOST_IN_A_ZIP, download, photo_download

AT_ONCE = 500  # photos that are read from the database together


class ExportQuerySerializer(serializers.Serializer):
    kind = serializers.ChoiceField(
        ["csv", "zip", "jsonl"],
        help_text="a table for spreadsheets; that table with a preview of each photo; one photo object per line",
    )


class ExportAction:
    """For the view set of photos."""

    @extend_schema(
        parameters=[ExportQuerySerializer, READING[0]],
        filters=True,
        responses={
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, examples=[OpenApiExample("csv", "Number,Dog,…")]),
            (200, "application/zip"): OpenApiTypes.BINARY,
            (200, "application/x-ndjson"): OpenApiResponse(
                OpenApiTypes.STR, examples=[OpenApiExample("jsonl", json.dumps({"id": 41, "status": "done"}) + "\n")]
            ),
        },
    )
    @action(detail=False, pagination_class=None)
    def export(self, request):
        """All photos that the filters find, written while they are sent.

        The language of tables is the one that the request accepts. `fields` counts for `jsonl` alone.
        """
        kind = checked(ExportQuerySerializer, request.query_params)["kind"]
        photos = self.filter_queryset(Photo.objects.order_by("-pk"))
        if kind == "zip" and photos.order_by()[: MOST_IN_A_ZIP + 1].count() > MOST_IN_A_ZIP:
            detail = f"A zip has at most {MOST_IN_A_ZIP} photos. Narrow the filters."
            raise Refused(detail, "too_many_photos", field="kind")
        if kind != "jsonl":
            return photo_download(request, photos, kind)
        photos = with_answers(photos, answers=self.wants("prediction"), reviews=self.wants("review"))
        return download(_lines(photos, self.get_serializer(many=True).child), kind)


def _lines(photos, serializer):
    for photo in photos.iterator(AT_ONCE):
        yield json.dumps(serializer.to_representation(photo), ensure_ascii=False).encode() + b"\n"
