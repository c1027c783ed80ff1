"""Reviews as scripts read and write them. `breeds.models.Review` decides which one counts."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from breeds.models import Breed, BreedGroup, Prediction, Review

REVIEW_EXAMPLE = {
    "id": 7,
    "verdict": "confirm",
    "breed": "brittany_spaniel",
    "second_breed": None,
    "group": "pointing_dogs",
    "reason": "looks",
    "blind": False,
    "prediction": 12,
    "by": "anne",
    "created_at": "2026-03-03T10:15:00+01:00",
}


class KnownBreedField(serializers.SlugRelatedField):
    """A breed by its label; text that no label can be is unknown, on every database."""

    def __init__(self, **options):
        super().__init__("slug", queryset=Breed.objects.filter(wild=False), **options)

    def to_internal_value(self, data):
        if not isinstance(data, str) or "\0" in data:
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_serializer(component_name="Review", examples=[OpenApiExample("A confirmation", REVIEW_EXAMPLE)])
class ReviewSerializer(serializers.ModelSerializer):
    """The review that counts. `group` is that of the breed, or the one that was confirmed without a breed."""

    breed = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)
    second_breed = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)
    group = serializers.ChoiceField(BreedGroup.choices, allow_blank=True, read_only=True)
    reason = serializers.ChoiceField(Review.Reason.choices, allow_blank=True, read_only=True)
    prediction = serializers.PrimaryKeyRelatedField(read_only=True, allow_null=True)
    by = serializers.CharField(source="by.username", read_only=True)

    class Meta:
        model = Review
        fields = [
            "id", "verdict", "breed", "second_breed", "group", "reason", "blind", "prediction", "by", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


@extend_schema_serializer(
    component_name="NewReview",
    examples=[
        OpenApiExample("Confirm what was shown", {"verdict": "confirm", "prediction": 12, "reason": "looks"}),
        OpenApiExample("Name another breed", {"verdict": "correct", "breed": "beagle", "reason": "papers"}),
        OpenApiExample("A cross", {"verdict": "cross", "breed": "beagle", "second_breed": "basset"}),
    ],
)
class NewReviewSerializer(serializers.Serializer):
    """`confirm` needs the `prediction` that was shown, `correct` a `breed`, `cross` two; `blind`: it was hidden."""

    verdict = serializers.ChoiceField(Review.Verdict.sayable())
    breed = KnownBreedField(required=False)
    second_breed = KnownBreedField(required=False)
    prediction = serializers.PrimaryKeyRelatedField(queryset=Prediction.objects.all(), required=False)
    reason = serializers.ChoiceField(Review.Reason.choices, required=False)
    blind = serializers.BooleanField(default=False)

    def validate(self, given):
        needed = {
            Review.Verdict.CONFIRM: {"prediction"},
            Review.Verdict.CORRECT: {"breed"},
            Review.Verdict.CROSS: {"breed", "second_breed"},
        }.get(given["verdict"], set())
        named = {"breed", "second_breed"} & set(given)
        errors = dict.fromkeys(needed - set(given), f"This is required with {given['verdict']}.")
        errors |= dict.fromkeys(named - needed, f"This is not allowed with {given['verdict']}.")
        if given["verdict"] == Review.Verdict.CONFIRM and given["blind"]:
            errors["blind"] = "A blind review cannot confirm an answer."
        if given.get("breed") and given.get("breed") == given.get("second_breed"):
            errors["second_breed"] = "The second breed must differ from the first."
        if errors:
            raise serializers.ValidationError(errors)
        return given
