"""What the worker does for imports. As with photos, the rows say what there is to do."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from breeds import tasks as breeds_tasks
from breeds.models import Prediction
from shelter.archives import BadArchive
from shelter.imports import Import
from shelter.uploads import upload_photo
from shelter.workers import WorkerSeen

logger = logging.getLogger(__name__)


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

    def take(item, content):
        upload_photo(content, user=batch.user, priority=Prediction.Priority.BULK, item=item)

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
    """Send the hint again that a broker may have lost, and clear what never arrived whole."""
    WorkerSeen.objects.note(self.request.hostname or "")
    if Import.objects.awaits_work():
        hint_imports()
    return Import.objects.remove_abandoned()


def hint_imports() -> None:
    """Tell the workers that an import is waiting. A broker that is down costs a delay, never a file."""
    try:
        run_imports.delay()
    except Exception as error:
        logger.warning("The broker took no hint; the sweeper will send it again: %s", error)
