"""The API of imports: an archive in, progress and a receipt for every file out."""

import django_filters
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.response import Response

from shelter.api.idempotency import IDEMPOTENCY_KEY, once
from shelter.api.listing import READING, ReadViewSet, reads
from shelter.api.problems import BoundedJSONParser, ProblemSerializer, Refused, checked
from shelter.intake.importing import check_archive_size, receive_part, receive_whole
from shelter.intake.refusals import refusal
from shelter.intake.uploads import receipt_of
from shelter.models import Import, ImportItem, imports

IMPORT_EXAMPLE = {
    "id": 3,
    "kind": "archive",
    "status": "running",
    "name": "refuge-2019.zip",
    "user": "anne",
    "size": 20_000_000,
    "received": 3,
    "part_bytes": 8_000_000,
    "part_count": 3,
    "counts": {"accepted": 120, "known": 4, "refused": 1, "waiting": 75},
    "unanswered": 30,
    "seconds_left": 60,
    "error_code": "",
    "error": "",
    "created_at": "2026-03-03T09:00:00+01:00",
    "updated_at": "2026-03-03T09:01:00+01:00",
    "started_at": "2026-03-03T09:00:20+01:00",
    "finished_at": None,
}
ITEM_EXAMPLE = {
    "id": 77,
    "path": "Rex/coupee.jpg",
    "dog": "Rex",
    "outcome": "refused",
    "code": "truncated",
    "detail": "« coupee.jpg » est incomplet : il manque une partie de la photo. Envoyez-la de nouveau.",
    "photo": None,
    "settled_at": "2026-03-03T09:00:41+01:00",
}


class CountsSerializer(serializers.Serializer):
    """Files by what became of them."""

    accepted = serializers.IntegerField()
    known = serializers.IntegerField()
    refused = serializers.IntegerField()
    waiting = serializers.IntegerField()


