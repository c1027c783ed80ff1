"""The pages of imports: where archives are sent, and what became of each file."""

import uuid

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from breeds import words
from shelter.intake.filing import file_under_names
from shelter.intake.importing import check_archive_size, receive_part, receive_whole
from shelter.intake.refusals import REASONS, refusal
from shelter.intake.uploads import receipt_of
from shelter.models import Import, ImportItem, imports
from shelter.pages.uploads import UploadForm
from shelter.search.exports import CsvTable, download

RECEIPTS_A_PAGE = 100
DOGS_A_PAGE = 50
IMPORTS_A_PAGE = 25


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


@login_required
@require_http_methods(["GET", "POST"])
def import_list(request):
    """What came in at once; and where archives are sent, whole or, by the script, announced first."""
    form = ArchiveForm(request.POST, request.FILES) if request.method == "POST" else ArchiveForm()
    if request.method == "POST" and form.is_valid():
        if file := form.cleaned_data.pop("archive"):
            return redirect(receive_whole(request.user, file))
        return JsonResponse(_state(Import.objects.receive(request.user, **form.cleaned_data)))
    if request.method == "POST" and request.htmx:
        return JsonResponse({"detail": " ".join(form.non_field_errors())}, status=400)
    page = Paginator(Import.objects.select_related("user"), IMPORTS_A_PAGE).get_page(request.GET.get("page"))
    Import.objects.count_files(page.object_list)
    context = UploadForm.limits() | {"page_obj": page, "form": form, "key": uuid.uuid4()}
    return render(request, "shelter/import_list.html", context, status=400 if form.errors else 200)


def _state(batch: Import) -> dict:
    return {
        "url": batch.get_absolute_url(),
        "parts_url": reverse("import_part", args=[batch.pk, 0]).removesuffix("0/"),
        "received": batch.received,
        "part_bytes": imports.PART_BYTES,
        "part_count": batch.part_count,
    }


@login_required
@require_POST
def import_part(request, pk, number):
    """One piece of an archive of one's own. 409 with the state where another piece is awaited."""
    batch = get_object_or_404(Import, pk=pk, user=request.user, kind=Import.Kind.ARCHIVE)
    file = request.FILES.get("part")
    is_taken = file is not None and receive_part(batch, number, file)
    return JsonResponse(_state(batch), status=200 if is_taken else 409)


@login_required
@require_GET
def import_page(request, pk):
    batch = get_object_or_404(Import.objects.select_related("user"), pk=pk)
    outcome = request.GET.get("outcome", "")
    items = _selected_items(batch, outcome, request.GET.get("code", ""))
    page = Paginator(items.with_photos(), RECEIPTS_A_PAGE).get_page(request.GET.get("page"))
    dogs = batch.dogs()
    context = _progress(batch) | {
        "page_obj": page,
        "receipts": [receipt_of(item) for item in page],
        "chosen": outcome,
        "dogs": dogs[:DOGS_A_PAGE],
        "dog_count": len(dogs),
        "unfiled": batch.items.filter(photo__isnull=False, photo__animal=None).exists(),
    }
    return render(request, "shelter/import.html", context)


def _selected_items(batch: Import, outcome: str, code: str):
    items = batch.items.similar() if outcome == "similar" else batch.items.all()
    if outcome in ImportItem.Outcome.values:
        items = items.filter(outcome=outcome)
    return items.filter(code=code) if code else items


def _progress(batch: Import) -> dict:
    return {
        "batch": batch,
        "outcomes": [(value, label, batch.counts[value]) for value, label in ImportItem.Outcome.choices],
        "refusals": [(code, REASONS.get(code, code), count) for code, count in batch.refusals],
        "error": refusal(batch.error_code, batch.name) if batch.status == Import.Status.FAILED else "",
        "is_moving": not batch.is_over or batch.unanswered > 0,
    }


@login_required
@require_GET
def import_progress(request, pk):
    """The figures alone, asked for every other second; when the last has come in, the whole page once more."""
    context = _progress(get_object_or_404(Import, pk=pk))
    response = render(request, "shelter/_import.html", context)
    if not context["is_moving"]:
        response["HX-Refresh"] = "true"
    return response


@login_required
@require_POST
def import_dogs(request, pk):
    """File the photos of folders under dogs; photos that are under one already stay there."""
    batch = get_object_or_404(Import, pk=pk)
    form = DogNamesForm(request.POST)
    if form.is_valid():
        for sentence in file_under_names(batch, form.names(batch), request.user):
            messages.error(request, sentence)
    return redirect(batch)


@login_required
@require_GET
def import_receipts(request, pk):
    """Every receipt as CSV, as spreadsheets of the reader's language open it."""
    batch = get_object_or_404(Import, pk=pk)
    if not batch.total:
        raise Http404
    table = CsvTable(get_language() or "fr")
    items = _selected_items(batch, request.GET.get("outcome", ""), request.GET.get("code", "")).with_photos()

    def rows():
        heads = [_("File"), _("Outcome"), _("Reason"), _("Photo"), _("Animal"), _("Looks like"), _("Answer"), _("Date")]
        yield table.first_line(heads)
        for item in items.iterator(chunk_size=500):
            yield table.line(_cells(request, item))

    return download(rows(), "csv", f"flair-{batch.pk}-{timezone.localdate():%Y-%m-%d}")


def _cells(request, item: ImportItem) -> list[str]:
    photo, receipt = item.photo, receipt_of(item)
    twin = photo.twin if photo else None
    return [
        item.path,
        item.get_outcome_display(),
        receipt.message,
        request.build_absolute_uri(photo.get_absolute_url()) if photo else "",
        photo.animal or "" if photo else "",
        request.build_absolute_uri(twin.get_absolute_url()) if twin else "",
        photo.words if photo else "",
        timezone.localtime(item.settled_at).isoformat(" ", "seconds") if item.settled_at else "",
    ]
