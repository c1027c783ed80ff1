"""The API's stateless answer: bytes in, decision out, nothing stored."""

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView

from breeds import classifier as classifiers
from breeds.models import BreedGroup, Decision


class CandidateSerializer(serializers.Serializer):
    label = serializers.CharField()
    probability = serializers.FloatField()


class ModelSerializer(serializers.Serializer):
    name = serializers.CharField()
    version = serializers.CharField()


class PredictionAnswerSerializer(serializers.Serializer):
    """A decision: `label` is empty unless it is `breed`, `group` unless it is `breed` or `group`."""

    decision = serializers.ChoiceField(Decision.choices)
    label = serializers.CharField(allow_blank=True)
    group = serializers.ChoiceField(BreedGroup.choices, allow_blank=True)
    probability = serializers.FloatField()
    candidates = CandidateSerializer(many=True)
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
                "model": {"name": version.name, "version": version.version},
                "milliseconds": round(found.milliseconds, 1),
            }
        )
