"""The quality page: how often the model was right on the shelter's own photos, for those who review."""

from django.contrib.auth.decorators import login_required, permission_required
from django.shortcuts import render
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from breeds import words
from breeds.models import Breed, BreedGroup, ClassifierVersion, Decision
from breeds.numbers import whole_number
from breeds.quality import LEAST, Quality, unknown_labels
from shelter.models import Photo

FIRST = 12  # rows of a table that are shown at once


@login_required
@permission_required("breeds.use_review_queue", raise_exception=True)
@require_GET
def quality(request):
    versions = ClassifierVersion.objects.defer("labels", "label_groups").in_bulk()
    version = versions.get(whole_number(request.GET.get("version")))
    measured = Quality(version.pk if version else None)
    breeds = {breed.slug: breed for breed in Breed.objects.all()}
    context = {
        "tables": _tables(measured, versions),
        "judged": sum(row.n for row in measured.by_level),
        "months": [(capfirst(date_format(row.key, "F Y")), row) for row in measured.by_month[:24]],
        "confusions": _confusions(measured),
        "unknown": [row | {"breed": breeds[row["slug"]]} for row in unknown_labels(ClassifierVersion.objects.active())],
        "versions": sorted(versions.values(), key=lambda version: version.created_at, reverse=True),
        "chosen": version,
        "least": LEAST,
        "first": FIRST,
    }
    return render(request, "shelter/quality.html", context)


def _tables(measured: Quality, versions: dict[int, ClassifierVersion]) -> list[dict]:
    """[{title, note, rows: [(name, Row)]}]"""
    levels, groups = dict(Decision.choices), dict(BreedGroup.choices)
    by_level = [(capfirst(levels[row.key]), row) for row in measured.by_level]
    by_version = [(str(versions[row.key]), row) for row in measured.by_version]
    by_group = [(capfirst(groups.get(row.key, row.key)), row) for row in measured.by_group]
    by_breed = [(capfirst(words.name_of(row.key)), row) for row in measured.by_breed]
    return [
        {"id": "level", "title": _("By level of the answer"), "rows": by_level,
         "note": _("Of a cross, either breed counts as right. “Unsure” claims nothing, so it is not judged.")},
        {"id": "version", "title": _("By version of the model"), "rows": by_version,
         "note": _("Each on the photos for which people saw its answer: not the same ones.")},
        {"id": "group", "title": _("By group"), "rows": by_group,
         "note": _("When a breed of this group is named, or the group alone: is the dog of the group?")},
        {"id": "breed", "title": _("By breed"), "rows": by_breed,
         "note": _("When the model names this breed: is it that one?")},
    ]  # fmt: skip


def _confusions(measured: Quality) -> list[dict]:
    pairs = measured.confusions()
    photos = Photo.objects.in_bulk({pk for pair in pairs for pk in pair["photos"]})
    return [
        {
            "called": words.name_of(pair["called"]),
            "truth": words.name_of(pair["truth"]),
            "n": pair["n"],
            "photos": [photos[pk] for pk in pair["photos"] if pk in photos],
        }
        for pair in pairs
    ]
