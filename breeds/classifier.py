"""The seam into `ml`: bytes go in, a `Classification` or `UnreadableImage` comes out.

`ml` is imported inside the functions, so that importing the web side loads no runtime; a classifier is loaded once
per process, on first use, which is after any fork.
"""

from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError

from breeds.models import ClassifierVersion
from ml import BadCheckpoint, UnreadableImage

__all__ = [
    "BadCheckpoint",
    "UnreadableImage",
    "active_classifier",
    "active_folder",
    "active_version",
    "fuse",
    "inspect_image",
    "load_classifier",
    "register_checkpoint",
    "shrink_image",
]


def active_classifier(num_threads: int = 1):
    """(ml.inference.Classifier, ClassifierVersion) that answers at this moment. Raises `BadCheckpoint`."""
    version = active_version()
    classifier = load_classifier(version.folder, num_threads)
    if classifier.checkpoint.version != version.version:
        raise BadCheckpoint(
            f"Expected version {version.version} in {version.folder}. Received: {classifier.checkpoint.version}."
        )
    return classifier, version


def active_version() -> ClassifierVersion:
    """The version that answers at this moment; the bundled one where none was chosen yet. Raises `BadCheckpoint`."""
    return ClassifierVersion.objects.active() or register_checkpoint(settings.BUNDLED_CLASSIFIER, bundled=True)


def active_folder() -> Path:
    """The checkpoint folder that answers at this moment; the bundled one where there is no database yet."""
    try:
        version = ClassifierVersion.objects.active()
    except DatabaseError:
        version = None
    return Path(version.folder) if version else settings.BUNDLED_CLASSIFIER


@lru_cache(maxsize=2)
def load_classifier(folder: str | Path, num_threads: int = 1):
    """The `ml.inference.Classifier` of a checkpoint folder, loaded once per process. Raises `BadCheckpoint`."""
    from ml.inference import Classifier

    return Classifier.load(Path(folder), num_threads)


def register_checkpoint(folder: Path, *, bundled: bool = False) -> ClassifierVersion:
    """Verify a checkpoint folder, give it its row and, where none is active yet, make it the active one.

    A new Flair brings a new bundled classifier, which takes over from the old bundled one, but never from a
    classifier that an admin chose. Raises `BadCheckpoint`.
    """
    from ml.checkpoint import load_checkpoint

    version = ClassifierVersion.objects.register(load_checkpoint(folder), bundled=bundled)
    active = ClassifierVersion.objects.active()
    if active is None or (bundled and active.is_bundled and active != version):
        version.activate()
    return version


def fuse(probs, energy, version: ClassifierVersion):
    """`ml.fusion.Fusion` of (N, C) probabilities and (N,) energies that `version` gave to N photos of one dog.

    From the row alone, whether or not the checkpoint's folder is here. Raises `ValueError` for what are no
    probabilities of its labels.
    """
    from ml.decision import Label, Thresholds
    from ml.fusion import fuse

    mask = set(version.mask)
    labels = [
        Label(slug, group, slug in mask) for slug, group in zip(version.labels, version.label_groups, strict=True)
    ]
    return fuse(probs, energy, labels, Thresholds(**version.thresholds))


def inspect_image(image_bytes: bytes):
    """`ml.imagefile.ImageFacts` of a photo, without decoding it. Raises `UnreadableImage`."""
    from ml.imagefile import inspect_image

    return inspect_image(image_bytes)


def shrink_image(image_bytes: bytes, side: int) -> bytes:
    """A JPEG of at most `side` pixels a side. Raises `UnreadableImage`."""
    from ml.preprocessing import decode_image, render_preview

    return render_preview(decode_image(image_bytes, side), side)
