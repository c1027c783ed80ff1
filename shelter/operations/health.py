"""What a load balancer, a monitor and whoever is called at night ask: is Flair well, and if not, what is wrong?

The web server takes photos in as long as it reaches the database and the media; without broker, classifier or worker
they wait. So those alone make it unready, and the others are named as problems: a load balancer that took all web
servers away because Redis is down would turn a delay into an outage.
"""

import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_safe

from breeds.classifier import verify_active
from breeds.models import Prediction
from shelter.celery import app
from shelter.models import WorkerSeen

logger = logging.getLogger(__name__)


class Trouble(Exception):
    """Something is wrong, said in words that may be read by anybody: without addresses, paths and names."""


@dataclass(frozen=True)
class Check:
    """`is_vital`: without it this web server cannot take photos in. `failure` is what anybody may read."""

    look: Callable[[], None]
    failure: str
    is_vital: bool


def check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    _check_migrations()


@cache  # migrations are never taken back under a running server, and looking costs a tenth of a second
def _check_migrations() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise Trouble("migrations are missing: run manage.py migrate")


def check_media() -> None:
    """A folder must take a file and have room for a large photo; of a bucket an answer is enough."""
    if not isinstance(default_storage, FileSystemStorage):
        default_storage.exists("readyz")
        return
    name = default_storage.save(f".readyz/{uuid.uuid4().hex}", ContentFile(b"x"))
    default_storage.delete(name)
    if shutil.disk_usage(default_storage.path("")).free < settings.MAX_PHOTO_BYTES:
        raise Trouble("the disk is full")


def check_broker() -> None:
    with app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=2, reraise_as_library_errors=False)
        broker.default_channel.queue_declare(app.conf.task_default_queue)


def check_model() -> None:
    verify_active()


def check_worker() -> None:
    last = WorkerSeen.objects.last_sign()
    if last is None:
        raise Trouble("no worker was ever seen")
    silence = timezone.now() - last
    if silence > timedelta(seconds=settings.WORKER_SILENCE_SECONDS):
        raise Trouble(f"no worker was seen for {silence.total_seconds():.0f} s")


def check_queue() -> None:
    oldest = Prediction.objects.waiting_since(Prediction.Priority.INTERACTIVE)
    if oldest and (waited := timezone.now() - oldest) > timedelta(seconds=settings.QUEUE_SLOW_SECONDS):
        raise Trouble(f"somebody has been waiting for an answer for {waited.total_seconds():.0f} s")


CHECKS = {
    "database": Check(check_database, "it cannot be reached", is_vital=True),
    "media": Check(check_media, "it cannot be reached or written to", is_vital=True),
    "broker": Check(check_broker, "it cannot be reached; photos wait for the sweeper", is_vital=False),
    "model": Check(check_model, "it is missing or damaged; photos wait", is_vital=False),
    "worker": Check(check_worker, "the database does not say", is_vital=False),
    "queue": Check(check_queue, "the database does not say", is_vital=False),
}


def problems() -> dict[str, str]:
    """Name of a check -> what is wrong, of those where something is. What was caught is in the log."""
    found = {}
    for name, check in CHECKS.items():
        try:
            check.look()
        except Trouble as trouble:
            found[name] = str(trouble)
        except Exception as error:
            logger.warning("The check of the %s failed: %r", name, error)
            found[name] = check.failure
    return found


@require_safe
@never_cache
def readyz(request):
    """503 where photos cannot be taken in; with `?strict`, for monitors, wherever anything is wrong."""
    found = problems()
    unready = any(CHECKS[name].is_vital for name in found)
    status = "unready" if unready else "degraded" if found else "ready"
    answer = {"status": status, "checks": {name: found.get(name, "ok") for name in CHECKS}, "problems": list(found)}
    return JsonResponse(answer, status=503 if unready or (found and "strict" in request.GET) else 200)


@require_GET
def healthz(request):
    """Is this process alive and its database within reach?"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})
