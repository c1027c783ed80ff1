"""The API of photos."""

import django_filters
from django.db.models import Prefetch
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.response import Response
from rest_framework.views import exception_handler

from breeds import lookalikes
from breeds.api import CandidateSerializer, ModelSerializer, ReasonSerializer, ThresholdsSerializer
from breeds.models import Prediction, Review, ReviewRefused
from shelter.animals import Animal
from shelter.models import Photo
from shelter.reviews import NewReviewSerializer, ReviewSerializer
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
            "id", "status", "decision", "label", "group", "probability", "candidates", "reasons", "thresholds",
            "mask", "model", "milliseconds", "error_code", "error", "finished_at",
        ]  # fmt: skip


class PhotoSerializer(serializers.ModelSerializer):
    """`decision` to `source` are the index: what the newest answer, or a person, says of the photo."""

    breed = serializers.SlugRelatedField("slug", read_only=True)
    second_breed = serializers.SlugRelatedField("slug", read_only=True)
    prediction = serializers.SerializerMethodField()
    review = serializers.SerializerMethodField()

    class Meta:
        model = Photo
        fields = [
            "id", "status", "original_name", "sha256", "size", "width", "height", "media_type", "animal",
            "uploaded_at", "updated_at", "decision", "breed", "second_breed", "group", "probability",
            "source", "prediction", "review",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema(responses=PredictionSerializer)
    def get_prediction(self, photo: Photo) -> dict | None:
        newest = max(photo.predictions.all(), key=lambda prediction: prediction.pk, default=None)
        return PredictionSerializer(newest).data if newest else None

    @extend_schema(responses=ReviewSerializer)
    def get_review(self, photo: Photo) -> dict | None:
        withdrawn = {review.withdraws_id for review in photo.reviews.all()}
        standing = (r for r in photo.reviews.all() if r.pk not in withdrawn and r.verdict != Review.Verdict.WITHDRAW)
        newest = max(standing, key=lambda review: review.pk, default=None)
        return ReviewSerializer(newest).data if newest else None


class PhotoUploadSerializer(serializers.Serializer):
    image = serializers.FileField(allow_empty_file=True)
    animal = serializers.PrimaryKeyRelatedField(queryset=Animal.objects.all(), required=False, allow_null=True)


class PhotoFilter(django_filters.FilterSet):
    breed = django_filters.CharFilter("breed__slug")
    updated_since = django_filters.IsoDateTimeFilter("updated_at", lookup_expr="gte")

    class Meta:
        model = Photo
        fields = ["status", "decision", "breed", "group", "source", "animal", "sha256"]


class PhotoCheckSerializer(serializers.Serializer):
    sha256 = serializers.ListField(
        child=serializers.RegexField(r"^[0-9a-f]{64}$"), min_length=1, max_length=1000, help_text="of files as they lie"
    )


class KnownPhotoSerializer(serializers.Serializer):
    sha256 = serializers.CharField()
    id = serializers.IntegerField()


class PhotoCheckAnswerSerializer(serializers.Serializer):
    known = KnownPhotoSerializer(many=True)


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


class RefusedReview(APIException):
    status_code = 400


class PhotoViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    queryset = Photo.objects.select_related("breed", "second_breed").prefetch_related(
        Prefetch("predictions", Prediction.objects.without_vectors().select_related("version")),
        "reviews__breed",
        "reviews__second_breed",
        "reviews__by",
    )
    scope = None
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

    @extend_schema(
        request=NewReviewSerializer,
        responses={200: ReviewSerializer, 201: ReviewSerializer, 400: OpenApiResponse(description="not a review")},
    )
    @action(["post"], detail=True, scope="review", parser_classes=[JSONParser, FormParser, MultiPartParser])
    def reviews(self, request, pk):
        """Append what a person says of the photo. The same again of the same person: 200 and the review known."""
        if not request.user.has_perm("breeds.add_review"):
            raise PermissionDenied("Expected the account of somebody who may review. Received: another.")
        photo = self.get_object()
        form = NewReviewSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        try:
            recorded = Review.objects.record(photo, by=request.user, **form.validated_data)
        except ReviewRefused as error:
            if error.code == "photo_deleted":
                raise NotFound from error
            raise RefusedReview(str(error), code=error.code) from error
        return Response(ReviewSerializer(recorded.review).data, status=201 if recorded.is_new else 200)

    @extend_schema(request=PhotoCheckSerializer, responses={200: PhotoCheckAnswerSerializer})
    @action(detail=False, methods=["post"], parser_classes=[JSONParser], pagination_class=None, filter_backends=[])
    def check(self, request):
        """Which of these files need not be sent, because their bytes are here already?"""
        form = PhotoCheckSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        asked = dict.fromkeys(form.validated_data["sha256"])
        for pk, *digests in Photo.objects.with_content(*asked).values_list("pk", "sha256", "stored_sha256"):
            asked |= {digest: pk for digest in digests if digest in asked}
        return Response({"known": [{"sha256": digest, "id": pk} for digest, pk in asked.items() if pk]})
