"""The API of photos."""

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.response import Response

from breeds import lookalikes
from breeds.answers import MODEL_EXAMPLE, ModelSerializer, PredictionSerializer, represent
from breeds.models import Breed, Prediction
from shelter.api.listing import READING, ReadViewSet
from shelter.api.photo_exports import ExportAction
from shelter.api.photo_json import PHOTO_EXAMPLE, SHA256_EXAMPLE, PhotoSerializer, just_stored, with_answers
from shelter.api.photo_reviews import ReviewActions
from shelter.api.predict import ImageSerializer
from shelter.api.problems import BoundedJSONParser, ProblemSerializer, Refused, checked, problem
from shelter.api.waiting import WAIT, requested_wait, wait_for_answers
from shelter.intake.uploads import Outcome, Receipt, upload_photo
from shelter.models import Animal, Photo

MOST_IN_A_BATCH = 100  # files in one request


class PhotoUploadSerializer(ImageSerializer):
    """`image` for one photo, `images` for several in one go."""

    animal = serializers.PrimaryKeyRelatedField(
        queryset=Animal.objects.all(), required=False, allow_null=True, help_text="the record to file it under"
    )


class PhotoBatchSerializer(serializers.Serializer):
    images = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True), min_length=1, max_length=MOST_IN_A_BATCH
    )
    animal = serializers.PrimaryKeyRelatedField(queryset=Animal.objects.all(), required=False, allow_null=True)


class FileResultSerializer(serializers.Serializer):
    """What became of one file: `status` is what it would have had alone. A refused one has a `problem`, no `photo`."""

    file = serializers.CharField()
    status = serializers.ChoiceField([200, 201, 400])
    outcome = serializers.ChoiceField(["accepted", "known", "refused"])
    photo = PhotoSerializer(allow_null=True)
    problem = ProblemSerializer(allow_null=True)


@extend_schema_serializer(
    component_name="BatchAnswer",
    examples=[
        OpenApiExample(
            "One new photo, one that is cut short",
            status_codes=["207"],
            value={
                "results": [
                    {
                        "file": "rex.jpg", "status": 201, "outcome": "accepted", "photo": PHOTO_EXAMPLE, "problem": None
                    },
                    {
                        "file": "coupee.jpg", "status": 400, "outcome": "refused", "photo": None,
                        "problem": problem(400, "truncated", "« coupee.jpg » est incomplet…", file="coupee.jpg"),
                    },
                ]
            },
        )
    ],
)  # fmt: skip
class BatchAnswerSerializer(serializers.Serializer):
    """A result per file, in the order in which they came."""

    results = FileResultSerializer(many=True)


@extend_schema_serializer(examples=[OpenApiExample("File it under a dog", {"animal": 12}, request_only=True)])
class PhotoFilingSerializer(serializers.Serializer):
    animal = serializers.PrimaryKeyRelatedField(
        queryset=Animal.objects.all(), allow_null=True, help_text="the record to file it under; null: under none"
    )


class PhotoFilter(django_filters.FilterSet):
    breed = django_filters.CharFilter(method="of_breed", label="label of a breed; crosses with it are found, too")
    second_breed = django_filters.CharFilter(method="of_second_breed", label="label of the other breed of a cross")
    updated_since = django_filters.IsoDateTimeFilter("updated_at", lookup_expr="gte")
    uploaded_since = django_filters.IsoDateTimeFilter("uploaded_at", lookup_expr="gte")
    uploaded_before = django_filters.IsoDateTimeFilter("uploaded_at", lookup_expr="lt")
    uploaded_by = django_filters.CharFilter("uploaded_by__username", max_length=150, label="name of the account")
    probability_min = django_filters.NumberFilter("probability", lookup_expr="gte", min_value=0, max_value=1)
    probability_max = django_filters.NumberFilter("probability", lookup_expr="lt", min_value=0, max_value=2)
    filed = django_filters.BooleanFilter("animal", lookup_expr="isnull", exclude=True, label="under some record?")
    q = django_filters.CharFilter(
        method="of_words", max_length=100, label="words in the breed (any name of it), the group or the dog's name"
    )

    class Meta:
        model = Photo
        fields = ["status", "decision", "breed", "group", "source", "animal", "sha256"]

    def of_breed(self, photos, name, value):
        return photos.of_breed(_breed_key(value))

    def of_second_breed(self, photos, name, value):
        return photos.filter(second_breed=_breed_key(value))

    def of_words(self, photos, name, value):
        return photos.search(value)


