"""The page of all breeds."""

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_GET

from breeds.models import Breed, BreedGroup, ClassifierVersion


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
