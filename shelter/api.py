"""The API of photos."""

import django_filters
from django.db.models import Prefetch
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.views import exception_handler

from breeds import lookalikes
from breeds.api import CandidateSerializer, ModelSerializer, ReasonSerializer, ThresholdsSerializer
from breeds.models import Prediction
from shelter.models import Animal, Photo
from shelter.uploads import Outcome, upload_photo


def json_error(exc, context):
    """Every error as JSON with a stable `code` and a `detail`; what is wrong with single fields under `errors`."""
    response = exception_handler(exc, context)
    if response is None:
        return None
    if isinstance(exc, serializers.ValidationError):
        response.data = {"code": "invalid", "detail": "Expected other fields.", "errors": response.data}
    elif isinstance(exc, APIException):
        codes = exc.get_codes()
        response.data = {"code": codes if isinstance(codes, str) else "error", "detail": str(exc.detail)}
    else:
        response.data = {"code": "not_found" if response.status_code == 404 else "forbidden", **response.data}
    return response


class NewestFirst(CursorPagination):
    ordering = "-pk"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"


class PredictionSerializer(serializers.ModelSerializer):
    candidates = CandidateSerializer(many=True)
    reasons = ReasonSerializer(many=True)
    thresholds = ThresholdsSerializer(source="version.thresholds", allow_null=True)
    mask = serializers.ListField(source="version.mask", child=serializers.CharField(), allow_null=True)
    model = ModelSerializer(source="version", allow_null=True)

    class Meta:
        model = Prediction
        fields = [
            "status", "decision", "label", "group", "probability", "candidates", "reasons", "thresholds", "mask",
            "model", "milliseconds", "error_code", "error", "finished_at",
        ]  # fmt: skip


class PhotoSerializer(serializers.ModelSerializer):
    """`decision` to `source` are the index: what the newest answer, or a person, says of the photo."""

    breed = serializers.SlugRelatedField("slug", read_only=True)
    prediction = serializers.SerializerMethodField()

    class Meta:
        model = Photo
        fields = [
            "id", "status", "original_name", "sha256", "size", "width", "height", "media_type", "animal",
            "uploaded_at", "updated_at", "decision", "breed", "group", "probability", "source", "prediction",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema(responses=PredictionSerializer)
    def get_prediction(self, photo: Photo) -> dict | None:
        newest = max(photo.predictions.all(), key=lambda prediction: prediction.pk, default=None)
        return PredictionSerializer(newest).data if newest else None


class PhotoUploadSerializer(serializers.Serializer):
    image = serializers.FileField(allow_empty_file=True)
    animal = serializers.PrimaryKeyRelatedField(queryset=Animal.objects.all(), required=False, allow_null=True)


class PhotoFilter(django_filters.FilterSet):
    breed = django_filters.CharFilter("breed__slug")
    updated_since = django_filters.IsoDateTimeFilter("updated_at", lookup_expr="gte")

    class Meta:
        model = Photo
        fields = ["status", "decision", "breed", "group", "source", "animal", "sha256"]


class RefusedPhoto(APIException):
    status_code = 400


class SimilarQuerySerializer(serializers.Serializer):
    limit = serializers.IntegerField(min_value=1, max_value=50, default=12)


class SimilarPhotoSerializer(serializers.Serializer):
    """`similarity`: cosine of the classifier's features, 1 for the same."""

    similarity = serializers.FloatField()
    photo = PhotoSerializer()


class SimilarPhotosSerializer(serializers.Serializer):
    """The nearest first, by the features of `model`, of the `searched` photos that it has answered."""

    model = ModelSerializer()
    searched = serializers.IntegerField()
    results = SimilarPhotoSerializer(many=True)


class NotAnswered(APIException):
    status_code = 409
    default_code = "not_answered"
    default_detail = "Expected a photo that the classifier has answered. Received: one that it has not."


class PhotoViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    queryset = Photo.objects.select_related("breed").prefetch_related(
        Prefetch("predictions", Prediction.objects.without_vectors().select_related("version"))
    )
    serializer_class = PhotoSerializer
    filterset_class = PhotoFilter
    pagination_class = NewestFirst
    parser_classes = [MultiPartParser]
    lookup_value_converter = "int"  # anything else is a 404, not an error

    @extend_schema(
        request={"multipart/form-data": PhotoUploadSerializer},
        responses={200: PhotoSerializer, 201: PhotoSerializer, 400: OpenApiResponse(description="not a photo")},
    )
    def create(self, request):
        """Store a photo and queue it: 201 and `pending`. The same bytes again: 200 and the photo known by them."""
        form = PhotoUploadSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        receipt = upload_photo(
            form.validated_data["image"], user=request.user, animal=form.validated_data.get("animal")
        )
        if receipt.outcome == Outcome.REFUSED:
            raise RefusedPhoto(receipt.message, code=receipt.code)
        photo = self.get_queryset().get(pk=receipt.photo.pk)
        return Response(PhotoSerializer(photo).data, status=201 if receipt.outcome == Outcome.ACCEPTED else 200)

    @extend_schema(parameters=[SimilarQuerySerializer], responses={200: SimilarPhotosSerializer})
    @action(detail=True, filterset_class=None, pagination_class=None)
    def similar(self, request, pk):
        """The photos that look most like this one: candidates for the same dog. 409 while it has no answer."""
        query = SimilarQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        photo = self.get_object()
        found = lookalikes.photos_like(photo.pk, query.validated_data["limit"])
        if found is None:
            raise NotAnswered
        photos = self.get_queryset().in_bulk([lookalike.photo for lookalike in found.lookalikes])
        results = [
            {"similarity": similarity, "photo": photos[pk]} for pk, similarity in found.lookalikes if pk in photos
        ]
        answer = {"model": found.version, "searched": found.searched, "results": results}
        return Response(SimilarPhotosSerializer(answer).data)
