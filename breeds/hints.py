"""Hints: Celery messages without content that tell the workers that rows are waiting.

Tasks are named by strings, so that models can send hints without importing the tasks that work on them.
"""

import logging

from celery import current_app

logger = logging.getLogger(__name__)

MOST_HINTS = 32  # messages that wait in a queue of the broker; those in work do not count


def hint() -> None:
    """Tell the workers that photos are waiting for an answer."""
    send_hint("breeds.tasks.classify_photos")


def hint_trials() -> None:
    """Tell the workers that a version of the classifier is waiting for its trial run."""
    send_hint("breeds.tasks.try_versions")


def send_hint(task_name: str) -> None:
    """Send a task without arguments, unless `MOST_HINTS` messages wait in its queue already.

    Each message brings one process to work, and that process sends the next message. So a few waiting messages employ
    any number of processes, and thousands of uploads do not fill the queue. If the broker is down, the error is only
    logged: the sweep sends the hint again.
    """
    try:
        if _waiting_beside(task_name) < MOST_HINTS:
            _send(task_name)
    except Exception as error:  # kombu's transports raise their own errors, OSError among them
        logger.warning("The broker took no hint; the sweeper will send it again: %s", error)


def _waiting_beside(task_name: str) -> int:
    """Number of messages in this task's queue that no worker has taken yet."""
    queue = current_app.amqp.router.route({}, task_name)["queue"]
    with current_app.producer_or_acquire() as producer:
        return producer.channel.queue_declare(queue.name).message_count


def _send(task_name: str) -> None:
    current_app.send_task(task_name)
