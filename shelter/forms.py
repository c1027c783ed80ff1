import uuid

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

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
    batch = forms.CharField(required=False)
    images = ManyFilesField()

    def clean_batch(self) -> uuid.UUID | None:
        """A key that is none costs the connection to the page's other files, never a photo."""
        try:
            return uuid.UUID(self.cleaned_data["batch"])
        except ValueError:
            return None

    @staticmethod
    def limits() -> dict:
        return {
            "max_megabytes": settings.MAX_PHOTO_BYTES // 1_000_000,
            "max_request_megabytes": settings.MAX_REQUEST_BYTES // 1_000_000,
        }


class KnownFileForm(forms.Form):
    batch = forms.UUIDField()
    sha256 = forms.RegexField(r"^[0-9a-f]{64}$")
    name = forms.CharField(max_length=1000)


class ArchiveForm(forms.Form):
    """A zip: whole, from a page without JavaScript, or announced by its name and size, so that its pieces may come."""

    archive = forms.FileField(required=False)
    name = forms.CharField(max_length=255, required=False)
    size = forms.IntegerField(min_value=1, required=False)
    stamp = forms.CharField(max_length=50, required=False)

    def clean(self):
        values = super().clean()
        if file := values.get("archive"):
            values |= {"name": file.name[-255:], "size": file.size, "stamp": str(uuid.uuid4())}
        if not values.get("name") or not values.get("size"):
            raise forms.ValidationError(_("Choose a zip archive."), code="no_file")
        if values["size"] > settings.MAX_ARCHIVE_BYTES:
            limit = settings.MAX_ARCHIVE_BYTES // 1_000_000_000
            raise forms.ValidationError(_("An archive has at most %(limit)s GB.") % {"limit": limit}, code="too_large")
        return values


class DogNamesForm(forms.Form):
    """Which folders of an import go under which dog: as many pairs as there are folders, or all under their names."""

    everything = forms.BooleanField(required=False)

    def names(self, batch) -> dict[str, str]:
        """Suggested name -> the name that the person wants."""
        if self.cleaned_data["everything"]:
            return {row["dog"]: row["dog"] for row in batch.dogs()}
        pairs = zip(self.data.getlist("dog"), self.data.getlist("name"), strict=False)
        return {dog: name.strip()[:100] for dog, name in pairs if name.strip()}


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
