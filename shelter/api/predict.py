"""The API's stateless answer: bytes in, decision out, nothing stored."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, Throttled
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView

from breeds import classifier as classifiers
from breeds.answers import AnswerSerializer, represent
from breeds.models import Prediction
from shelter.api.problems import checked

PREDICT_WAIT_SECONDS = 10  # for a turn
T = TypeVar("T")


class ImageSerializer(serializers.Serializer):
    image = serializers.FileField(
        allow_empty_file=True, help_text="one photo: JPEG, PNG, WebP or HEIC, whatever its name"
    )


class BadImage(APIException):
    """400 with the reason as its code and the file's name: what was sent is not a photo that can be classified."""

    status_code = 400

    def __init__(self, detail: str, code: str, file: str):
        super().__init__(detail, code)
        self.members = {"field": "image", "file": file}


class NoClassifier(APIException):
    status_code = 503
    default_code = "no_classifier"
    default_detail = "No classifier can be loaded."


class Busy(Throttled):
    """429: this web process has as many photos in hand as it takes. `wait` goes into `Retry-After` (seconds)."""

    default_code = "busy"
    default_detail = "Too many photos are being classified."


class Places:
    """How many photos one web process has in hand at most, so that threads are left for everybody else.

    `working` are classified at once; up to `settings.PREDICT_PLACES` are let in, and the first that came is the next.
    Only the classifier runs in the pool: a query there would keep a connection of each thread open.
    """

    def __init__(self, working: int):
        self._pool = ThreadPoolExecutor(working, "predict")  # starts its threads with the first photo, after any fork
        self._lock, self._inside = threading.Lock(), 0

    @contextmanager
    def one(self):
        """A place for as long as the block runs; true where nobody else has one. Raises `Busy`."""
        with self._lock:
            if self._inside >= settings.PREDICT_PLACES:
                raise Busy(wait=1)
            self._inside += 1
            is_alone = self._inside == 1
        try:
            yield is_alone
        finally:
            with self._lock:
                self._inside -= 1

    def work(self, function: Callable[[], T]) -> T:
        """The result of `function`, which begins in its turn, or `Busy` where that does not come in time."""
        future = self._pool.submit(function)
        try:
            return future.result(PREDICT_WAIT_SECONDS)
        except TimeoutError:
            if future.cancel():
                raise Busy(wait=1) from None
            return future.result()  # it has begun


places = Places(settings.PREDICT_AT_ONCE)
_loading = threading.Lock()  # photos that come together in a new process load the network once


class PredictView(APIView):
    scope = "read"
    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="predict",
        request={"multipart/form-data": ImageSerializer},
        responses={200: AnswerSerializer},
        tags=["predict"],
    )
    def post(self, request):
        """Classify one photo and store nothing.

        Answered by this web process itself. 429 with `Retry-After` while it has all hands full; 503 while no classifier
        can be loaded.
        """
        asked_at = timezone.now()
        file = checked(ImageSerializer, request.data)["image"]
        if file.size > settings.MAX_PHOTO_BYTES:
            limit = settings.MAX_PHOTO_BYTES // 1_000_000
            detail = f"{file.name}: Expected at most {limit} MB. Received: {file.size / 1e6:.1f} MB."
            raise BadImage(detail, "too_large", file.name)
        try:
            with places.one() as is_alone:
                with _loading:
                    classifier, version = classifiers.active_classifier(settings.PREDICT_THREADS if is_alone else 1)
                answer = places.work(lambda: classifier.classify(file.read(), keeps_look=False))
        except classifiers.UnreadableImage as error:
            raise BadImage(f"{file.name}: {error}", error.reason, file.name) from error
        except classifiers.BadCheckpoint as error:
            raise NoClassifier from error
        unsaved = Prediction.of(answer, version, created_at=asked_at)
        return Response(represent(AnswerSerializer, unsaved))
