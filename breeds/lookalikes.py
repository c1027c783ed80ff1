"""The photos that look most like one photo, by the classifier's own features.

Cosine similarity of the embeddings that one version gave, over all of them: an exact search, a matrix times a vector.
Each process keeps the matrix of a version and brings it up to date before a search with what was answered since;
`settings.LOOKALIKE_MEGABYTES` bounds it, and beyond that the photos answered last are searched.

The matrix is int16, in steps of 1/32767: as small as float16 and closer than it, and turned to float32 seven times as
fast, which makes a search as quick as with twice the memory.
"""

import threading
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from django.conf import settings
from django.utils import timezone

from breeds import classifier as classifiers
from breeds.models import ClassifierVersion, Prediction, unpack_floats

STEPS = 32767

BLOCK = 4096  # rows that memory is taken for at once: 10 MB at 1,280 features
CHUNK = 512  # rows that are turned to float32 and compared at once, few enough to stay in the processor's cache

# An answer becomes visible after the moment at which it finished: by its transaction, and by clocks that differ.
LATEST_COMMIT = timedelta(minutes=2)


class Lookalike(NamedTuple):
    """`similarity` is a cosine: 1 for the same features, about 0 for features that have nothing in common."""

    photo: int
    similarity: float


class Found(NamedTuple):
    """`lookalikes`: the nearest first. `searched`: how many photos they are the nearest of."""

    version: ClassifierVersion
    lookalikes: list[Lookalike]
    searched: int


def photos_like(
    photo: int, limit: int = 12, without: Collection[int] = (), among: Collection[int] | None = None
) -> Found | None:
    """The photos most like a stored one, without it and `without`, or only those `among` the given ones.

    None while it has no answer that kept its features.

    Compared by the active version where that has answered the photo, else by the one that answered it last.
    """
    answers = Prediction.objects.with_vectors().filter(photo=photo)
    answer = answers.order_by("-version__is_active", "-pk").defer("probs").first()
    if answer is None:
        return None
    return _search(answer.version, unpack_floats(answer.embedding), limit, {photo, *without}, among)


def photos_like_image(image_bytes: bytes, limit: int = 12, without: Collection[int] = ()) -> Found:
    """The stored photos most like one that is not stored, and will not be.

    Raises `UnreadableImage`, and `BadCheckpoint` where no classifier can be loaded.
    """
    classifier, version = classifiers.active_classifier()
    return _search(version, classifier.classify(image_bytes).embedding, limit, without)


def _search(
    version: ClassifierVersion, embedding: np.ndarray, limit: int, without: Collection[int],
    among: Collection[int] | None = None,
) -> Found:  # fmt: skip
    features = features_of(version.pk)
    features.refresh()
    while True:
        nearest = features.nearest(embedding, limit, without, among)
        photos = {found.photo for found in nearest}
        gone = photos - set(Prediction.objects.filter(photo__in=photos).values_list("photo", flat=True))
        if not gone:
            return Found(version, nearest, len(features))
        features.forget(gone)


@lru_cache(maxsize=2)
def features_of(version: int) -> "Features":
    """Those of this process; of the version in use and of one that comes or goes."""
    return Features(version)


class Features:
    """The features of all photos that one version has answered, each of length 1. Threads take turns."""

    def __init__(self, version: int):
        self._answers = Prediction.objects.filter(version=version, status=Prediction.Status.DONE).exclude(
            embedding=None
        )
        self._refreshed: datetime | None = None
        self._blocks: list[np.ndarray] = []  # (BLOCK, D) int16
        self._photos = np.empty(0, np.int64)  # of each row; 0 for one that is free
        self._rows: dict[int, tuple[int, int]] = {}  # photo -> its row, and the prediction that gave it
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> int:
        """Take in what was answered since the last time; of two answers to one photo the newer. Returns how many."""
        with self._lock:
            answers, now = self._answers, timezone.now()
            if self._refreshed:
                answers = answers.filter(finished_at__gte=self._refreshed - LATEST_COMMIT)
            found = answers.order_by("finished_at").values_list("pk", "photo")
            fresh = [pk for pk, photo in found if pk > self._rows.get(photo, (0, 0))[1]]
            for start in range(0, len(fresh), 500):  # so that the packed features of few are in memory at once
                some = fresh[start : start + 500]
                packed_features = self._answers.filter(pk__in=some).order_by("finished_at")
                for pk, photo, packed in packed_features.values_list("pk", "photo", "embedding"):
                    self._put(pk, photo, unpack_floats(packed))
            self._refreshed = now
            return len(fresh)

    def _put(self, prediction: int, photo: int, embedding: np.ndarray) -> None:
        row, known = self._rows.get(photo, (None, 0))
        if prediction <= known:
            return
        if row is None:
            row = self._free_row(len(embedding))
        self._blocks[row // BLOCK][row % BLOCK] = np.rint(_unit(embedding) * STEPS)
        self._photos[row] = photo
        self._rows[photo] = (row, prediction)

    def _free_row(self, dimensions: int) -> int:
        """The next row; beyond the bound that of the photo which came first."""
        most = max(1, int(settings.LOOKALIKE_MEGABYTES * 1_000_000 / (2 * dimensions)))
        row = self._next % most
        self._next += 1
        if row == len(self._blocks) * BLOCK:
            self._blocks.append(np.zeros((min(BLOCK, most - row), dimensions), np.int16))
            self._photos = np.append(self._photos, np.zeros(len(self._blocks[-1]), np.int64))
        self._rows.pop(int(self._photos[row]), None)
        return row

    def forget(self, photos: Collection[int]) -> None:
        """Photos that are no longer there."""
        with self._lock:
            for photo in photos:
                row, _ = self._rows.pop(photo, (None, 0))
                if row is not None:
                    self._photos[row] = 0

    def nearest(
        self, embedding: np.ndarray, limit: int, without: Collection[int] = (), among: Collection[int] | None = None
    ) -> list[Lookalike]:
        """At most `limit` photos, the most alike first; of equals the one that came first."""
        with self._lock:
            if not self._blocks or limit < 1:
                return []
            cosines = self._compare(_unit(embedding))
            cosines[(self._photos == 0) | np.isin(self._photos, list(without))] = -np.inf
            if among is not None:
                cosines[~np.isin(self._photos, list(among))] = -np.inf
            limit = min(limit, len(cosines))
            best = np.argpartition(-cosines, limit - 1)[:limit]
            best = best[np.lexsort((self._photos[best], -cosines[best]))]
            return [Lookalike(int(self._photos[i]), min(1.0, float(cosines[i]))) for i in best if cosines[i] > -np.inf]

    def _compare(self, unit: np.ndarray) -> np.ndarray:
        """(D,) of length 1 -> (N,) cosines of all rows."""
        chunk, cosines, start = np.empty((CHUNK, len(unit)), np.float32), np.empty(len(self._photos), np.float32), 0
        for block in self._blocks:
            for first in range(0, len(block), CHUNK):
                rows = block[first : first + CHUNK]
                np.copyto(chunk[: len(rows)], rows)
                np.dot(chunk[: len(rows)], unit, out=cosines[start : start + len(rows)])
                start += len(rows)
        return cosines / STEPS


def _unit(embedding: np.ndarray) -> np.ndarray:
    """(D,) float32 of length 1; zeros stay zeros."""
    embedding = np.asarray(embedding, np.float32)
    return embedding / max(float(np.linalg.norm(embedding)), 1e-12)
