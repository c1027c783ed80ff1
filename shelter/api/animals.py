"""The API of the dogs' records."""

import django_filters
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.response import Response

from breeds import words
from breeds.answers import ANSWER_EXAMPLE, CandidateSerializer, ModelSerializer, ReasonSerializer, WordsSerializer
from breeds.fusion import FusedAnswer
from breeds.models import BreedGroup, Decision
from shelter.api.idempotency import IDEMPOTENCY_KEY, once
from shelter.api.listing import ReadViewSet, reads
from shelter.models import Animal
from shelter.models.animals import clean_microchip, date_errors

FUSED_EXAMPLE = {
    name: ANSWER_EXAMPLE[name]
    for name in ("decision", "label", "group", "probability", "candidates", "words", "reasons", "model")
} | {"photos": [41, 42], "left_out": [], "odd": []}
ANIMAL_EXAMPLE = {
    "id": 12,
    "name": "Rex",
    "status": "present",
    "sex": "male",
    "born_on": "2021-05-01",
    "born_about": True,
    "arrived_on": "2026-03-01",
    "microchip": "250268500123456",
    "notes": "",
    "main_photo": 41,
    "photo_count": 2,
    "created_at": "2026-03-01T17:00:00+01:00",
    "updated_at": "2026-03-03T10:15:00+01:00",
    "answer": FUSED_EXAMPLE,
}
NEW_ANIMAL_EXAMPLE = {"name": "Rex", "sex": "male", "arrived_on": "2026-03-01", "microchip": "250 268 500 123 456"}


@extend_schema_serializer(component_name="FusedAnswer")
class FusedAnswerSerializer(serializers.Serializer):
    """One answer from all photos of a dog (`photos`), without those in which no dog was seen (`left_out`).

    `odd`: photos that seem to show another dog. The other fields are those of an answer to one photo.
    """

    decision = serializers.ChoiceField(Decision.choices)
    label = serializers.CharField(allow_blank=True)
    group = serializers.ChoiceField(BreedGroup.choices, allow_blank=True)
    probability = serializers.FloatField()
    candidates = CandidateSerializer(many=True)
    words = serializers.SerializerMethodField()
    reasons = ReasonSerializer(many=True)
    model = ModelSerializer(source="version")
    photos = serializers.ListField(child=serializers.IntegerField())
    left_out = serializers.ListField(child=serializers.IntegerField())
    odd = serializers.ListField(child=serializers.IntegerField())

    @extend_schema_field(WordsSerializer)
    def get_words(self, answer: FusedAnswer) -> dict:
        return words.in_languages(
            lambda: words.looks_like(answer.decision, answer.label, answer.group, answer.probability)
        )


@extend_schema_serializer(
    component_name="Animal",
    examples=[
        OpenApiExample("A dog", ANIMAL_EXAMPLE, response_only=True),
        OpenApiExample("A new record", NEW_ANIMAL_EXAMPLE, request_only=True),
    ],
)
class AnimalSerializer(serializers.ModelSerializer):
    """A dog's record. `answer`, only where one record is asked for: what the classifier says of all its photos."""

    name = serializers.CharField(max_length=100)
    microchip = serializers.CharField(
        max_length=40, required=False, allow_blank=True, help_text="15 digits; spaces, dots and hyphens do no harm"
    )
    main_photo = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text="the photo that was chosen to stand for it"
    )
    photo_count = serializers.IntegerField(read_only=True)
    answer = serializers.SerializerMethodField()

    class Meta:
        model = Animal
        fields = [
            "id", "name", "status", "sex", "born_on", "born_about", "arrived_on", "microchip", "notes", "main_photo",
            "photo_count", "created_at", "updated_at", "answer",
        ]  # fmt: skip
        read_only_fields = ["created_at", "updated_at"]
        extra_kwargs = {"notes": {"max_length": 20_000}}

    @extend_schema_field(FusedAnswerSerializer(allow_null=True))
    def get_answer(self, animal: Animal) -> dict | None:
        return FusedAnswerSerializer(animal.answer).data if self.context.get("answers") and animal.answer else None

    def validate_name(self, name: str) -> str:
        return " ".join(name.split())

    def validate_microchip(self, text: str) -> str:
        try:
            microchip = clean_microchip(text)
        except ValidationError as error:
            raise serializers.ValidationError(error.messages) from error
        others = Animal.objects.exclude(pk=self.instance.pk) if self.instance else Animal.objects
        if microchip and others.filter(microchip=microchip).exists():
            raise serializers.ValidationError(gettext("Another dog already has this microchip."), "unique")
        return microchip

    def validate(self, given):
        names = ("born_on", "arrived_on", "born_about")
        errors = date_errors(*(given.get(name, getattr(self.instance, name, None)) for name in names))
        if errors:
            raise serializers.ValidationError(errors)
        return given


class AnimalFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(method="of_words", max_length=100, label="words of the name, or of the microchip")
    updated_since = django_filters.IsoDateTimeFilter("updated_at", lookup_expr="gte")

    class Meta:
        model = Animal
        fields = ["status", "sex", "microchip"]

    def of_words(self, animals, name, value):
        return animals.search(value)


@reads(
    list="Records of dogs, the newest first. Their photos: `photos/?animal=`.",
    retrieve="One record, with what the classifier says of all photos together.",
)
class AnimalViewSet(ReadViewSet):
    queryset = Animal.objects.with_covers()
    serializer_class = AnimalSerializer
    filterset_class = AnimalFilter
    orderings = {"id": "id", "name": "name_folded", "updated_at": "updated_at"}

    def get_serializer_context(self):
        return super().get_serializer_context() | {"answers": self.detail and self.wants("answer")}

    @extend_schema(parameters=[IDEMPOTENCY_KEY])
    @once
    def create(self, request):
        """A new record. Several dogs may have one name, but only one dog a microchip."""
        form = self.get_serializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(self._shown(form.save().pk), status=201)

    @extend_schema(parameters=[IDEMPOTENCY_KEY])
    @once
    def partial_update(self, request, pk):
        """Change some fields of a record."""
        form = self.get_serializer(self.get_object(), data=request.data, partial=True)
        form.is_valid(raise_exception=True)
        return Response(self._shown(form.save().pk))

    def _shown(self, pk: int) -> dict:
        return self.get_serializer(self.get_queryset().get(pk=pk)).data
