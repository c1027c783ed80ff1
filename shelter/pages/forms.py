import uuid
from datetime import timedelta

from django import forms
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breeds import words
from shelter.intake.importing import check_archive_size
from shelter.intake.refusals import refusal
from shelter.models import Animal, ApiToken, Event, Photo, Webhook
from shelter.models.animals import clean_microchip, date_errors
from shelter.posting import ForbiddenAddress, check_url


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
        file, size = values.get("archive"), values.get("size")
        if not file and not (values.get("name") and size):
            raise forms.ValidationError(_("Choose a zip archive."), code="no_file")
        check_archive_size(file.size if file else size)
        return values


class DogNamesForm(forms.Form):
    """Which folders of an import go under which dog: as many pairs as there are folders, or all under their names."""

    everything = forms.BooleanField(required=False)

    def names(self, batch) -> dict[str, str]:
        """Suggested name -> the name that the person wants; folders whose name has no letter are left out."""
        if self.cleaned_data["everything"]:
            pairs = [(row["dog"], row["dog"]) for row in batch.dogs()]
        else:
            pairs = zip(self.data.getlist("dog"), self.data.getlist("name"), strict=False)
        return {dog: name.strip()[:120] for dog, name in pairs if words.fold(name)}


class OnePhotoForm(forms.Form):
    image = forms.FileField(
        label=_("Photo"), help_text=_("JPEG, PNG, WebP or HEIC."),
        widget=forms.FileInput(attrs={"accept": "image/*,.heic,.heif"}),
    )  # fmt: skip

    def clean_image(self):
        file = self.cleaned_data["image"]
        if file.size > settings.MAX_PHOTO_BYTES:
            raise forms.ValidationError(refusal("too_large", file.name))
        return file


class MailForm(forms.Form):
    email = forms.EmailField(
        label=_("Mail address"), max_length=254,
        help_text=_("Where a link is sent to if you forget your password."),
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )  # fmt: skip
    password = forms.CharField(
        label=_("Your password"), strip=False, help_text=_("So that nobody else can turn your mail away."),
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip

    def __init__(self, data=None, *, user):
        self.user = user
        super().__init__(data, initial={"email": user.email})

    def clean_password(self):
        if not self.user.check_password(self.cleaned_data["password"]):
            raise forms.ValidationError(_("This is not your password."))

    def save(self) -> None:
        self.user.email = self.cleaned_data["email"]
        self.user.save(update_fields=["email"])


class TokenForm(forms.Form):
    name = forms.CharField(label=_("What is it for?"), max_length=100)
    scopes = forms.MultipleChoiceField(
        label=_("What may it do?"), choices=ApiToken.Scope.choices, initial=[ApiToken.Scope.READ],
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    days = forms.TypedChoiceField(
        label=_("For how long?"), coerce=int, initial="365",
        choices=[("30", _("30 days")), ("365", _("one year")), ("0", _("until it is revoked"))],
    )  # fmt: skip

    def wish(self) -> dict:
        """What `ApiToken.issue` wants to know."""
        values = self.cleaned_data
        expires_at = timezone.now() + timedelta(days=values["days"]) if values["days"] else None
        return {"name": values["name"], "scopes": values["scopes"], "expires_at": expires_at}


class WebhookForm(forms.Form):
    url = forms.URLField(
        label=_("Address"), max_length=500, assume_scheme="https",
        help_text=_("Starts with https:// and can be reached from the internet."),
    )  # fmt: skip
    events = forms.MultipleChoiceField(
        label=_("What should it be told?"), choices=Event.choices, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data=None, *, user):
        self.user = user
        super().__init__(data, prefix="webhook")

    def clean_url(self):
        try:
            check_url(self.cleaned_data["url"])
        except ForbiddenAddress as error:
            raise forms.ValidationError(_("Flair cannot send to this address: %(why)s") % {"why": error}) from error
        return self.cleaned_data["url"]

    def clean(self):
        if self.user.webhooks.count() >= Webhook.MOST:
            said = _("You have %(most)s addresses already. Remove one first.")
            raise forms.ValidationError(said % {"most": Webhook.MOST})
        return super().clean()

    def save(self) -> Webhook:
        return self.user.webhooks.create(url=self.cleaned_data["url"], events=sorted(self.cleaned_data["events"]))


class FilingForm(forms.Form):
    """Photos, and the dog they show: one by its name or by “name (number)”, a new one, or with `out` none."""

    photos = forms.ModelMultipleChoiceField(Photo.objects.all(), error_messages={"required": _("Choose a photo.")})
    name = forms.CharField(max_length=120, required=False, strip=True)
    out = forms.BooleanField(required=False)
    animal = None

    def clean(self):
        values = super().clean()
        if not values.get("out"):
            if not words.fold(values.get("name", "")):
                raise forms.ValidationError(_("Give the name of the dog."))
            self.animal = Animal.objects.called(values["name"])
        return values

    def file(self) -> Animal | None:
        with transaction.atomic():
            if self.animal is None and not self.cleaned_data["out"]:
                self.animal = Animal.objects.create(name=self.cleaned_data["name"][:100])
            self.cleaned_data["photos"].file_under(self.animal)
        return self.animal


class DateInput(forms.DateInput):
    """The browser's own calendar, which wants ISO dates in every language."""

    input_type = "date"

    def __init__(self, attrs=None):
        super().__init__(attrs, format="%Y-%m-%d")


class AnimalForm(forms.ModelForm):
    born_about = forms.BooleanField(label=_("This date is a guess"), label_suffix="", required=False)
    microchip = forms.CharField(
        label=_("Microchip"), required=False, max_length=40, help_text=_("15 digits; spaces do no harm."),
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )  # fmt: skip

    class Meta:
        model = Animal
        fields = ["name", "status", "sex", "born_on", "born_about", "arrived_on", "microchip", "notes"]
        labels = {
            "name": _("Name"),
            "status": _("Status"),
            "sex": _("Sex"),
            "born_on": _("Born on"),
            "arrived_on": _("Arrived on"),
            "notes": _("Notes"),
        }
        help_texts = {
            "born_on": _("If only the age is known, take a date that fits and tick the box below."),
            "notes": _("What helps to recognise the dog or to find it a home. Everybody who may log in reads this."),
        }
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "off"}),
            "born_on": DateInput(),
            "arrived_on": DateInput(),
            "notes": forms.Textarea(attrs={"rows": 4}),
        }

    def clean_microchip(self):
        return clean_microchip(self.cleaned_data["microchip"])

    def clean(self):
        values = super().clean()
        errors = date_errors(values.get("born_on"), values.get("arrived_on"), values.get("born_about"))
        for name, sentence in errors.items():
            self.add_error(name, sentence)
        return values
