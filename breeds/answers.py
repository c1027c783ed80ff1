"""The answer object of the API: what a version of the classifier says of one photo, field by field.

`format` is its version. Within one, fields are only ever added; a field that changes its meaning or goes makes the
next. Scripts should ignore fields that they do not know.
"""

import dataclasses
import inspect
from functools import cache

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from breeds import words
from breeds.models import BreedGroup, Decision, Prediction, Review
from ml.serving.decision import Thresholds

FORMAT = 1

WORDS = {"fr": "Ressemble à un épagneul breton (61,6\u00a0%)", "en": "Looks like a Brittany spaniel (61.6%)"}
MODEL_EXAMPLE = {
    "name": "efficientnet_b0",
    "version": "3f9a0c2e41d7",
    "preprocessing": "upright-rgb-centre-crop-bicubic-1",
}
THRESHOLDS_EXAMPLE = {
    field.name: {"energy": 7.9, "breed": 0.54, "group": 0.71}.get(
        field.name, None if field.default is dataclasses.MISSING else field.default
    )
    for field in dataclasses.fields(Thresholds)
}
REVIEWED_EXAMPLE = {
    "review": 7,
    "decision": "breed",
    "label": "brittany_spaniel",
    "second_label": "",
    "group": "pointing_dogs",
    "words": {
        "fr": "C’est un épagneul breton (confirmé par anne)",
        "en": "It is a Brittany spaniel (confirmed by anne)",
    },
    "by": "anne",
    "at": "2026-03-03T10:15:00+01:00",
}
ANSWER_EXAMPLE = {
    "format": FORMAT,
    "reviewed": None,
    "decision": "breed",
    "label": "brittany_spaniel",
    "group": "pointing_dogs",
    "probability": 0.616,
    "candidates": [
        {"label": "brittany_spaniel", "probability": 0.616},
        {"label": "welsh_springer_spaniel", "probability": 0.21},
    ],
    "words": WORDS,
    "reasons": [
        {
            "code": "breed_sure",
            "value": 0.616,
            "threshold": 0.54,
            "names": ["brittany_spaniel"],
            "runner_up": 0.21,
            "words": {
                "fr": "«\u00a0épagneul breton\u00a0» atteint 61,6\u00a0%. "
                "Flair nomme une race à partir de 54,0\u00a0%.",
                "en": "“Brittany spaniel” reaches 61.6%. Flair names a breed from 54.0%.",
            },
        }
    ],
    "thresholds": THRESHOLDS_EXAMPLE,
    "mask": ["african_hunting_dog", "dhole", "dingo"],
    "model": MODEL_EXAMPLE,
    "timings": {"waiting_ms": 2.1, "classifying_ms": 41.3, "total_ms": 43.4},
    "milliseconds": 41.3,
}


@cache
def _shared(kind: type[serializers.Serializer]) -> serializers.Serializer:
    return kind()


def represent(kind: type[serializers.Serializer], row) -> dict:
    """What a serializer of this kind shows of a row.

    By one for all: to copy its fields, as every new one does, takes ten times as long as to fill them.
    """
    return _shared(kind).to_representation(row)


class CandidateSerializer(serializers.Serializer):
    """A breed that the photo may show."""

    label = serializers.CharField(help_text="as in `breeds/`")
    probability = serializers.FloatField(help_text="calibrated, 0 to 1")


@extend_schema_serializer(component_name="ModelOfAnswer")
class ModelSerializer(serializers.Serializer):
    """The version of the classifier that answered."""

    name = serializers.CharField()
    version = serializers.CharField(help_text="hash of its files, as in `models/`")
    preprocessing = serializers.CharField(
        allow_blank=True, help_text="the way from bytes to pixels; empty for a version registered before it was kept"
    )


class WordsSerializer(serializers.Serializer):
    """The same sentence in both languages."""

    fr = serializers.CharField()
    en = serializers.CharField()


