"""The life of the model in the application: its versions, what a new one would change, which one answers."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db.models import Count
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from breeds import words
from breeds.audit import log_change
from breeds.classifier import BadCheckpoint, verified_version
from breeds.hints import hint_trials
from breeds.models import Activation, BreedGroup, ClassifierVersion, Decision, Prediction, ShadowAnswer
from breeds.shadow import Change, summary
from breeds.tasks import answer_again
from shelter.models import Photo

may_change = permission_required("breeds.change_classifierversion", raise_exception=True)


@login_required
@may_change
@require_GET
def model_list(request):
    versions, total = list(ClassifierVersion.objects.all()), Photo.objects.count()
    tried = _counts(ShadowAnswer.objects.all())
    answered = _counts(Prediction.objects.filter(status=Prediction.Status.DONE))
    for version in versions:
        version.tried, version.answered = tried.get(version.pk, 0), answered.get(version.pk, 0)
        version.breed_count = len(version.labels) - len(version.mask)
    context = {
        "versions": sorted(versions, key=lambda version: not version.is_active),
        "before": ClassifierVersion.objects.answered_before(),
        "activations": Activation.objects.select_related("version", "before", "by")[:20],
        "total": total,
        **_again(),
    }
    return render(request, "shelter/model_list.html", context)


def _counts(answers) -> dict[int, int]:
    return dict(answers.order_by().values_list("version").annotate(Count("pk")))


def _again() -> dict:
    """How far the active version is in answering the photos that older ones have answered."""
    active = ClassifierVersion.objects.active()
    if active is None:
        return {}
    photos = Photo.objects.exclude(status=Photo.Status.FAILED)
    old = Prediction.objects.not_answered_by(photos, active)
    waiting = Prediction.objects.filter(status__in=[Prediction.Status.PENDING, Prediction.Status.RUNNING])
    total, left = photos.count(), old.count()
    return {"active": active, "all": total, "old": left, "done": total - left, "waiting": waiting.count()}


@login_required
@may_change
@require_GET
def model_progress(request):
    return render(request, "shelter/_model_progress.html", _again())


@login_required
@may_change
@require_GET
def model(request, pk):
    """What would change if this version answered."""
    version = get_object_or_404(ClassifierVersion, pk=pk)
    found, groups = summary(version), dict(BreedGroup.choices)
    levels = dict(Decision.choices)

    def name(label: str) -> str:
        return str(levels.get(label) or groups.get(label) or words.name_of(label))

    context = {
        "version": version,
        "found": found,
        "moves": [(levels[now], levels[then], n) for now, then, n in found.moves],
        "names": [(name(now), name(then), n) for now, then, n in found.names],
        "breeds": [
            {
                "name": capfirst(words.name_of(row["breed"])), "photos": row["photos"], "now": row["right now"],
                "then": row["right then"], "gained": row["gained"], "lost": row["lost"],
            }
            for row in found.breeds
        ],
        "sheets": _sheets(found.photos, name),
        **_trial(version),
    }  # fmt: skip
    return render(request, "shelter/model.html", context)


def _sheets(kinds: dict[str, list[Change]], name) -> list[dict]:
    """[{id, title, cards: [{photo, truth, now, then}]}] of photos that are still there; no kind without any."""
    photos = Photo.objects.in_bulk({change.photo for changes in kinds.values() for change in changes})
    titles = {"lost": _("Lost"), "gained": _("Gained"), "other": _("Changed, and nobody has looked at them yet")}
    sheets = []
    for kind, changes in kinds.items():
        cards = [
            {
                "photo": photos[change.photo],
                "truth": words.name_of(change.truth) if change.truth else "",
                "now": name(change.before[1] or change.before[0]),
                "then": name(change.after[1] or change.after[0]),
            }
            for change in changes
            if change.photo in photos
        ]
        if cards:
            sheets.append({"id": kind, "title": titles[kind], "cards": cards})
    return sheets


def _trial(version: ClassifierVersion) -> dict:
    return {"version": version, "tried": version.shadow_answers.count(), "total": Photo.objects.count()}


@login_required
@may_change
@require_GET
def model_trial_progress(request, pk):
    version = get_object_or_404(ClassifierVersion, pk=pk)
    response = render(request, "shelter/_model_trial.html", _trial(version))
    if not version.trial_wished_at:
        response["HX-Refresh"] = "true"  # the comparison is complete
    return response


@login_required
@may_change
@require_POST
def model_try(request, pk):
    """Let the workers try it in the shadow; a stopped run goes on."""
    version = get_object_or_404(ClassifierVersion, pk=pk)
    try:
        verified_version(version.version)
    except BadCheckpoint as error:
        messages.error(request, _("This version cannot be tried. %(error)s") % {"error": error})
    else:
        version.request_trial()
        hint_trials()
        log_change(request.user, [version], _("Tried in the shadow."))
        messages.success(request, _("The workers are trying it, behind everybody's photos. Nobody sees its answers."))
    return redirect("model", pk)


@login_required
@may_change
@require_http_methods(["GET", "POST"])
def model_activate(request, pk):
    """Asked first, then done: a version answers from the next batch on. Rolling back is the same with an older one."""
    version = get_object_or_404(ClassifierVersion, pk=pk)
    active = ClassifierVersion.objects.active()
    if request.method == "GET":
        context = {"version": version, "active": active, "tried": version.shadow_answers.exists()}
        return render(request, "shelter/model_activate.html", context)
    if version == active:
        messages.info(request, _("%(version)s answers already.") % {"version": version})
        return redirect("model_list")
    try:
        verified_version(version.version).activate(by=request.user)
    except BadCheckpoint as error:
        messages.error(request, _("This version cannot answer; nothing has changed. %(error)s") % {"error": error})
        return redirect("model_activate", pk)
    log_change(request.user, [version], _("Activated, after %(version)s.") % {"version": active})
    messages.success(request, _("%(version)s answers from the next photos on.") % {"version": version})
    return redirect("model_list")


@login_required
@may_change
@require_POST
def model_again(request):
    """Queue the photos that the active version has not answered; pressed again, it goes on."""
    try:
        answer_again.delay()
    except Exception:  # kombu's transports raise their own errors, OSError among them
        messages.error(request, _("The workers cannot be reached at the moment. Try again in a minute."))
    else:
        messages.success(request, _("The photos are being queued, behind everybody who waits."))
    return redirect("model_list")
