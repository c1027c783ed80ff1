"""`?wait=`: an answer of the API may come later, together with the classifier's answer."""

import threading
import time

from django.conf import settings
from django.db.models import Q
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from shelter.api.problems import checked
from shelter.models import Photo

MOST_WAIT_SECONDS = 30
WAIT = OpenApiParameter(
    "wait",
    OpenApiTypes.INT,
    description="Seconds (at most 30) to wait for the classifier's answer, so that it may come with this one.",
)


class WaitQuerySerializer(serializers.Serializer):
    wait = serializers.IntegerField(min_value=0, max_value=MOST_WAIT_SECONDS, default=0)


def requested_wait(request) -> int:
    return checked(WaitQuerySerializer, request.query_params)["wait"]


_waiting = threading.BoundedSemaphore(settings.WAIT_PLACES)


def wait_for_answers(photo_ids: list[int], seconds: int) -> None:
    """Come back when the queue has settled these photos, or the time is up.

    At once where as many others are waiting as this process has threads for: the answer then comes without waiting.
    """
    if not seconds or not _waiting.acquire(blocking=False):
        return
    try:
        until, pause = time.monotonic() + seconds, 0.05
        pending = Photo.objects.filter(pk__in=photo_ids, status=Photo.Status.PENDING).filter(
            Q(predictions__status="pending") | Q(predictions__status="running")
        )
        while pending.exists() and (left := until - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(0.5, pause * 1.5)
    finally:
        _waiting.release()
