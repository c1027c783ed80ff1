"""The grid of the review queue: photos that the model calls one breed, so that a stranger among them stands out."""

from dataclasses import dataclass, field

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db.models import Count
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from breeds.caution import CONCERNED, may_see_cautions
from breeds.models import Breed, Prediction, Review, ReviewRefused, ReviewTurn
from breeds.numbers import whole_numbers
from shelter.models import Photo
from shelter.pages.review_queue import remember_step

CARDS = 24


@login_required
@permission_required("breeds.use_review_queue", raise_exception=True)
@require_http_methods(["GET", "POST"])
def grid(request):
    """The photos of one breed; a POST confirms those that were chosen and puts the others off."""
    if request.method == "POST":
        return _confirm(request)
    waiting = _waiting_breeds(request.user)
    breed, cards = _first_cards(request.user, waiting, request.GET.get("breed", ""))
    answers = Prediction.objects.answers().only("photo").newest_of(cards)
    context = {
        "breed": breed,
        "breeds": waiting,
        "caution": may_see_cautions(request.user) and breed is not None and breed.slug in CONCERNED,
        "cards": [(photo, answers[photo.pk].pk) for photo in cards if photo.pk in answers],
    }
    return render(request, "shelter/review_grid.html", context)


def _waiting_breeds(user) -> list[tuple[Breed, int]]:
    """Each breed with the number of photos that the grid can show to this person, the most frequent first."""
    photos = ReviewTurn.objects.free_for(user, Photo.objects.confirmable().exclude(breed=None))
    counts = dict(photos.order_by().values_list("breed").annotate(n=Count("pk")))
    breeds = Breed.objects.in_bulk(counts)
    return sorted(((breeds[pk], n) for pk, n in counts.items()), key=lambda pair: (-pair[1], pair[0].name))


def _first_cards(user, waiting: list[tuple[Breed, int]], slug: str) -> tuple[Breed | None, list[Photo]]:
    """The photos of the breed `slug`, else of the first breed that still has some when this person's turn is taken."""
    for breed in sorted((breed for breed, _n in waiting), key=lambda breed: breed.slug != slug):
        photos = Photo.objects.confirmable_as(breed).select_related("animal", "breed", "second_breed")
        if cards := ReviewTurn.objects.grid_for(user, photos, CARDS):
            return breed, cards
    return None, []


@dataclass
class _Outcome:
    kept: list[int] = field(default_factory=list)  # reviews
    decided: int = 0  # by somebody else meanwhile
    refused: list[str] = field(default_factory=list)


def _confirm(request):
    chosen, shown = _pairs(request.POST.getlist("chosen")), _pairs(request.POST.getlist("shown"))
    outcome = _record(request.user, chosen)
    ReviewTurn.objects.filter(by=request.user, photo__in=chosen).delete()
    ReviewTurn.objects.put_off(request.user, *(shown.keys() - chosen.keys()))
    if outcome.kept:
        remember_step(request, outcome.kept)
        text = ngettext("%(n)d photo confirmed.", "%(n)d photos confirmed.", len(outcome.kept))
        messages.success(request, text % {"n": len(outcome.kept)})
    if outcome.decided:
        text = ngettext(
            "%(n)d had been decided by somebody else meanwhile and stays as it is.",
            "%(n)d had been decided by somebody else meanwhile and stay as they are.",
            outcome.decided,
        )
        messages.warning(request, text % {"n": outcome.decided})
    for sentence in dict.fromkeys(outcome.refused):
        messages.warning(request, sentence)
    if not chosen:
        messages.info(request, _("None chosen: these come back one by one."))
    return redirect(f"{reverse('review_grid')}?breed={request.POST.get('breed', '')[:50]}")


def _record(user, chosen: dict[int, int]) -> _Outcome:
    """One review for each photo, with the answer that was shown; what one photo meets costs no other."""
    outcome = _Outcome()
    photos = Photo.objects.in_bulk(chosen)
    answers = Prediction.objects.without_vectors().in_bulk(chosen.values())
    for number, answer in chosen.items():
        photo = photos.get(number)
        if photo is None or answer not in answers:
            outcome.refused.append(_("A photo was deleted meanwhile; there is nothing to review."))
        elif photo.by_person:
            outcome.decided += 1
        else:
            try:
                recorded = Review.objects.record(
                    photo, by=user, verdict=Review.Verdict.CONFIRM, prediction=answers[answer]
                )
                outcome.kept.append(recorded.review.pk)
            except ReviewRefused as refused:
                outcome.refused.append(str(refused))
    return outcome


def _pairs(values: list[str]) -> dict[int, int]:
    """Parse ["12:34", …], the photo and the answer of each box, into {12: 34}; malformed values are skipped."""
    pairs = [whole_numbers(value.split(":")) for value in values[:CARDS] if value.count(":") == 1]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
