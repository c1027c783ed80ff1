"""The page on which photos are uploaded."""

import uuid

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST

from shelter.intake.refusals import refusal
from shelter.intake.uploads import Outcome, Receipt, know_into, upload_into
from shelter.models import Import, Photo


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


@login_required
@require_http_methods(["GET", "POST"])
def upload(request):
    """One file or many; with htmx the receipts alone, without JavaScript the whole page."""
    context = UploadForm.limits() | {"key": uuid.uuid4()}
    if request.method == "POST":
        form = UploadForm(request.POST, request.FILES)
        is_valid = form.is_valid()
        batch = Import.objects.upload_of(request.user, form.cleaned_data.get("batch"))
        if is_valid:
            context["receipts"] = [upload_into(batch, file) for file in form.cleaned_data["images"]]
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
    receipt = know_into(batch, photo, name)
    return _with_address(render(request, "shelter/_receipts.html", {"receipts": [receipt]}), batch)


def _with_address(response, batch: Import):
    response["X-Import"] = batch.get_absolute_url()
    return response
