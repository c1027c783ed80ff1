"""A photo as the API shows it, to whoever asks and to webhooks alike."""

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from breeds.answers import ANSWER_EXAMPLE, REVIEWED_EXAMPLE, PredictionSerializer, represent
from breeds.models import BreedGroup, Decision, Prediction
from shelter.api.reviews import REVIEW_EXAMPLE, ReviewSerializer
from shelter.models import Photo

SHA256_EXAMPLE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PHOTO_EXAMPLE = {
    "id": 41,
    "status": "done",
    "original_name": "rex.jpg",
    "sha256": SHA256_EXAMPLE,
    "size": 2413355,
    "width": 4032,
    "height": 3024,
    "media_type": "image/jpeg",
    "animal": 12,
    "uploaded_at": "2026-03-03T09:02:10+01:00",
    "updated_at": "2026-03-03T10:15:00+01:00",
    "decision": "breed",
    "breed": "brittany_spaniel",
    "second_breed": None,
    "group": "pointing_dogs",
    "probability": None,
    "source": "human",
    "prediction": {
        "id": 12,
        "status": "done",
        **ANSWER_EXAMPLE,
        "reviewed": REVIEWED_EXAMPLE,
        "error_code": "",
        "error": "",
        "finished_at": "2026-03-03T09:02:11+01:00",
    },
    "review": REVIEW_EXAMPLE,
}


@extend_schema_serializer(component_name="Photo", examples=[OpenApiExample("A reviewed photo", PHOTO_EXAMPLE)])
class PhotoSerializer(serializers.ModelSerializer):
    """`decision` to `source` are the index: what the newest answer, or a person (`source`: `human`), says of the photo.

    `prediction` is the newest answer of the classifier or the wish for one; `review` what a person said last.
    """

    decision = serializers.ChoiceField(
        Decision.choices, allow_blank=True, read_only=True, help_text="empty: nobody has answered yet"
    )
    breed = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)
    second_breed = serializers.SlugRelatedField(
        "slug", read_only=True, allow_null=True, help_text="the other breed of a cross"
    )
    group = serializers.ChoiceField(BreedGroup.choices, allow_blank=True, read_only=True)
    source = serializers.ChoiceField(
        Photo.Source.choices, allow_blank=True, read_only=True, help_text="who says so; empty: nobody yet"
    )
    animal = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text="the record it is filed under"
    )
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

    @extend_schema_field(PredictionSerializer(allow_null=True))
    def get_prediction(self, photo: Photo) -> dict | None:
        newest = max(photo.predictions.all(), key=lambda prediction: prediction.pk, default=None)  # prefetched
        if newest is None:
            return None
        newest.reviewed = photo.standing_review
        return represent(PredictionSerializer, newest)

    @extend_schema_field(ReviewSerializer(allow_null=True))
    def get_review(self, photo: Photo) -> dict | None:
        review = photo.standing_review
        return represent(ReviewSerializer, review) if review else None


def just_stored(photo: Photo, prediction: Prediction) -> Photo:
    """What `with_answers` would find of a photo that was stored just now, without asking for it."""
    photo._prefetched_objects_cache = {"predictions": [prediction]}
    photo.standing_reviews = []
    return photo


def with_answers(photos: QuerySet, *, answers: bool = True, reviews: bool = True) -> QuerySet:
    """With what a `PhotoSerializer` shows, in a few queries however many photos there are."""
    photos = photos.select_related("breed", "second_breed")
    if answers:
        newest = Prediction.objects.without_vectors().select_related("version")
        photos = photos.prefetch_related(Prefetch("predictions", newest))
    if answers or reviews:
        photos = photos.with_standing_reviews()
    return photos
