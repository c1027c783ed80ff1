"""The API of breeds and of the classifier's versions: what can be named, and who names it."""

import django_filters
from django.utils.functional import SimpleLazyObject
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response

from breeds import words
from breeds.answers import WordsSerializer
from breeds.models import Breed, BreedGroup, ClassifierVersion
from shelter.api.listing import ReadViewSet, reads

BREED_EXAMPLE = {
    "label": "brittany_spaniel",
    "name_fr": "épagneul breton",
    "name_en": "Brittany spaniel",
    "group": "pointing_dogs",
    "synonyms": ["brittany"],
    "wild": False,
    "known": True,
}


@extend_schema_serializer(component_name="Breed", examples=[OpenApiExample("A breed the model knows", BREED_EXAMPLE)])
class BreedSerializer(serializers.ModelSerializer):
    """A breed that people may name. `known`: the classifier in use can name it too; others it can only mistake."""

    label = serializers.CharField(source="slug")
    known = serializers.SerializerMethodField()

    class Meta:
        model = Breed
        fields = ["label", "name_fr", "name_en", "group", "synonyms", "wild", "known"]
        extra_kwargs = {
            "synonyms": {"help_text": "other names by which people look for it"},
            "wild": {"help_text": "a wild canid: never offered as the breed of a shelter's dog"},
        }

    synonyms = serializers.ListField(child=serializers.CharField())

    def get_known(self, breed: Breed) -> bool:
        return breed.slug in self.context["labels"]


@extend_schema_serializer(
    component_name="BreedGroup",
    examples=[
        OpenApiExample(
            "A group",
            {"group": "pointing_dogs", "words": {"fr": "chiens d’arrêt", "en": "pointing dogs"}, "breeds": 28},
        )
    ],
)  # fmt: skip
class GroupSerializer(serializers.Serializer):
    """One of the ten groups of the FCI, or what stands outside them, with how many breeds are of it."""

    group = serializers.ChoiceField(BreedGroup.choices)
    words = WordsSerializer()
    breeds = serializers.IntegerField()


class BreedFilter(django_filters.FilterSet):
    known = django_filters.BooleanFilter(method="of_knowledge", label="can the classifier in use name it?")
    q = django_filters.CharFilter(method="of_words", max_length=100, label="part of any of its names")

    class Meta:
        model = Breed
        fields = ["group", "wild", "known"]

    def of_knowledge(self, breeds, name, value):
        return breeds.filter(slug__in=labels_in_use()) if value else breeds.exclude(slug__in=labels_in_use())

    def of_words(self, breeds, name, value):
        return breeds.filter(pk__in=[breed.pk for breed in breeds if words.matches(breed, value)])


def labels_in_use() -> set[str]:
    version = ClassifierVersion.objects.active()
    return set(version.labels) if version else set()


@reads(
    list="Every breed that people may name, those that the classifier cannot know among them.",
    retrieve="One breed by its label.",
)
class BreedViewSet(ReadViewSet):
    queryset = Breed.objects.all()
    serializer_class = BreedSerializer
    filterset_class = BreedFilter
    orderings = {"label": "slug", "id": "id"}
    default_ordering = "label"
    lookup_field = "slug"
    lookup_url_kwarg = "label"
    lookup_value_converter = "slug"

    def get_serializer_context(self):
        return super().get_serializer_context() | {"labels": SimpleLazyObject(labels_in_use)}

    @extend_schema(responses={200: GroupSerializer(many=True)}, filters=False)
    @action(detail=False, filterset_class=None, pagination_class=None)
    def groups(self, request):
        """The groups of breeds, in the order of the FCI."""
        of_group = list(Breed.objects.values_list("group", flat=True))
        groups = [
            {
                "group": group.value,
                "words": words.in_languages(lambda group=group: str(group.label)),
                "breeds": of_group.count(group),
            }
            for group in BreedGroup
        ]
        return Response(GroupSerializer(groups, many=True).data)


VERSION_EXAMPLE = {
    "version": "3f9a0c2e41d7",
    "name": "efficientnet_b0",
    "active": True,
    "bundled": True,
    "backbone": "efficientnet_b0",
    "image_size": 224,
    "preprocessing": "upright-rgb-centre-crop-bicubic-1",
    "labels": ["affenpinscher", "afghan_hound"],
    "mask": ["dingo"],
    "thresholds": {"energy": 7.9, "breed": 0.54, "group": 0.71, "agreement": -0.34},
    "metrics": {"val": {"n": 1200, "top1": 0.87}, "test": {"n": 2146, "top1": 0.86}},
    "created_at": "2026-01-05T12:00:00+01:00",
    "activated_at": "2026-01-05T12:00:00+01:00",
}


@extend_schema_serializer(
    component_name="ClassifierVersion", examples=[OpenApiExample("The version in use", VERSION_EXAMPLE)]
)
class VersionSerializer(serializers.ModelSerializer):
    """A version of the classifier: what it can name, by which thresholds, and how well it did on held-out photos.

    `metrics` are those that its training measured, for `val` and `test`: null where its files are not on this machine.
    """

    active = serializers.BooleanField(source="is_active")
    bundled = serializers.BooleanField(source="is_bundled", help_text="it came with Flair")
    labels = serializers.ListField(child=serializers.CharField(), help_text="in the order of its outputs")
    mask = serializers.ListField(child=serializers.CharField(), help_text="labels that are never offered")
    thresholds = serializers.DictField(child=serializers.FloatField(allow_null=True))
    metrics = serializers.SerializerMethodField()

    class Meta:
        model = ClassifierVersion
        fields = [
            "version", "name", "active", "bundled", "backbone", "image_size", "preprocessing", "labels", "mask",
            "thresholds", "metrics", "created_at", "activated_at",
        ]  # fmt: skip

    def get_metrics(self, version: ClassifierVersion) -> dict[str, dict | None]:
        return {split: version.metrics(split) for split in ("val", "test")}


class VersionFilter(django_filters.FilterSet):
    active = django_filters.BooleanFilter("is_active")

    class Meta:
        model = ClassifierVersion
        fields = ["name"]


@reads(list="Every version that has answered or may answer, the newest first.", retrieve="One version by its hash.")
class VersionViewSet(ReadViewSet):
    queryset = ClassifierVersion.objects.all()
    serializer_class = VersionSerializer
    filterset_class = VersionFilter
    orderings = {"created_at": "created_at", "id": "id"}
    default_ordering = "-created_at"
    lookup_field = "version"
    lookup_value_converter = "slug"
