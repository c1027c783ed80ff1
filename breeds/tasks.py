"""What the worker does. A task takes nothing: the rows of the database say what there is to do."""

import logging

from celery import shared_task
from django.conf import settings
from django.core.files.base import ContentFile

from breeds import classifier as classifiers
from breeds.models import Prediction

logger = logging.getLogger(__name__)


@shared_task
def classify_photos() -> int:
    """Claim one batch of pending photos, answer them one after the other, pass the hint on while more are waiting."""
    try:
        classifier, version = classifiers.active_classifier()
    except classifiers.BadCheckpoint as error:
        logger.error("No photo can be classified: %s", error)  # the rows stay pending until a classifier is there
        return 0
    batch = Prediction.objects.claim(settings.CLAIM_BATCH)
    for prediction in batch:
        _classify(prediction, classifier, version)
    if Prediction.objects.awaits_work():
        hint()
    return len(batch)


def _classify(prediction: Prediction, classifier, version) -> None:
    photo = prediction.photo
    try:
        with photo.image.open("rb") as file:
            found = classifier.classify(file.read())
        photo.keep_look(ContentFile(found.preview), found.dhash)
    except classifiers.UnreadableImage as error:
        prediction.fail(error.reason, str(error))
    except FileNotFoundError as error:
        prediction.fail("missing", str(error))
    except Exception as error:  # a full disk, a lost connection …: this photo waits, the next may do
        logger.exception("Photo %s could not be classified", photo.pk, extra={"photo": photo.pk})
        prediction.give_back("passing", repr(error))
    else:
        prediction.finish(found, version)
    if prediction.finished_at:
        facts = {"photo": photo.pk, "status": prediction.status, "milliseconds": prediction.milliseconds}
        logger.info("Photo %s: %s", photo.pk, prediction.status, extra=facts)


@shared_task
def sweep() -> int:
    """Hand back what dead workers left and send the hint again that a broker may have lost."""
    handed_back = Prediction.objects.hand_back_expired()
    if Prediction.objects.awaits_work():
        hint()
    return handed_back


def hint() -> None:
    """Tell the workers that something is pending. A broker that is down costs a delay, never a photo."""
    try:
        classify_photos.delay()
    except Exception as error:  # kombu's transports raise their own errors, OSError among them
        logger.warning("The broker took no hint; the sweeper will send it again: %s", error)
