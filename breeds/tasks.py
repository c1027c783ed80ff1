"""What the worker does. A task takes nothing: the rows of the database say what there is to do."""

import logging
import time
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from breeds import classifier as classifiers
from breeds import shadow
from breeds.hints import hint, hint_trials
from breeds.models import ClassifierVersion, Prediction, photo_model

logger = logging.getLogger(__name__)


@shared_task
def classify_photos() -> int:
    """Answer pending photos, batch after batch for a moment; pass the hint on while more are waiting. Returns how many.

    The hint goes first, so that another process can take the rest meanwhile; never more than one for one, and none
    where there was nothing to claim: the others pass it on, or the sweep.
    """
    until, count, passed_on = time.monotonic() + settings.CLASSIFY_SLICE_SECONDS, 0, False
    while found := _claim():
        classifier, version, batch = found
        passed_on = passed_on or _pass_on()
        for prediction in batch:
            _classify(prediction, classifier, version)
        count += len(batch)
        if time.monotonic() >= until:
            break
    if count and not passed_on:
        _pass_on()
    return count


def _claim() -> tuple | None:
    """The classifier of the moment, its version, and a batch of photos for it; None without either."""
    try:
        classifier, version = classifiers.active_classifier()
    except classifiers.BadCheckpoint as error:
        logger.error("No photo can be classified: %s", error)  # the rows stay pending until a classifier is there
        return None
    batch = Prediction.objects.claim(settings.CLAIM_BATCH)
    return (classifier, version, batch) if batch else None


def _pass_on() -> bool:
    if is_waiting := Prediction.objects.awaits_work():
        hint()
    return is_waiting


def _classify(prediction: Prediction, classifier, version) -> None:
    photo = prediction.photo
    try:
        classification = classifier.classify(photo.read_original())
        photo.keep_look(classification.preview, classification.dhash)
    except classifiers.UnreadableImage as error:
        prediction.fail(error.reason, str(error))
    except FileNotFoundError as error:
        prediction.fail("missing", str(error))
    except Exception as error:  # a full disk, a lost connection …: this photo waits, the next may do
        logger.exception("Photo %s could not be classified", photo.pk, extra={"photo": photo.pk})
        prediction.give_back("passing", repr(error))
    else:
        prediction.finish(classification, version)
    if prediction.finished_at:
        facts = {"photo": photo.pk, "status": prediction.status, "milliseconds": prediction.milliseconds}
        logger.info("Photo %s: %s", photo.pk, prediction.status, extra=facts)


@shared_task
def sweep() -> int:
    """Hand back what dead workers left and send the hint again that a broker may have lost."""
    handed_back = Prediction.objects.hand_back_expired()
    if Prediction.objects.awaits_work():
        hint()
    if ClassifierVersion.objects.awaits_trial():
        hint_trials()
    return handed_back


@shared_task(time_limit=120)
def try_versions() -> int:
    """One slice of a trial run, by one worker at a time; pass the hint on while there is more. Returns how many."""
    version = ClassifierVersion.objects.claim_trial()
    if version is None:
        return 0
    until = timezone.now() + timedelta(seconds=settings.SLICE_SECONDS)
    try:
        count, is_over = shadow.answer_slice(version, until)
    except classifiers.BadCheckpoint as error:
        logger.error("Version %s cannot be tried: %s", version, error)
        version.give_back_trial(error=str(error))
        return 0
    version.give_back_trial(is_over=is_over)
    if not is_over:
        hint_trials()
    return count


@shared_task(time_limit=600)
def answer_again() -> int:
    """Queue what the active version has not answered, behind everybody who waits. Stopped, it may begin again."""
    count, version = 0, classifiers.active_version()
    while found := Prediction.objects.request_missing(photo_model().objects.all(), version, most=1000):
        count += found
        hint()
    return count
