"""The pages of staff. Each view: check, form, model, answer."""

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db import connection
from django.http import FileResponse, Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from breeds.models import Breed, BreedGroup, ClassifierVersion, Decision
from shelter.forms import AnimalNameForm, PhotoFilterForm
from shelter.models import Animal, Photo

PHOTOS_A_PAGE = 48


@require_GET
def healthz(request):
    """Is this process alive and its database within reach?"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


@login_required
@require_GET
def photo_list(request):
    form = PhotoFilterForm(request.GET)
    photos = form.apply(Photo.objects.select_related("breed", "animal").defer("animal__notes"))
    breeds = Breed.objects.in_bulk()
    return render(
        request,
        "shelter/photo_list.html",
        {
            "page_obj": Paginator(photos, PHOTOS_A_PAGE).get_page(request.GET.get("page")),
            "breed_counts": [
                {"breed": breeds[row["breed"]], "count": row["count"]} for row in Photo.objects.counts_by("breed")
            ],
            "group_counts": [
                {"slug": row["group"], "name": BreedGroup(row["group"]).label, "count": row["count"]}
                for row in Photo.objects.counts_by("group")
            ],
            "decision_counts": [
                {"value": row["decision"], "label": Decision(row["decision"]).label, "count": row["count"]}
                for row in Photo.objects.counts_by("decision")
            ],
            "filters": form.values,
        },
    )


@login_required
@require_GET
def photo(request, pk):
    photos = Photo.objects.with_twin().select_related("breed", "animal", "uploaded_by")
    found = get_object_or_404(photos, pk=pk)
    names = Animal.objects.values_list("name", flat=True).distinct()[:500]
    return render(request, "shelter/photo.html", {"photo": found, "answer": found.answer, "animal_names": names})


@login_required
@require_GET
def photo_answer(request, pk):
    found = get_object_or_404(Photo.objects.with_twin().select_related("breed"), pk=pk)
    return render(request, "shelter/_answer.html", {"photo": found, "answer": found.answer})


@login_required
@require_POST
def photo_animal(request, pk):
    found = get_object_or_404(Photo, pk=pk)
    form = AnimalNameForm(request.POST)
    if form.is_valid():
        form.file(found)
    return redirect(found)


@login_required
@require_GET
def photo_file(request, pk, kind):
    """The preview, or for those who may the original; never as anything a browser would run."""
    found = get_object_or_404(Photo, pk=pk)
    if kind == "original" and not request.user.has_perm("shelter.view_original"):
        return redirect("photo_file", pk, "preview")
    file = {"preview": found.preview, "original": found.image}.get(kind)
    if not file:
        raise Http404
    try:
        stored = file.open("rb")
    except FileNotFoundError:
        raise Http404 from None
    response = FileResponse(
        stored,
        content_type="image/jpeg" if kind == "preview" else found.media_type,
        filename=f"{kind}-{found.pk}.jpg" if kind == "preview" else found.original_name,
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
