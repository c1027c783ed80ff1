from django import forms
from django.conf import settings

from breeds.models import BreedGroup, Decision
from shelter.models import Animal, Photo


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Any number of files, empty ones among them: each gets a receipt of its own."""

    widget = ManyFilesInput

    def clean(self, data, initial=None):
        files = data if isinstance(data, list | tuple) else [data]
        if not any(files):
            raise forms.ValidationError(self.error_messages["required"], code="required")
        return [file for file in files if file is not None]


class UploadForm(forms.Form):
    images = ManyFilesField()

    @staticmethod
    def limits() -> dict:
        return {
            "max_megabytes": settings.MAX_PHOTO_BYTES // 1_000_000,
            "max_request_megabytes": settings.MAX_REQUEST_BYTES // 1_000_000,
        }


class AnimalNameForm(forms.Form):
    name = forms.CharField(max_length=100, required=False, strip=True)

    def file(self, photo: Photo) -> None:
        """File the photo under the animal of this name, a new one if need be; an empty name takes it out."""
        name = self.cleaned_data["name"]
        photo.animal = None
        if name:
            photo.animal = Animal.objects.filter(name__iexact=name).first() or Animal.objects.create(name=name)
        photo.save(update_fields=["animal"])


class PhotoFilterForm(forms.Form):
    """The filters of the list; a value that means nothing is as good as none."""

    breed = forms.CharField(required=False)
    group = forms.ChoiceField(required=False, choices=BreedGroup.choices)
    decision = forms.ChoiceField(required=False, choices=Decision.choices)
    status = forms.ChoiceField(required=False, choices=Photo.Status.choices)
    q = forms.CharField(required=False, max_length=100)

    @property
    def values(self) -> dict[str, str]:
        self.full_clean()
        return {name: self.cleaned_data.get(name, "") for name in self.fields}

    def apply(self, photos):
        values = self.values
        for name in ("group", "decision", "status"):
            if values[name]:
                photos = photos.filter(**{name: values[name]})
        if values["breed"]:
            photos = photos.filter(breed__slug=values["breed"])
        return photos.search(values["q"])
