"""The review queue: one photo after another, the most useful first, each in front of one person at a time."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from breeds import words
from breeds.caution import is_called_for, may_see_cautions
from breeds.lookalikes import photos_like
from breeds.models import Breed, Review, ReviewRefused, ReviewTurn
from breeds.numbers import whole_number
from shelter.models import Photo
from shelter.pages.review_form import ReviewForm, breed_names, is_of_deleted_photo, keep

STEPS, MOST_STEPS = "review_steps", 50  # in the session: what each press of a button said
LOOKALIKES = 6

may_use = permission_required("breeds.use_review_queue", raise_exception=True)


@login_required
@may_use
@require_http_methods(["GET", "POST"])
def card(request):
    """The next photo; a POST says something about one and goes on to the next."""
    if request.method == "GET":
        return _show(request, ReviewTurn.objects.next_for(request.user, _waiting()))
    photo = Photo.objects.select_related("animal", "breed").filter(pk=whole_number(request.POST.get("photo"))).first()
    if photo is None:
        messages.error(request, _("This photo was deleted meanwhile; there is nothing to review."))
        return redirect("review_queue")
    form = ReviewForm(photo, _verdict_of(request.POST))
    if form.is_valid():
        form.cleaned_data["blind"] = photo.hides(form.cleaned_data["prediction"])
        if recorded := keep(request, form):
            ReviewTurn.objects.filter(photo=photo, by=request.user).delete()
            remember_step(request, [recorded.review.pk])
            return redirect("review_queue")
    if is_of_deleted_photo(form):
        messages.error(request, form.non_field_errors()[0])
        return redirect("review_queue")
    return _show(request, photo, form, status=422)


@login_required
@require_POST
@may_use
def put_off(request, pk):
    ReviewTurn.objects.put_off(request.user, pk)
    return redirect("review_queue")


@login_required
@require_POST
@may_use
def undo(request):
    """Withdraw what this person said last and show that photo again; any number of steps, a bulk one as a whole."""
    steps, reviews = request.session.get(STEPS, []), []
    mine = Review.objects.standing().filter(by=request.user).select_related("photo", "by", "breed", "second_breed")
    while steps and not reviews:  # what was withdrawn elsewhere meanwhile is no step any more
        reviews = list(mine.filter(pk__in=steps.pop()))
    request.session[STEPS] = steps
    reviews = reviews or list(mine[:1])
    if not reviews:
        messages.warning(request, _("There is nothing to undo."))
        return redirect("review_queue")
    undone = [review for review in reviews if _withdrawn(request, review)]
    if len(reviews) > 1:
        text = ngettext("%(n)d confirmation undone.", "%(n)d confirmations undone.", len(undone))
        messages.success(request, text % {"n": len(undone)})
        return redirect(f"{reverse('review_grid')}?breed={reviews[0].breed.slug if reviews[0].breed else ''}")
    for review in undone:
        ReviewTurn.objects.take(request.user, review.photo)
        messages.success(request, _("Undone: %(said)s.") % {"said": words.verdict(review)})
    return redirect("review_queue")


def _withdrawn(request, review: Review) -> bool:
    try:
        Review.objects.withdraw(review, by=request.user)
    except ReviewRefused as refused:  # pressed twice at once, or deleted meanwhile
        messages.warning(request, str(refused))
        return False
    return True


def remember_step(request, reviews: list[int]) -> None:
    """What one press of a button said, so that one press undoes it."""
    request.session[STEPS] = [*request.session.get(STEPS, []), reviews][-MOST_STEPS:]


@login_required
@require_GET
@may_use
def lookalikes(request, pk):
    """Photos like this one whose breed a person has named; a blind card gets none, for they would give it away."""
    photo, cards = Photo.objects.filter(pk=pk).first(), []
    if photo and not photo.hides(photo.newest_answer):
        confirmed = Photo.objects.confirmed().exclude(pk=pk).values_list("pk", flat=True)
        found = photos_like(pk, LOOKALIKES, among=list(confirmed))
        nearest = found.lookalikes if found else []
        photos = Photo.objects.select_related("breed", "second_breed", "animal").defer("animal__notes")
        photos = photos.in_bulk([alike.photo for alike in nearest])
        cards = [(photos[alike.photo], alike.similarity) for alike in nearest if alike.photo in photos]
    return render(request, "shelter/_review_lookalikes.html", {"cards": cards})


def _waiting():
    return Photo.objects.awaiting_review().select_related("animal", "breed")


def _verdict_of(posted):
    """The posted form; the button of a candidate stands for a correction to its breed."""
    data = posted.copy()
    if posted.get("candidate"):
        data["verdict"], data["breed"] = Review.Verdict.CORRECT, posted["candidate"]
    return data


def _show(request, photo: Photo | None, form: ReviewForm | None = None, status: int = 200):
    context = {"photo": photo, "left": _waiting().count()}
    if photo:
        answer = photo.newest_answer
        shown = None if photo.hides(answer) else answer
        context |= {
            "blind": photo.hides(answer),
            "candidates": _candidates(shown.candidates[:3]) if shown else [],
            "confirmable": words.confirmable(shown) if shown else "",
            "review_form": form or ReviewForm(photo, initial={"prediction": answer}),
            "breed_names": breed_names(),
            "cautions": may_see_cautions(request.user) and shown is not None,  # on a blind card it would give away much
            "caution": may_see_cautions(request.user) and shown is not None and is_called_for([photo]),
        }
    return render(request, "shelter/review_queue.html", context, status=status)


def _candidates(candidates: list[dict]) -> list[dict]:
    """The breeds to choose with one key; those that the database lacks, and wild canids, are not offered."""
    breeds = Breed.objects.filter(wild=False).in_bulk([c["label"] for c in candidates], field_name="slug")
    return [
        {"key": key, "breed": breeds[c["label"]], "percent": words.percent(c["probability"])}
        for key, c in enumerate(candidates, 1)
        if c["label"] in breeds
    ]
