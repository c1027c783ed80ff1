"""`/metrics` for Prometheus. Every figure is read from the rows, so that it is the same whichever process answers,
and none is lost with one."""

import hmac
from datetime import timedelta

from django.conf import settings
from django.db.models import Avg, Count
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from breeds.models import ClassifierVersion, Prediction
from shelter.models import Import, ImportItem, Photo, WorkerSeen

WINDOW = timedelta(minutes=5)


class Figures:
    """A collector of prometheus_client: asked at each scrape, keeps nothing."""

    def collect(self):
        yield from self._photos()
        yield from self._queue()
        yield from self._answers()
        yield from self._imports()
        yield from self._classifier()
        yield from self._workers()

    def _photos(self):
        counts = dict(Photo.objects.order_by().values_list("status").annotate(Count("pk")))
        yield _by_label("flair_photos", "Photos, by status.", "status", {s: counts.get(s, 0) for s in Photo.Status})
        failed = Prediction.objects.filter(photo__status=Photo.Status.FAILED, status=Prediction.Status.FAILED)
        codes = dict(failed.order_by().values_list("error_code").annotate(Count("photo", distinct=True)))
        yield _by_label("flair_photos_failed", "Photos that failed, by the reason of an attempt.", "reason", codes)

    def _queue(self):
        pending = Prediction.objects.filter(status=Prediction.Status.PENDING).order_by()
        counts = dict(pending.values_list("priority").annotate(Count("pk")))
        kinds = {"bulk": Prediction.Priority.BULK, "interactive": Prediction.Priority.INTERACTIVE}
        waiting = {name: counts.get(priority, 0) for name, priority in kinds.items()}
        yield _by_label("flair_queue_pending", "Photos that wait for an answer.", "priority", waiting)
        ages = {name: _age(Prediction.objects.waiting_since(priority)) for name, priority in kinds.items()}
        yield _by_label("flair_queue_age_seconds", "How long the oldest of them has waited.", "priority", ages)
        running = Prediction.objects.filter(status=Prediction.Status.RUNNING).count()
        yield GaugeMetricFamily("flair_queue_running", "Photos that a worker has in hand.", running)

    def _answers(self):
        """Per version, because that is what the index of answers begins with."""
        since, answers, seconds = timezone.now() - WINDOW, 0, 0.0
        for version in ClassifierVersion.objects.all():
            recent = Prediction.objects.filter(status=Prediction.Status.DONE, version=version, finished_at__gt=since)
            found = recent.aggregate(count=Count("pk"), mean=Avg("milliseconds"))
            answers += found["count"]
            seconds += found["count"] * (found["mean"] or 0) / 1000
        text = f"Answers per second, over the last {WINDOW.seconds} s."
        yield GaugeMetricFamily("flair_answers_per_second", text, answers / WINDOW.seconds)
        mean = seconds / answers if answers else 0
        yield GaugeMetricFamily("flair_answer_seconds", "Mean time that the classifier took for one of them.", mean)

    def _imports(self):
        counts = dict(Import.objects.order_by().values_list("status").annotate(Count("pk")))
        by_status = {status: counts.get(status, 0) for status in Import.Status}
        yield _by_label("flair_imports", "Imports, by status.", "status", by_status)
        unfinished = ImportItem.objects.filter(
            batch__status__in=[Import.Status.WAITING, Import.Status.RUNNING], outcome=ImportItem.Outcome.WAITING
        )
        yield GaugeMetricFamily("flair_import_files_waiting", "Files of imports at work.", unfinished.count())

    def _classifier(self):
        info = InfoMetricFamily("flair_classifier", "The version that answers.")
        if version := ClassifierVersion.objects.active():
            info.add_metric([], {"version": version.version, "name": version.name})
        yield info

    def _workers(self):
        alive = WorkerSeen.objects.alive().count()
        yield GaugeMetricFamily("flair_workers", "Workers seen lately; one has several processes.", alive)
        if last := WorkerSeen.objects.last_sign():
            yield GaugeMetricFamily("flair_worker_silence_seconds", "Since the last sign of any worker.", _age(last))


def _by_label(name: str, text: str, label: str, values: dict) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([str(value)], number)
    return family


def _age(moment) -> float:
    return max(0.0, (timezone.now() - moment).total_seconds()) if moment else 0.0


@require_safe
@never_cache
def metrics(request):
    """Counts without names. Where `FLAIR_METRICS_TOKEN` is set, for whoever sends it as `Authorization: Bearer`."""
    token, sent = settings.METRICS_TOKEN, request.headers.get("Authorization", "")
    if token and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
        return HttpResponse("Expected the token of /metrics.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)
