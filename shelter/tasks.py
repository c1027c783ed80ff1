"""What the worker does for imports and webhooks. As with photos, the rows say what there is to do."""

import time

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from shelter.api.webhooks import message_of
from shelter.intake.importing import work_slice
from shelter.models import Delivery, Import, KeptAnswer, WorkerSeen
from shelter.models.imports import hint_imports
from shelter.models.webhooks import hint_webhooks
from shelter.posting import send


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


@shared_task(bind=True)
def sweep_imports(self) -> int:
    """Send the hint again that a broker may have lost, and clear what is of no use any more."""
    WorkerSeen.objects.note(self.request.hostname or "")
    KeptAnswer.objects.remove_old()
    Delivery.objects.remove_old()
    if Import.objects.awaits_work():
        hint_imports()
    return Import.objects.remove_abandoned()


@shared_task(time_limit=50)
def send_webhooks() -> int:
    """Send for a few seconds what is due; pass the hint on while there is more. Returns how many were tried."""
    until, tried = time.monotonic() + settings.SLICE_SECONDS, 0
    while time.monotonic() < until and (delivery := Delivery.objects.claim()):
        deliver(delivery)
        tried += 1
    if tried and Delivery.objects.due(timezone.now()).exists():
        hint_webhooks()
    return tried


def deliver(delivery: Delivery) -> None:
    """One attempt, kept in the row."""
    delivery.settle(*send(delivery.webhook, str(delivery.uuid), message_of(delivery)))


@shared_task
def sweep_webhooks() -> bool:
    """Send the hint again that a broker may have lost, for messages of now and for those to be tried again."""
    is_due = Delivery.objects.due(timezone.now()).exists()
    if is_due:
        hint_webhooks()
    return is_due
