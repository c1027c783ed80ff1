"""Features of photos by an exported network, computed once: what was seen before is read from a cache.

The cache of a backbone is a folder, named by what its features depend on: the network's file, the preprocessing and
the image size. In it features are kept by the content of their photo, so that another split, a subset or another
dataset with the same photos costs nothing. Files appear whole, under names of their own, and are never changed:
a killed run loses at most one of them, and two processes do not disturb each other.
"""

import hashlib
import os
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from keras import layers

from ml import BadDataset, MLError
from ml.data.datasets import Dataset, Item
from ml.files import sha256_of
from ml.images.preprocessing import PREPROCESSING_ID, prepare_image
from ml.progress import Track, no_track
from ml.serving.inference import SessionPool
from ml.training.export import export_litert
from ml.training.networks import EMBEDDING_LAYER, LOGITS_LAYER

PHOTOS_PER_FILE = 256


def embed(
    runtime_file: Path, dataset: Dataset, items: list[Item], cache_dir: Path, image_size: int, track: Track = no_track
) -> np.ndarray:
    """(N, D) float32 embeddings of the centre view of `items`, in their order, as `runtime_file` computes them.

    `track` shows the progress of photos that the cache lacks. Raises `BadDataset` for no photos or a photo that changed
    since the dataset was scanned, `UnreadableImage` for one that does not decode, `BadCheckpoint` for a file that is
    no network, and `MLError` for a network of another image size or one that gives NaN.
    """
    if not items:
        raise BadDataset("Expected photos to embed. Received: none.")
    cache = FeatureCache(cache_dir / cache_key(runtime_file, image_size))
    contents = _contents(dataset, items)
    wanted = dict(zip(contents, items, strict=True))
    known = cache.read(set(wanted))
    missing = [(sha256, item) for sha256, item in wanted.items() if sha256 not in known]
    if missing:
        sessions = SessionPool(runtime_file)
        if sessions.image_size != image_size:
            raise MLError(f"Expected a network for {image_size}-pixel images. Received: one for {sessions.image_size}.")
        answers = iter(track(_embed_all(sessions, dataset, missing, image_size), "features of photos", len(missing)))
        while fresh := dict(islice(answers, PHOTOS_PER_FILE)):
            cache.write(fresh)
            known |= fresh
    return np.stack([known[sha256] for sha256 in contents])


def backbone_file(model: keras.Model, image_size: int, cache_dir: Path) -> Path:
    """Export `model` (see `ml.training.networks`) without its head to a runtime file in `cache_dir`, once for the same
    weights.

    Its logits are a constant, so that neither the number of breeds nor a random head makes another file of it, and
    with it another cache. Gives the path.
    """
    backbone = keras.Model(model.input, model.get_layer(EMBEDDING_LAYER).output)
    weights = hashlib.sha256(f"{model.name} {image_size}".encode())
    for weight in backbone.get_weights():
        weights.update(weight.tobytes())
    path = cache_dir / f"{model.name}-{weights.hexdigest()[:16]}.tflite"
    if not path.exists():
        logits = layers.Dense(1, kernel_initializer="zeros", name=LOGITS_LAYER)(backbone.output)
        cache_dir.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{uuid.uuid4().hex}.partial")
        export_litert(keras.Model(model.input, logits, name=model.name), image_size, partial)
        partial.replace(path)
    return path


def cache_key(runtime_file: Path, image_size: int) -> str:
    """16 hexadecimal digits: everything but the photo that an embedding depends on."""
    return hashlib.sha256(f"{sha256_of(runtime_file)} {PREPROCESSING_ID} {image_size}".encode()).hexdigest()[:16]


class FeatureCache:
    """The features of one backbone: files of up to `PHOTOS_PER_FILE` rows, each with the SHA-256 of its photos."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, wanted: set[str]) -> dict[str, np.ndarray]:
        """{sha256: (D,) float32} of those that are known. A damaged file counts as absent."""
        found: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with np.load(path) as stored:
                    names = stored["sha256"].tolist()
                    if not wanted.isdisjoint(names):
                        rows = zip(names, stored["embedding"], strict=True)
                        found |= {name: row for name, row in rows if name in wanted}
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                continue
        return found

    def write(self, features: dict[str, np.ndarray]) -> None:
        """Add a file. Under another name until it is whole, so that nobody reads half of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, sha256=np.array(list(features)), embedding=np.stack(list(features.values())))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _contents(dataset: Dataset, items: list[Item]) -> list[str]:
    """SHA-256 of each file. The items of a prepared folder carry that of the photo they were made of instead."""
    if dataset.image_size is None:
        return [item.sha256 for item in items]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda item: sha256_of(dataset.root / item.path), items))


def _embed_all(
    sessions: SessionPool, dataset: Dataset, wanted: list[tuple[str, Item]], image_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """(SHA-256, embedding) of each photo, in order; reading, decoding and computing run on all cores."""

    def embed_one(sha256: str, item: Item) -> tuple[str, np.ndarray]:
        embedding = sessions(prepare_image(_read_unchanged(dataset, item, sha256), image_size))["embedding"]
        if not np.isfinite(embedding).all():
            raise MLError(f"Expected finite features of {item.path}. Received: NaN or infinity.")
        return sha256, embedding

    with ThreadPoolExecutor(sessions.size) as pool:
        for start in range(0, len(wanted), PHOTOS_PER_FILE):
            yield from pool.map(embed_one, *zip(*wanted[start : start + PHOTOS_PER_FILE], strict=True))


def _read_unchanged(dataset: Dataset, item: Item, sha256: str) -> bytes:
    image_bytes = dataset.read(item)
    if hashlib.sha256(image_bytes).hexdigest() != sha256:
        raise BadDataset(f"Expected the photo {item.path} as it was when the dataset was scanned. Received: another.")
    return image_bytes
