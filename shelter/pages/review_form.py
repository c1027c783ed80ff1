"""The form by which people review a photo. `breeds.models.Review` decides which review counts."""

from django import forms
from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from breeds import words
from breeds.models import Breed, Prediction, Recorded, Review, ReviewRefused


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

    verdict = forms.ChoiceField(choices=Review.Verdict.sayable())
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


def keep(request, form: ReviewForm) -> Recorded | None:
    """Record the review of a valid form and tell the person. None where it is refused: the form then has the reason."""
    try:
        recorded = form.record(request.user)
    except ReviewRefused as refused:
        form.add_error(None, forms.ValidationError(str(refused), refused.code))
        return None
    messages.success(request, gettext("Kept: %(said)s.") % {"said": words.verdict(recorded.review)})
    for note in form.notes_on(recorded):
        messages.warning(request, note)
    return recorded


def is_of_deleted_photo(form: ReviewForm) -> bool:
    return form.has_error(NON_FIELD_ERRORS, "photo_deleted")


def breed_names() -> list[str]:
    """What the form offers, in the reader's language."""
    return sorted(capfirst(breed.name) for breed in Breed.objects.filter(wild=False))
