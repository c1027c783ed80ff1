"""Found or lost: which dogs of the index look most like the one in a photo."""

from base64 import b64encode
from dataclasses import dataclass

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods

from breeds import lookalikes
from breeds.classifier import BadCheckpoint, UnreadableImage, shrink_image
from shelter.intake.refusals import refusal
from shelter.intake.uploads import file_name
from shelter.models import Photo

PHOTOS, CARDS = 60, 24


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


@dataclass(frozen=True)
class Card:
    """A dog, or a photo without a dog, by its nearest photo."""

    photo: Photo
    similarity: float


def cards_of(nearest: lookalikes.Found) -> list[Card]:
    """The shortlist: each dog once, the nearest first."""
    photos = Photo.objects.select_related("breed", "second_breed", "animal").defer("animal__notes")
    photos = photos.in_bulk([lookalike.photo for lookalike in nearest.lookalikes])
    cards: dict[tuple, Card] = {}
    for lookalike in nearest.lookalikes:
        if photo := photos.get(lookalike.photo):
            key = ("dog", photo.animal_id) if photo.animal_id else ("photo", photo.pk)
            cards.setdefault(key, Card(photo, lookalike.similarity))
    return list(cards.values())[:CARDS]


@login_required
@require_http_methods(["GET", "POST"])
def lookalike_search(request):
    """By a photo that is looked at and then forgotten."""
    if request.method == "GET":
        return render(request, "shelter/lookalikes.html", {"form": OnePhotoForm()})
    form = OnePhotoForm(request.POST, request.FILES)
    if not form.is_valid():
        return render(request, "shelter/lookalikes.html", {"form": form}, status=422)
    image_bytes, name = form.cleaned_data["image"].read(), file_name(form.cleaned_data["image"].name)
    try:
        nearest = lookalikes.photos_like_image(image_bytes, PHOTOS)
        sought = b64encode(shrink_image(image_bytes, Photo.THUMBNAILS["medium"])).decode()
    except UnreadableImage as error:
        form.add_error("image", refusal(error.reason, name))
    except BadCheckpoint:
        form.add_error("image", gettext("The classifier cannot be loaded. Tell an administrator."))
    if form.errors:
        return render(request, "shelter/lookalikes.html", {"form": form}, status=422)
    context = {"form": form, "cards": cards_of(nearest), "searched": nearest.searched, "sought": sought, "name": name}
    return render(request, "shelter/lookalikes.html", context)


@login_required
@require_GET
def photo_lookalikes(request, pk):
    """By a photo of the index; its own dog is left out."""
    photo = get_object_or_404(Photo.objects.select_related("animal", "breed", "second_breed"), pk=pk)
    own = photo.animal.photos.values_list("pk", flat=True) if photo.animal else []
    nearest = lookalikes.photos_like(photo.pk, PHOTOS, without=list(own))
    cards, searched = (cards_of(nearest), nearest.searched) if nearest else ([], 0)
    context = {"photo": photo, "cards": cards, "searched": searched}
    return render(request, "shelter/photo_lookalikes.html", context)
