"""Reviews as they come in: from the form of the photo page and from scripts. What counts is in `breeds.models`."""

from django import forms
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from breeds import words
from breeds.models import Breed, BreedGroup, Prediction, Recorded, Review

# Verdicts that name what the photo shows; a withdrawal names a review instead.
SAYABLE = [choice for choice in Review.Verdict.choices if choice[0] != Review.Verdict.WITHDRAW]


class BreedField(forms.CharField):
    """A breed by any of its names, accents and capitals or not. Wild canids are no shelter dog's breed."""

    def clean(self, value) -> Breed | None:
        text = super().clean(value)
        if not text:
            return None
        breeds = sorted(Breed.objects.filter(wild=False), key=lambda breed: breed.name)
        for names in (lambda b: (b.slug, b.name_fr, b.name_en), lambda b: b.synonyms):
            found = [breed for breed in breeds if words.fold(text) in {words.fold(name) for name in names(breed)}]
            if found:
                return found[0]
        near = [breed.name for breed in breeds if words.matches(breed, text)][:5]
        if near:
            message = gettext("Choose a breed of the list. Received: “%(text)s”. Near: %(near)s.")
            raise forms.ValidationError(message % {"text": text, "near": ", ".join(near)})
        raise forms.ValidationError(gettext("Choose a breed of the list. Received: “%(text)s”.") % {"text": text})


class ReviewForm(forms.Form):
    """What a person says on the photo's page; `prediction` and `standing` are what was shown there."""

    verdict = forms.ChoiceField(choices=SAYABLE)
    breed = BreedField(label=_("Its breed"), max_length=100, required=False)
    second_breed = BreedField(label=_("Crossed with (if so)"), max_length=100, required=False)
    reason = forms.ChoiceField(
        label=_("How do you know?"), required=False, choices=[("", _("not said")), *Review.Reason.choices]
    )
    prediction = forms.ModelChoiceField(Prediction.objects.none(), required=False, widget=forms.HiddenInput)
    standing = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, photo, *arguments, **options):
        super().__init__(*arguments, **options)
        self.photo = photo
        self.fields["prediction"].queryset = photo.predictions.all()
        for name in ("breed", "second_breed"):
            self.fields[name].widget.attrs |= {"list": "breed-names", "autocomplete": "off"}

    def clean(self):
        given = super().clean()
        if given.get("verdict") == Review.Verdict.CORRECT:
            if not given.get("breed") and not self.has_error("breed"):
                self.add_error("breed", gettext("Name the breed."))
            if given.get("second_breed"):
                given["verdict"] = Review.Verdict.CROSS
        elif given.get("verdict") != Review.Verdict.CROSS:
            given["breed"] = given["second_breed"] = None
        if given.get("second_breed") and given["second_breed"] == given.get("breed"):
            self.add_error("second_breed", gettext("Name another breed than the first one."))
        return given

    def record(self, user) -> Recorded:
        given = dict(self.cleaned_data)
        del given["standing"]
        return Review.objects.record(self.photo, by=user, **given)

    def notes_on(self, recorded: Recorded) -> list[str]:
        """What else happened while this person was looking."""
        notes, before, newer = [], recorded.before, recorded.newer
        if before and before.by != recorded.review.by and before.pk != self.cleaned_data["standing"]:
            note = gettext("Meanwhile somebody else had answered: “%(said)s”. Both are kept; yours, the newer, counts.")
            notes.append(note % {"said": words.verdict(before)})
        if newer:
            breed = Breed.objects.filter(slug=newer.label).first() if newer.label else None
            said = words.sentence(newer.decision, breed, newer.group, newer.probability)
            note = gettext("Meanwhile the model has looked again: “%(said)s”. Your answer counts nevertheless.")
            notes.append(note % {"said": said})
        return notes


def breed_names() -> list[str]:
    """What the form offers, in the reader's language."""
    return sorted(capfirst(breed.name) for breed in Breed.objects.filter(wild=False))


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

    verdict = serializers.ChoiceField(SAYABLE)
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
        errors = dict.fromkeys(needed - set(given), f"Expected it with {given['verdict']}. Received: nothing.")
        errors |= dict.fromkeys(named - needed, f"Expected none with {given['verdict']}. Received: one.")
        if given["verdict"] == Review.Verdict.CONFIRM and given["blind"]:
            errors["blind"] = "Expected a confirmation of what was shown. Received: blind."
        if given.get("breed") and given.get("breed") == given.get("second_breed"):
            errors["second_breed"] = "Expected another breed than the first. Received: the same."
        if errors:
            raise serializers.ValidationError(errors)
        return given
