"""The page of one photo, its files, and what people say on it."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from breeds import words
from breeds.caution import is_called_for, may_see_cautions
from breeds.models import Review, ReviewRefused
from breeds.numbers import whole_numbers
from breeds.quality import track_record
from shelter.models import Photo
from shelter.pages.answers import answers_of
from shelter.pages.media import file_response
from shelter.pages.review_form import ReviewForm, breed_names, is_of_deleted_photo, keep

PHOTO_WITH_NAMES = Photo.objects.with_twin().select_related("breed", "second_breed", "animal", "uploaded_by")
MOST_AWAITED = 200  # photos of one page; the script asks for the others in its next question


@login_required
@require_GET
def photo(request, pk):
    photo = get_object_or_404(PHOTO_WITH_NAMES, pk=pk)
    return render(request, "shelter/photo.html", photo_context(request, photo))


def photo_context(request, photo: Photo, form: ReviewForm | None = None) -> dict:
    answered, standing = photo.newest_answer, photo.standing_review
    shown = {"prediction": answered, "standing": standing.pk if standing else None}
    return {
        "photo": photo,
        "answer": answers_of([photo])[photo.pk],
        "record": track_record(photo.decision) if photo.source == Photo.Source.MODEL else None,
        "history": photo.reviews.select_related("by", "breed", "second_breed", "withdrawal__by").exclude(
            verdict=Review.Verdict.WITHDRAW
        ),
        "confirmable": words.confirmable(answered) if answered else "",
        "may_review": request.user.has_perm("breeds.add_review"),
        "may_withdraw_any": request.user.has_perm("breeds.withdraw_any_review"),
        "review_form": form or ReviewForm(photo, initial=shown),
        "breed_names": breed_names(),
        "cautions": may_see_cautions(request.user),
        "caution": may_see_cautions(request.user) and is_called_for([photo]),
    }


@login_required
@require_GET
def photo_answers(request):
    """What a page shows of those of its photos that are answered by now: one question, however many it awaits."""
    awaited = whole_numbers(request.GET.get("photos", "").split(",")[:MOST_AWAITED])
    photos = Photo.objects.with_twin().select_related("breed", "second_breed").in_bulk(awaited)
    answered = [photo for photo in photos.values() if photo.status != Photo.Status.PENDING]
    answers = answers_of(answered)
    context = {
        "photos": [(photo, answers[photo.pk]) for photo in answered],
        "deleted": [number for number in awaited if number not in photos],
    }
    response = render(request, "shelter/_answers.html", context)
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
@permission_required("breeds.add_review", raise_exception=True)
def photo_review(request, pk):
    """Append what this person says; what cannot be kept comes back in the form."""
    photo = PHOTO_WITH_NAMES.filter(pk=pk).first()
    if photo is None:
        return _photo_is_gone(request)
    form = ReviewForm(photo, request.POST)
    if form.is_valid() and keep(request, form):
        return redirect(photo)
    if is_of_deleted_photo(form):
        return _photo_is_gone(request)
    return render(request, "shelter/photo.html", photo_context(request, photo, form), status=422)


@login_required
@require_POST
@permission_required("breeds.add_review", raise_exception=True)
def review_withdraw(request, pk):
    review = Review.objects.select_related("photo", "by").filter(pk=pk).first()
    if review is None:
        return _photo_is_gone(request)
    try:
        Review.objects.withdraw(review, by=request.user)
    except ReviewRefused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, _("Withdrawn. Nothing was deleted: the history keeps both."))
    return redirect(review.photo)


def _photo_is_gone(request):
    messages.error(request, _("This photo was deleted meanwhile; there is nothing to review."))
    return redirect("photo_list")


@login_required
@require_GET
def photo_file(request, pk, kind):
    """The preview, a smaller one, or for those who may the original; never as anything a browser would run."""
    photo = get_object_or_404(Photo, pk=pk)
    if kind == "original" and not request.user.has_perm("shelter.view_original"):
        return redirect("photo_file", pk, "preview")
    file = {"original": photo.image}.get(kind, photo.preview)
    if not file or kind not in {"original", "preview", *Photo.THUMBNAILS}:
        raise Http404
    try:
        stored = photo.thumbnail(Photo.THUMBNAILS[kind]) if kind in Photo.THUMBNAILS else file.name
        return file_response(
            file.storage,
            stored,
            media_type=photo.media_type if kind == "original" else "image/jpeg",
            filename=photo.original_name if kind == "original" else f"{kind}-{photo.pk}.jpg",
        )
    except FileNotFoundError:
        raise Http404 from None