@extend_schema_serializer(component_name="Import", examples=[OpenApiExample("At work", IMPORT_EXAMPLE)])
class ImportSerializer(serializers.ModelSerializer):
    """What was sent together: progress in `counts`; what became of each file under `items/`.

    An archive comes whole, or announced by name and size and then in `part_count` pieces of `part_bytes` each (the last
    may be shorter), numbered from 0: `received` is the number of the next one. `error` says in `failed` why.
    `unanswered`: photos that were stored and that the classifier has not looked at yet.
    """

    user = serializers.CharField(source="user.username", default=None, allow_null=True)
    part_bytes = serializers.SerializerMethodField()
    part_count = serializers.IntegerField()
    counts = CountsSerializer()
    unanswered = serializers.IntegerField()
    seconds_left = serializers.SerializerMethodField(help_text="about; null while nobody could say")
    error = serializers.SerializerMethodField()
    updated_at = serializers.DateTimeField(source="changed_at")

    class Meta:
        model = Import
        fields = [
            "id", "kind", "status", "name", "user", "size", "received", "part_bytes", "part_count", "counts",
            "unanswered", "seconds_left", "error_code", "error", "created_at", "updated_at", "started_at",
            "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_part_bytes(self, batch: Import) -> int:
        return imports.PART_BYTES

    def get_seconds_left(self, batch: Import) -> int | None:
        return None if batch.is_over or not batch.minutes_left else 60 * batch.minutes_left

    def get_error(self, batch: Import) -> str:
        return refusal(batch.error_code, batch.name) if batch.status == Import.Status.FAILED else ""


@extend_schema_serializer(
    component_name="NewImport",
    examples=[
        OpenApiExample(
            "An archive that will come in pieces",
            {"name": "refuge-2019.zip", "size": 20_000_000, "stamp": "1551600000"},
        )
    ],
)  # fmt: skip
class NewImportSerializer(serializers.Serializer):
    """The same name, size and `stamp` (the time of the file, for example) find the same import until it is whole."""

    name = serializers.CharField(max_length=255)
    size = serializers.IntegerField(min_value=1, help_text="bytes of the whole archive")
    stamp = serializers.CharField(max_length=50, required=False, allow_blank=True)


class WholeArchiveSerializer(serializers.Serializer):
    archive = serializers.FileField(help_text="a zip, as large as one request may be")


class PieceSerializer(serializers.Serializer):
    part = serializers.FileField()


@extend_schema_serializer(component_name="ImportItem", examples=[OpenApiExample("A refused file", ITEM_EXAMPLE)])
class ImportItemSerializer(serializers.ModelSerializer):
    """The receipt of one file. `detail` is for people; `code` says why it was refused; `photo` is its id."""

    detail = serializers.SerializerMethodField()
    photo = serializers.PrimaryKeyRelatedField(read_only=True, allow_null=True)

    class Meta:
        model = ImportItem
        fields = ["id", "path", "dog", "outcome", "code", "detail", "photo", "settled_at"]
        read_only_fields = fields

    def get_detail(self, item: ImportItem) -> str:
        return receipt_of(item).message


class ImportFilter(django_filters.FilterSet):
    user = django_filters.CharFilter("user__username", max_length=150, label="name of the account")
    updated_since = django_filters.IsoDateTimeFilter("changed_at", lookup_expr="gte")

    class Meta:
        model = Import
        fields = ["kind", "status"]


class OctetParser(BaseParser):
    """The bytes of one piece as they are (`curl -T`)."""

    media_type = "application/octet-stream"

    def parse(self, stream, media_type=None, parser_context=None):
        return {"part": ContentFile(stream.read(imports.PART_BYTES + 1), name="part")}


@reads(list="What came in at once, the newest first.", retrieve="The progress of one import.")
class ImportViewSet(ReadViewSet):
    queryset = Import.objects.select_related("user")
    serializer_class = ImportSerializer
    filterset_class = ImportFilter
    parser_classes = [BoundedJSONParser, MultiPartParser]
    orderings = {"id": "id", "updated_at": "changed_at"}

    @extend_schema(
        request={"application/json": NewImportSerializer, "multipart/form-data": WholeArchiveSerializer},
        parameters=[IDEMPOTENCY_KEY],
        responses={201: ImportSerializer},
    )
    @once
    def create(self, request):
        """A zip, whole (multipart `archive`); or the announcement of one that comes in pieces (JSON)."""
        is_whole = request.content_type.startswith("multipart/")
        given = checked(WholeArchiveSerializer if is_whole else NewImportSerializer, request.data)
        try:
            check_archive_size(given["archive"].size if is_whole else given["size"])
        except ValidationError as error:
            raise Refused(error.message, "bad_archive", field="archive" if is_whole else "size") from error
        if is_whole:
            batch = receive_whole(request.user, given["archive"])
        else:
            batch = Import.objects.receive(request.user, **given)
        return Response(self.get_serializer(self.get_queryset().get(pk=batch.pk)).data, status=201)

    @extend_schema(
        request={"application/octet-stream": OpenApiTypes.BINARY, "multipart/form-data": PieceSerializer},
        responses={200: ImportSerializer, 409: OpenApiResponse(ProblemSerializer, "another piece is awaited")},
        filters=False,
    )
    @action(
        ["put"], detail=True, url_path="parts/<int:number>", parser_classes=[OctetParser, MultiPartParser],
        filterset_class=None, pagination_class=None,
    )  # fmt: skip
    def part(self, request, pk, number):
        """One piece of an archive of one's own. A piece that is there already may come again."""
        batch = self.get_queryset().filter(pk=pk, user=request.user, kind=Import.Kind.ARCHIVE).first()
        if batch is None:
            raise NotFound
        if not receive_part(batch, number, checked(PieceSerializer, request.data)["part"]):
            detail = f"Expected piece {batch.received} of the announced size. Received: piece {number}."
            raise Refused(detail, "other_part_awaited", 409, field="number", received=batch.received)
        return Response(self.get_serializer(batch).data)

    @extend_schema(parameters=READING, responses={200: ImportItemSerializer(many=True)})
    @action(
        detail=True, filterset_class=None, filterset_fields=["outcome", "code", "dog", "photo"],
        serializer_class=ImportItemSerializer, queryset=ImportItem.objects.none(),
        orderings={"id": "id"}, default_ordering="id",
    )  # fmt: skip
    def items(self, request, pk):
        """What became of each file, in the order in which they were listed."""
        if not Import.objects.filter(pk=pk).exists():
            raise NotFound
        items = self.filter_queryset(ImportItem.objects.filter(batch=pk).select_related("photo__animal"))
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(items), many=True).data)