class ReasonSerializer(serializers.Serializer):
    """One comparison behind a decision: `value` held against `threshold`. `code` is stable; `words` are for people.

    `no_dog`: energy of the logits against the least of a dog. `breed_sure`, `breeds_close`, `breed_not_sure`,
    `group_sure`, `group_not_sure`: probability of what `names` lists against the least for a breed or group (above 1:
    never), with the next breed's in `runner_up`. `unfamiliar`: how much the photo resembles any known breed against
    the least for which one is named. `wild_canid_masked`: probability of the wild canids, never offered.
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
    __doc__ = inspect.getdoc(Thresholds) + "\n\nA version that was registered before Flair kept one of them has it not."

    def get_fields(self):
        """Those of `ml.serving.decision.Thresholds`, whatever they are."""
        return {
            field.name: serializers.FloatField(required=False, allow_null=field.type is not float)
            for field in dataclasses.fields(Thresholds)
        }

    def to_representation(self, thresholds: dict) -> dict:
        return {name: thresholds[name] for name in self.fields if name in thresholds}


class TimingsSerializer(serializers.Serializer):
    """Milliseconds. `waiting_ms`: in the queue, or for a free place; `total_ms`: from the wish to the answer."""

    waiting_ms = serializers.FloatField()
    classifying_ms = serializers.FloatField(help_text="decoding the photo and running the network")
    total_ms = serializers.FloatField()


class ReviewedSerializer(serializers.Serializer):
    """What a person decided. It stands above everything a classifier says, now and later."""

    review = serializers.IntegerField(source="pk", help_text="id of the review")
    decision = serializers.ChoiceField(Decision.choices)
    label = serializers.CharField(source="breed.slug", default="", help_text="the breed; empty where none is named")
    second_label = serializers.CharField(source="second_breed.slug", default="", help_text="the other one of a cross")
    group = serializers.ChoiceField(BreedGroup.choices, allow_blank=True)
    words = serializers.SerializerMethodField()
    by = serializers.CharField(source="by.username")
    at = serializers.DateTimeField(source="created_at")

    @extend_schema_field(WordsSerializer)
    def get_words(self, review: Review) -> dict:
        return words.in_languages(lambda: words.verdict(review))


class AnswerFields(serializers.Serializer):
    """What every answer has, stored or not: made from a `Prediction`, which need not be saved."""

    format = serializers.SerializerMethodField(help_text="version of this object")
    reviewed = ReviewedSerializer(
        allow_null=True, read_only=True, help_text="the human decision, which counts before all that follows; or null"
    )
    decision = serializers.ChoiceField(
        Decision.choices, allow_blank=True, help_text="`breed`, `group`, `unsure` or `not_a_dog`; empty: no answer yet"
    )
    label = serializers.CharField(allow_blank=True, help_text="the breed; empty unless `decision` is `breed`")
    group = serializers.ChoiceField(
        BreedGroup.choices, allow_blank=True, help_text="empty unless `decision` is `breed` or `group`"
    )
    probability = serializers.FloatField(
        allow_null=True, help_text="of the breed or group that is named, else of the first candidate"
    )
    candidates = CandidateSerializer(many=True, help_text="the five likeliest breeds, best first, without the mask's")
    words = serializers.SerializerMethodField(help_text="the decision as a sentence; null: no answer yet")
    reasons = ReasonSerializer(many=True, help_text="why, in the order of the comparisons")
    thresholds = ThresholdsSerializer(
        source="version.thresholds", allow_null=True, help_text="what the values were held against"
    )
    mask = serializers.ListField(
        source="version.mask",
        child=serializers.CharField(),
        allow_null=True,
        help_text="labels that are never offered, whatever their probability",
    )
    model = ModelSerializer(source="version", allow_null=True)
    timings = serializers.SerializerMethodField(help_text="null: no answer yet")
    milliseconds = serializers.SerializerMethodField(help_text="the same as `timings.classifying_ms`")

    @extend_schema_field({"type": "integer", "const": FORMAT})
    def get_format(self, prediction: Prediction) -> int:
        return FORMAT

    @extend_schema_field(WordsSerializer(allow_null=True))
    def get_words(self, prediction: Prediction) -> dict | None:
        said = (prediction.decision, prediction.label, prediction.group, prediction.probability)
        return words.in_languages(lambda: words.looks_like(*said)) if prediction.decision else None

    @extend_schema_field(TimingsSerializer(allow_null=True))
    def get_timings(self, prediction: Prediction) -> dict | None:
        if prediction.milliseconds is None or prediction.finished_at is None:
            return None
        total = (prediction.finished_at - prediction.created_at).total_seconds() * 1000
        waiting = max(0.0, total - prediction.milliseconds)
        return {
            "waiting_ms": round(waiting, 1),
            "classifying_ms": round(prediction.milliseconds, 1),
            "total_ms": round(waiting + prediction.milliseconds, 1),
        }

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_milliseconds(self, prediction: Prediction) -> float | None:
        return None if prediction.milliseconds is None else round(prediction.milliseconds, 1)


@extend_schema_serializer(component_name="Answer", examples=[OpenApiExample("A sure answer", ANSWER_EXAMPLE)])
class AnswerSerializer(AnswerFields):
    """What the classifier in use says of a photo that is not stored. `reviewed` is always null."""


@extend_schema_serializer(
    component_name="Prediction",
    examples=[
        OpenApiExample(
            "A stored answer that somebody confirmed",
            {
                "id": 12,
                "status": "done",
                **ANSWER_EXAMPLE,
                "reviewed": REVIEWED_EXAMPLE,
                "error_code": "",
                "error": "",
                "finished_at": "2026-03-03T09:02:11+01:00",
            },
        )
    ],
)
class PredictionSerializer(serializers.ModelSerializer, AnswerFields):
    """What one version says of a stored photo, or the wish for it: `status` is `done` once it is there.

    A photo that cannot be read has the status `failed`, and says why in `error_code` (stable) and `error`.
    """

    class Meta:
        model = Prediction
        fields = [
            "id", "status", "format", "reviewed", "decision", "label", "group", "probability", "candidates", "words",
            "reasons", "thresholds", "mask", "model", "timings", "milliseconds", "error_code", "error", "finished_at",
        ]  # fmt: skip
        read_only_fields = ["status", "error_code", "error", "finished_at"]