def _breed_key(label: str) -> int:
    """The key of the breed with this label; 0, which is no breed's key, for an unknown label."""
    return Breed.objects.filter(slug=label[:50]).values_list("pk", flat=True).first() or 0


@extend_schema_serializer(examples=[OpenApiExample("Two files", {"sha256": [SHA256_EXAMPLE, "0" * 64]})])
class PhotoCheckSerializer(serializers.Serializer):
    sha256 = serializers.ListField(
        child=serializers.RegexField(r"^[0-9a-f]{64}$"), min_length=1, max_length=1000, help_text="of files as they lie"
    )


class KnownPhotoSerializer(serializers.Serializer):
    sha256 = serializers.CharField()
    id = serializers.IntegerField()


@extend_schema_serializer(examples=[OpenApiExample("One is here", {"known": [{"sha256": SHA256_EXAMPLE, "id": 41}]})])
class PhotoCheckAnswerSerializer(serializers.Serializer):
    known = KnownPhotoSerializer(many=True)


class SimilarQuerySerializer(serializers.Serializer):
    limit = serializers.IntegerField(min_value=1, max_value=50, default=12)


class SimilarPhotoSerializer(serializers.Serializer):
    """`similarity`: cosine of the classifier's features, 1 for the same."""

    similarity = serializers.FloatField()
    photo = PhotoSerializer()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One photo that looks alike",
            {"model": MODEL_EXAMPLE, "searched": 5213, "results": [{"similarity": 0.93, "photo": PHOTO_EXAMPLE}]},
        )
    ]
)
class SimilarPhotosSerializer(serializers.Serializer):
    """The nearest first, by the features of `model`, of the `searched` photos that it has answered."""

    model = ModelSerializer()
    searched = serializers.IntegerField()
    results = SimilarPhotoSerializer(many=True)


