"""The page on which photos are uploaded."""

import uuid
from dataclasses import replace

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST

from breeds.numbers import whole_number
from shelter.intake.filing import file_if_free
from shelter.intake.refusals import refusal
from shelter.intake.uploads import Outcome, Receipt, know_into, upload_into
from shelter.models import Animal, Import, Photo


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


class ForAnimal(forms.Form):
    """`animal`: the key of the dog whose photos are sent. An unknown key is ignored: the photos are kept, unfiled."""

    animal = forms.Field(required=False)  # takes any text: a CharField would refuse the photos for a NUL character

    def clean_animal(self) -> Animal | None:
        return dog_of(self.cleaned_data["animal"])


def dog_of(text: str | None) -> Animal | None:
    return Animal.objects.filter(pk=whole_number(text) or 0).first()


class UploadForm(ForAnimal):
    batch = forms.Field(required=False)
    images = ManyFilesField()

    def clean_batch(self) -> uuid.UUID | None:
        """An invalid key is ignored: the photo is kept, but not grouped with the page's other files."""
        try:
            return uuid.UUID(self.cleaned_data["batch"] or "")
        except ValueError:
            return None

    @staticmethod
    def limits() -> dict:
        return {
            "max_megabytes": settings.MAX_PHOTO_BYTES // 1_000_000,
            "max_request_megabytes": settings.MAX_REQUEST_BYTES // 1_000_000,
        }


class KnownFileForm(ForAnimal):
    batch = forms.UUIDField()
    sha256 = forms.RegexField(r"^[0-9a-f]{64}$")
    name = forms.CharField(max_length=1000)


@login_required
@require_http_methods(["GET", "POST"])
def upload(request):
    """One file or many; with htmx the receipts alone, without JavaScript the whole page."""
    context = UploadForm.limits() | {"key": uuid.uuid4(), "animal": dog_of(request.GET.get("animal", ""))}
    if request.method == "POST":
        form = UploadForm(request.POST, request.FILES)
        is_valid = form.is_valid()
        batch = Import.objects.upload_of(request.user, form.cleaned_data.get("batch"))
        animal = context["animal"] = form.cleaned_data["animal"]
        if is_valid:
            receipts = (upload_into(batch, file) for file in form.cleaned_data["images"])
            context["receipts"] = [filed(receipt, animal, request.user) for receipt in receipts]
        else:
            context["receipts"] = [Receipt(Outcome.REFUSED, "", refusal("no_file", ""), code="no_file")]
        context["batch"] = batch
        if request.htmx:
            return _with_address(render(request, "shelter/_receipts.html", context), batch)
    context["recent"] = request.user.photos.select_related("breed", "second_breed", "animal")[:12]
    return render(request, "shelter/upload.html", context)


@login_required
@require_POST
def upload_check(request):
    """The receipt of a file whose bytes are here already; 204 for one that must be sent."""
    form = KnownFileForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"code": "invalid", "errors": form.errors}, status=400)
    sha256, name = form.cleaned_data["sha256"], form.cleaned_data["name"]
    photo = Photo.objects.with_content(sha256).select_related("animal").first()
    if photo is None:
        return HttpResponse(status=204)
    batch = Import.objects.upload_of(request.user, form.cleaned_data["batch"])
    receipt = filed(know_into(batch, photo, name), form.cleaned_data["animal"], request.user)
    return _with_address(render(request, "shelter/_receipts.html", {"receipts": [receipt]}), batch)


def filed(receipt: Receipt, animal: Animal | None, user) -> Receipt:
    """The receipt of a photo that was sent on the page of a dog: the photo is filed there, unless it has a dog."""
    if not animal or not receipt.photo:
        return receipt
    file_if_free(receipt.photo, animal, user)
    message = receipt.photo.already_sent if receipt.outcome == Outcome.KNOWN else receipt.message
    return replace(receipt, message=message)


def _with_address(response, batch: Import):
    response["X-Import"] = batch.get_absolute_url()
    return response
