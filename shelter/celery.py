"""The Celery app, and the clock of the sweeper.

Every worker sweeps, so that no single scheduler process can be the one that is missing; sweeping twice is harmless.
"""

import logging.config
import os

from celery import Celery, bootsteps, signals
from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shelter.settings")
TRANSPORT_ALIASES["flair-folder"] = "shelter.folder_broker:Transport"

app = Celery("flair")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def log_as_django_does(**_options):
    """Celery would put its own level and format over `settings.LOGGING`."""
    logging.config.dictConfig(settings.LOGGING)


class SweepClock(bootsteps.StartStopStep):
    """Send the sweep hint every few seconds from the worker's own timer."""

    requires = {"celery.worker.components:Timer"}

    def __init__(self, parent, **kwargs):
        self.timer_entry = None

    def start(self, worker):
        self.timer_entry = worker.timer.call_repeatedly(settings.SWEEP_SECONDS, self.tick)

    def stop(self, worker):
        if self.timer_entry:
            self.timer_entry.cancel()

    def tick(self):
        for task in ("breeds.tasks.sweep", "shelter.tasks.sweep_imports", "shelter.tasks.sweep_webhooks"):
            app.send_task(task, expires=settings.SWEEP_SECONDS)


app.steps["worker"].add(SweepClock)