class PhotoViewSet(ReviewActions, ExportAction, ReadViewSet):
    queryset = Photo.objects.all()
    scope = None
    serializer_class = PhotoSerializer
    filterset_class = PhotoFilter
    orderings = {"id": "id", "updated_at": "updated_at", "probability": "sureness"}
    parser_classes = [MultiPartParser]

    def get_queryset(self):
        return with_answers(Photo.objects.all(), answers=self.wants("prediction"), reviews=self.wants("review"))

    @extend_schema(parameters=READING)
    def list(self, request):
        """Photos, the newest first.

        To follow what changes, ask with `ordering=updated_at`, and as `updated_since` a minute before the `updated_at`
        of the last one: a change may become visible a little later than its time says.
        """
        return super().list(request)

    @extend_schema(parameters=[*READING, WAIT])
    def retrieve(self, request, pk):
        """One photo with the classifier's newest answer and what people said."""
        seconds = requested_wait(request)
        if seconds and Photo.objects.filter(pk=pk).exists():
            wait_for_answers([pk], seconds)
        return super().retrieve(request, pk)

    @extend_schema(
        request={"multipart/form-data": PhotoUploadSerializer},
        parameters=[WAIT],
        responses={
            200: OpenApiResponse(PhotoSerializer, "these bytes are here already"),
            201: OpenApiResponse(PhotoSerializer, "stored and queued"),
            207: OpenApiResponse(BatchAnswerSerializer, "several files: a result for each"),
        },
    )
    def create(self, request):
        """Store a photo and queue it: 201 and `pending`. The same bytes again: 200 and the photo known by them.

        Safe to repeat at any time, also by several at once. Several files at once: send each as `images`; the answer
        is 207 with a result per file, and one bad file never costs another.
        """
        seconds = requested_wait(request)
        if "images" in request.data or len(request.FILES.getlist("image")) > 1:
            return self._create_all(request, seconds)
        given = checked(PhotoUploadSerializer, request.data)
        receipt = upload_photo(given["image"], user=request.user, animal=given.get("animal"))
        if receipt.outcome == Outcome.REFUSED:
            raise Refused(receipt.message, receipt.code, field="image", file=receipt.name)
        if receipt.prediction and not seconds:
            return Response(represent(PhotoSerializer, just_stored(receipt.photo, receipt.prediction)), status=201)
        wait_for_answers([receipt.photo.pk], seconds)
        photo = get_object_or_404(self.get_queryset(), pk=receipt.photo.pk)  # somebody may delete it meanwhile
        return Response(represent(PhotoSerializer, photo), status=201 if receipt.outcome == Outcome.ACCEPTED else 200)

    def _create_all(self, request, seconds: int) -> Response:
        name = "images" if "images" in request.data else "image"
        data = {"images": request.data.getlist(name)}
        if request.data.get("animal"):
            data["animal"] = request.data["animal"]
        given = checked(PhotoBatchSerializer, data)
        receipts = [upload_photo(file, user=request.user, animal=given.get("animal")) for file in given["images"]]
        here = [receipt.photo.pk for receipt in receipts if receipt.photo]
        wait_for_answers(here, seconds)
        photos = self.get_queryset().in_bulk(here)
        results = [_file_result(receipt, photos) for receipt in receipts]
        return Response({"results": results}, status=207)

    @extend_schema(request=PhotoFilingSerializer, responses={200: PhotoSerializer})
    def partial_update(self, request, pk):
        """File the photo under a record, or under none."""
        photo = self.get_object()
        animal = checked(PhotoFilingSerializer, request.data)["animal"]
        Photo.objects.filter(pk=photo.pk).file_under(animal)
        return Response(represent(PhotoSerializer, self.get_object()))

    def get_parsers(self):
        is_filing = self.request is not None and self.request.method == "PATCH"
        return [BoundedJSONParser(), FormParser()] if is_filing else super().get_parsers()

    @extend_schema(parameters=READING, responses={200: PredictionSerializer(many=True)}, filters=False)
    @action(detail=True, filterset_class=None, orderings={"id": "id"}, serializer_class=PredictionSerializer)
    def predictions(self, request, pk):
        """What every version has said of this photo, the newest first."""
        photo = self._photo(pk)
        answers = Prediction.objects.without_vectors().filter(photo=photo).select_related("version")
        page = self.paginate_queryset(answers)
        for prediction in page:
            prediction.reviewed = photo.standing_review
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def _photo(self, pk: int) -> Photo:
        photo = with_answers(Photo.objects.filter(pk=pk), answers=False).first()
        if photo is None:
            raise NotFound
        return photo

    @extend_schema(parameters=[SimilarQuerySerializer, READING[1]], responses={200: SimilarPhotosSerializer})
    @action(detail=True, filterset_class=None, pagination_class=None)
    def similar(self, request, pk):
        """The photos that look most like this one: candidates for the same dog. 409 while it has no answer."""
        limit = checked(SimilarQuerySerializer, request.query_params)["limit"]
        nearest = lookalikes.photos_like(self.get_object().pk, limit)
        if nearest is None:
            detail = "The classifier has not answered this photo yet."
            raise Refused(detail, "not_answered", 409)
        photos = with_answers(Photo.objects.all()).in_bulk([lookalike.photo for lookalike in nearest.lookalikes])
        results = [
            {"similarity": similarity, "photo": photos[pk]} for pk, similarity in nearest.lookalikes if pk in photos
        ]
        answer = {"model": nearest.version, "searched": nearest.searched, "results": results}
        return Response(SimilarPhotosSerializer(answer).data)

    @extend_schema(request=PhotoCheckSerializer, responses={200: PhotoCheckAnswerSerializer})
    @action(
        detail=False, methods=["post"], parser_classes=[BoundedJSONParser], pagination_class=None, filter_backends=[]
    )
    def check(self, request):
        """Which of these files need not be sent, because their bytes are here already?"""
        asked = dict.fromkeys(checked(PhotoCheckSerializer, request.data)["sha256"])
        for pk, *digests in Photo.objects.with_content(*asked).values_list("pk", "sha256", "stored_sha256"):
            asked |= {digest: pk for digest in digests if digest in asked}
        return Response({"known": [{"sha256": digest, "id": pk} for digest, pk in asked.items() if pk]})


def _file_result(receipt: Receipt, photos: dict[int, Photo]) -> dict:
    result = {"file": receipt.name, "outcome": str(receipt.outcome), "photo": None, "problem": None}
    if receipt.outcome == Outcome.REFUSED:
        refused = problem(400, receipt.code, receipt.message, field="images", file=receipt.name)
        return result | {"status": 400, "problem": refused}
    photo = photos.get(receipt.photo.pk)  # none, where somebody has deleted it meanwhile
    shown = represent(PhotoSerializer, photo) if photo else None
    return result | {"status": 201 if receipt.outcome == Outcome.ACCEPTED else 200, "photo": shown}
