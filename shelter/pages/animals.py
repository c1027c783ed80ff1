"""The pages of animals: list, record, and the filing of photos."""

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Count
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from breeds import words
from breeds.audit import changed_values, log_addition, log_change
from breeds.caution import is_called_for, may_see_cautions
from breeds.numbers import whole_numbers
from shelter.models import Animal, Import, Photo
from shelter.models.animals import clean_microchip, date_errors
from shelter.pages.answers import AnswerCandidate, shown_candidates
from shelter.search.grouping import suggest_groups
from shelter.search.paging import page_of
from shelter.search.searching import DateInput

ANIMALS_A_PAGE = 48
ORDERS = {"name": ("name_folded", "id"), "newest": ("-id", "-id")}


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
                raise forms.ValidationError(gettext("Give the name of the dog."))
            self.animal = Animal.objects.called(values["name"])
        return values

    def file(self) -> Animal | None:
        with transaction.atomic():
            if self.animal is None and not self.cleaned_data["out"]:
                self.animal = Animal.objects.create(name=self.cleaned_data["name"][:100])
            self.cleaned_data["photos"].file_under(self.animal)
        return self.animal


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


@login_required
@require_GET
def animal_list(request):
    text, status = request.GET.get("q", "")[:100], request.GET.get("status", "")
    order = ORDERS.get(request.GET.get("sort"), ORDERS["name"])
    animals = Animal.objects.search(text)
    counts = dict(animals.order_by().values_list("status").annotate(n=Count("id")))
    if status in Animal.Status:
        animals = animals.filter(status=status)
    page = page_of(
        animals.with_covers().defer("notes"), order, ANIMALS_A_PAGE,
        after=request.GET.get("after", ""), before=request.GET.get("before", ""),
    )  # fmt: skip
    attach_covers(page.rows)
    context = {
        "page": page,
        "statuses": [(choice.value, choice.label, counts.get(choice.value, 0)) for choice in Animal.Status],
        "count": counts.get(status, 0) if status in Animal.Status else sum(counts.values()),
        "total": sum(counts.values()),
        "unfiled": Photo.objects.filter(animal=None).exists(),
        "q": text,
        "status": status if status in Animal.Status else "",
        "sort": request.GET.get("sort", ""),
    }
    return render(request, "shelter/animal_list.html", context)


def attach_covers(animals: list[Animal]) -> None:
    """Give each the photo of its `cover_id` as `cover`, all by one query."""
    covers = Photo.objects.select_related("breed", "second_breed").in_bulk(
        {animal.cover_id for animal in animals} - {None}
    )
    for animal in animals:
        animal.cover = covers.get(animal.cover_id)


@login_required
@require_GET
def animal(request, pk):
    record = get_object_or_404(Animal.objects.select_related("main_photo__breed", "main_photo__second_breed"), pk=pk)
    photos = list(record.photos.select_related("breed", "second_breed").order_by("position", "id"))
    best = shown_candidates(record.answer.candidates) if record.answer else []
    context = {
        "animal": record,
        "photos": photos,
        "cover": record.main_photo or (photos[0] if photos else None),
        "answer": record.answer,
        "candidates": [AnswerCandidate(words.name_of(one["label"]), one["probability"]) for one in best],
        "decided": sorted({photo.words for photo in photos if photo.by_person}),
        "cautions": may_see_cautions(request.user),
        "caution": may_see_cautions(request.user) and is_called_for(photos),
    }
    return render(request, "shelter/animal.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def animal_edit(request, pk=None):
    """A new record, or changes to one; photos that are named are filed under a new one at once."""
    record = get_object_or_404(Animal, pk=pk) if pk else Animal(name=request.GET.get("name", "")[:100])
    form = AnimalForm(request.POST or None, instance=record)
    if form.is_valid():
        form.save()
        log_change(request.user, [record], changed_values(form)) if pk else log_addition(request.user, record)
        messages.success(request, gettext("The record of %(name)s is saved.") % {"name": record.name})
        return redirect(record)
    status = 422 if form.errors else 200
    return render(request, "shelter/animal_form.html", {"form": form, "animal": record}, status=status)


@login_required
@require_POST
def animal_photo(request, pk):
    """One photo of the dog: make it the main one, or show it earlier or later; or `order`, all of them at once."""
    record = get_object_or_404(Animal, pk=pk)
    numbers = whole_numbers(request.POST.getlist("photo"))
    action = request.POST.get("action")
    if action == "main" and numbers and record.choose_main(numbers[0]):
        log_change(request.user, [record], gettext("Photo %(n)d became the main one.") % {"n": numbers[0]})
        messages.success(request, gettext("This photo now stands for %(name)s.") % {"name": record.name})
    elif action in ("earlier", "later") and numbers:
        record.move_photo(numbers[0], 1 if action == "later" else -1)
    elif action == "order":
        record.order_photos(list(dict.fromkeys(numbers))[:500])
    return redirect(f"{record.get_absolute_url()}#photos")


@login_required
@require_GET
def animal_names(request):
    """Options for the field in which a dog is named: the ones like what is being typed, those at the shelter first."""
    text = request.GET.get("name", "")[:100]
    animals = Animal.objects.search(text).order_by("name_folded", "id")[:20]
    here_first = sorted(animals, key=lambda animal: not animal.is_here)
    return render(request, "shelter/_animal_names.html", {"animals": here_first})


@login_required
@require_POST
def file_photos(request):
    """File the selected photos under a dog, old or new, or take them out of their records."""
    form = FilingForm(request.POST)
    if not form.is_valid():
        for sentence in (sentence for errors in form.errors.values() for sentence in errors):
            messages.error(request, sentence)
        return redirect(next_page(request) or "photo_list")
    count, record = len(form.cleaned_data["photos"]), form.file()
    filed = (
        gettext("Filed under %(name)s.") % {"name": record.numbered} if record else gettext("Taken out of its record.")
    )
    log_change(request.user, form.cleaned_data["photos"], filed)
    if record:
        text = ngettext("%(n)d photo is filed under %(name)s.", "%(n)d photos are filed under %(name)s.", count)
    else:
        text = ngettext("%(n)d photo is filed under no dog now.", "%(n)d photos are filed under no dog now.", count)
    messages.success(request, text % {"n": count, "name": record})
    return redirect(next_page(request) or record or "photo_list")


def next_page(request) -> str:
    """Where the form came from, if that is a page of ours."""
    address = request.POST.get("next", "")
    return address if url_has_allowed_host_and_scheme(address, {request.get_host()}, request.is_secure()) else ""


@login_required
@require_GET
def animal_suggestions(request, pk=None):
    """Photos without a dog, in the groups in which they probably belong together: of all, or of one import."""
    photos, batch = Photo.objects.filter(animal=None), get_object_or_404(Import, pk=pk) if pk else None
    if batch:
        photos = photos.filter(pk__in=batch.items.values("photo"))
    context = {"groups": suggest_groups(photos), "batch": batch}
    return render(request, "shelter/animal_suggestions.html", context)
