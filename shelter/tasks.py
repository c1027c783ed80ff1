"""What the worker does for imports and webhooks. As with photos, the rows say what there is to do."""

import logging
import time
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from breeds import tasks as breeds_tasks
from breeds.models import Prediction
from shelter.archives import BadArchive
from shelter.idempotency import KeptAnswer
from shelter.imports import Import
from shelter.posting import send
from shelter.uploads import upload_photo
from shelter.webhooks import Delivery
from shelter.workers import WorkerSeen

logger = logging.getLogger(__name__)

HINT_SECONDS = 1  # between two hints of an import that is under way


@shared_task(time_limit=120)
def run_imports() -> bool:
    """One slice of the oldest import within reach; pass the hint on while there is more."""
    batch = Import.objects.claim()
    if batch is None:
        return False
    work_slice(batch)
    if Import.objects.awaits_work():
        hint_imports()
    return True


def work_slice(batch: Import) -> bool:
    """Work for a few seconds on an import whose lease is held, and hand it back. True while some of it is left."""
    hinted = float("-inf")

    def take(item, content):
        nonlocal hinted
        upload_photo(content, user=batch.user, priority=Prediction.Priority.BULK, item=item)
        if time.monotonic() - hinted > HINT_SECONDS:  # workers begin while the rest comes in
            hinted = time.monotonic()
            breeds_tasks.hint()

    try:
        is_left = batch.work(take, until=timezone.now() + timedelta(seconds=settings.IMPORT_SLICE_SECONDS))
    except BadArchive as error:
        batch.fail(error.code)
        return False
    except Exception:  # a full disk, a lost connection, a stick that was pulled out: later may do
        logger.exception("Import %s could not go on", batch.pk, extra={"batch": batch.pk})
        batch.give_back("passing")
        return True
    if is_left:
        batch.give_back()
    breeds_tasks.hint()
    return is_left


@shared_task(bind=True)
def sweep_imports(self) -> int:
    """Send the hint again that a broker may have lost, and clear what is of no use any more."""
    WorkerSeen.objects.note(self.request.hostname or "")
    KeptAnswer.objects.remove_old()
    Delivery.objects.remove_old()
    if Import.objects.awaits_work():
        hint_imports()
    return Import.objects.remove_abandoned()


def hint_imports() -> None:
    """Tell the workers that an import is waiting."""
    breeds_tasks.send_hint(run_imports)


@shared_task(time_limit=50)
def send_webhooks() -> int:
    """Send for a few seconds what is due; pass the hint on while there is more. Returns how many were tried."""
    until, tried = time.monotonic() + settings.WEBHOOK_SLICE_SECONDS, 0
    while time.monotonic() < until and (delivery := Delivery.objects.claim()):
        deliver(delivery)
        tried += 1
    if tried and Delivery.objects.due(timezone.now()).exists():
        hint_webhooks()
    return tried


def deliver(delivery: Delivery) -> None:
    """One attempt, kept in the row."""
    from shelter.webhook_api import message_of  # which imports, by way of the views, what is above

    delivery.settle(*send(delivery.webhook, str(delivery.uuid), message_of(delivery)))


@shared_task
def sweep_webhooks() -> bool:
    """Send the hint again that a broker may have lost, for messages of now and for those to be tried again."""
    is_due = Delivery.objects.due(timezone.now()).exists()
    if is_due:
        hint_webhooks()
    return is_due


def hint_webhooks() -> None:
    """Tell the workers that a message is due."""
    breeds_tasks.send_hint(send_webhooks)
