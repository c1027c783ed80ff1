"""The API's stateless answer: bytes in, decision out, nothing stored."""

from dataclasses import asdict

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView

from breeds import classifier as classifiers
from breeds import words
from breeds.models import BreedGroup, Decision


class CandidateSerializer(serializers.Serializer):
    label = serializers.CharField()
    probability = serializers.FloatField()


class ModelSerializer(serializers.Serializer):
    name = serializers.CharField()
    version = serializers.CharField()


class WordsSerializer(serializers.Serializer):
    fr = serializers.CharField()
    en = serializers.CharField()


class ReasonSerializer(serializers.Serializer):
    """One comparison behind a decision: `value` held against `threshold`. `code` is stable; `words` are for people.

    `no_dog`: energy of the logits against the least of a dog. `breed_sure`, `breeds_close`, `breed_not_sure`,
    `group_sure`, `group_not_sure`: probability of what `names` lists against the least for a breed or group (above 1:
    never), with the next breed's in `runner_up`. `wild_canid_masked`: probability of the wild canids, never offered.
    """

    code = serializers.CharField()
    value = serializers.FloatField()
    threshold = serializers.FloatField(allow_null=True)
    names = serializers.ListField(child=serializers.CharField())
    runner_up = serializers.FloatField(allow_null=True)
    words = serializers.SerializerMethodField()

    @extend_schema_field(WordsSerializer)
    def get_words(self, reason: dict) -> dict:
        return words.in_languages(lambda: words.why([reason])[0])


class ThresholdsSerializer(serializers.Serializer):
    """Least `energy` (nats) of a dog, least probability of a `breed` and of a `group` that is named (above 1: never),
    least `familiarity` of a photo that a breed is named for, and least `agreement` (nats) of a photo with the others
    of the same dog. Empty for a version that was registered before Flair kept them."""

    energy = serializers.FloatField(required=False)
    breed = serializers.FloatField(required=False)
    group = serializers.FloatField(required=False)
    agreement = serializers.FloatField(required=False)
    familiarity = serializers.FloatField(required=False, allow_null=True)

    def to_representation(self, thresholds: dict) -> dict:
        return {name: thresholds[name] for name in self.fields if name in thresholds}


class PredictionAnswerSerializer(serializers.Serializer):
    """A decision: `label` is empty unless it is `breed`, `group` unless it is `breed` or `group`.

    `reasons`: why, in the order of the comparisons; `thresholds`: what they were held against; `mask`: labels that are
    never offered, whatever their probability.
    """

    decision = serializers.ChoiceField(Decision.choices)
    label = serializers.CharField(allow_blank=True)
    group = serializers.ChoiceField(BreedGroup.choices, allow_blank=True)
    probability = serializers.FloatField()
    candidates = CandidateSerializer(many=True)
    reasons = ReasonSerializer(many=True)
    thresholds = ThresholdsSerializer()
    mask = serializers.ListField(child=serializers.CharField())
    model = ModelSerializer()
    milliseconds = serializers.FloatField()


class ImageSerializer(serializers.Serializer):
    image = serializers.FileField(allow_empty_file=True)


class BadImage(APIException):
    """400 with the reason as its code: what was sent is not a photo that can be classified."""

    status_code = 400


class NoClassifier(APIException):
    status_code = 503
    default_code = "no_classifier"
    default_detail = "Expected an active classifier. Received: none that can be loaded."


class PredictView(APIView):
    scope = "read"
    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="predict",
        request={"multipart/form-data": ImageSerializer},
        responses={200: PredictionAnswerSerializer, 400: OpenApiResponse(description="not a photo")},
    )
    def post(self, request):
        """Classify one photo and store nothing."""
        form = ImageSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        file = form.validated_data["image"]
        if file.size > settings.MAX_PHOTO_BYTES:
            limit = settings.MAX_PHOTO_BYTES // 1_000_000
            detail = f"Expected at most {limit} MB. Received: {file.size / 1e6:.1f} MB."
            raise BadImage(detail, code="too_large")
        try:
            classifier, version = classifiers.active_classifier()
            found = classifier.classify(file.read())
        except classifiers.UnreadableImage as error:
            raise BadImage(f"{file.name}: {error}", code=error.reason) from error
        except classifiers.BadCheckpoint as error:
            raise NoClassifier from error
        return Response(
            {
                "decision": found.decision,
                "label": found.label,
                "group": found.group,
                "probability": found.probability,
                "candidates": [{"label": c.label, "probability": c.probability} for c in found.candidates],
                "reasons": ReasonSerializer([asdict(reason) for reason in found.reasons], many=True).data,
                "thresholds": version.thresholds,
                "mask": version.mask,
                "model": {"name": version.name, "version": version.version},
                "milliseconds": round(found.milliseconds, 1),
            }
        )
