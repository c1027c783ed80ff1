"""The pages of staff. Each view: check, form, model, answer."""

from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import FileResponse, Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from breeds.models import Breed, BreedGroup, ClassifierVersion
from shelter.forms import UploadForm
from shelter.models import Photo
from shelter.uploads import Outcome, Receipt, upload_photo


@require_GET
def healthz(request):
    """Is this process alive and its database within reach?"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


@login_required
@require_http_methods(["GET", "POST"])
def upload(request):
    """One file or many; with htmx the receipts alone, without JavaScript the whole page."""
    context = UploadForm.limits()
    if request.method == "POST":
        form = UploadForm(request.POST, request.FILES)
        if form.is_valid():
            context["receipts"] = [upload_photo(file, user=request.user) for file in form.cleaned_data["images"]]
        else:
            message = _("No file arrived. Choose at least one photo, or send it again.")
            context["receipts"] = [Receipt(Outcome.REFUSED, "", message, code="no_file")]
        if request.htmx:
            return render(request, "shelter/_receipts.html", context)
    context["recent"] = request.user.photos.select_related("breed", "animal")[:12]
    return render(request, "shelter/upload.html", context)


@login_required
@require_GET
def photo(request, pk):
    found = get_object_or_404(Photo.objects.select_related("breed", "animal", "uploaded_by"), pk=pk)
    return render(request, "shelter/photo.html", {"photo": found, "answer": found.answer})


@login_required
@require_GET
def photo_answer(request, pk):
    found = get_object_or_404(Photo.objects.select_related("breed"), pk=pk)
    return render(request, "shelter/_answer.html", {"photo": found, "answer": found.answer})


@login_required
@require_GET
def photo_file(request, pk, kind):
    """The preview, a smaller one or the original, for people who are logged in; never as what a browser would run."""
    found = get_object_or_404(Photo, pk=pk)
    file = {"original": found.image}.get(kind, found.preview)
    if not file or kind not in {"original", "preview", *Photo.THUMBNAILS}:
        raise Http404
    try:
        stored = found.open_thumbnail(Photo.THUMBNAILS[kind]) if kind in Photo.THUMBNAILS else file.open("rb")
    except FileNotFoundError:
        raise Http404 from None
    response = FileResponse(
        stored,
        content_type=found.media_type if kind == "original" else "image/jpeg",
        filename=found.original_name if kind == "original" else f"{kind}-{found.pk}.jpg",
    )
    response["Cache-Control"] = "private, max-age=86400, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


@login_required
@require_GET
def breed_list(request):
    """Which breeds the classifier can recognise, and which it can only mistake for others."""
    version = ClassifierVersion.objects.active()
    labels = set(version.labels) if version else set()
    breeds = sorted(Breed.objects.all(), key=lambda breed: breed.name.lower())
    groups = [
        {
            "name": group.label,
            "known": [breed for breed in breeds if breed.group == group and breed.slug in labels],
            "unknown": [breed for breed in breeds if breed.group == group and breed.slug not in labels],
        }
        for group in BreedGroup
    ]
    known_count = sum(len(group["known"]) for group in groups)
    context = {"groups": groups, "known_count": known_count, "unknown_count": len(breeds) - known_count}
    return render(request, "breeds/breed_list.html", context)


def not_found(request, exception=None):
    """404 as JSON for scripts, as a page for people."""
    if request.path.startswith("/api/"):
        return JsonResponse({"code": "not_found", "detail": "Expected a known address."}, status=404)
    return render(request, "404.html", status=404)


def server_error(request):
    if request.path.startswith("/api/"):
        return JsonResponse({"code": "server_error", "detail": "Something broke here; try again."}, status=500)
    response = render(request, "500.html", status=500)
    return HttpResponse(response.content, status=500)
