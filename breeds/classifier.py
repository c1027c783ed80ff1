"""The seam into `ml`: bytes go in, a `Classification` or `UnreadableImage` comes out.

`ml` is imported inside the functions, so that importing the web side loads no runtime; a classifier is loaded once
per process, on first use, which is after any fork.
"""

from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError

from breeds.models import Breed, ClassifierVersion
from ml import BadCheckpoint, UnreadableImage

__all__ = [
    "BadCheckpoint", "UnreadableImage", "active_classifier", "active_folder", "active_version", "classifier_of", "fuse",
    "inspect_image", "load_classifier", "register_checkpoint", "remove_location", "shrink_image", "verified_version",
    "verify_active", "verify_files",
]  # fmt: skip


def active_classifier(num_threads: int = 1):
    """(ml.serving.inference.Classifier, ClassifierVersion) that answers at this moment. Raises `BadCheckpoint`."""
    version = active_version()
    return classifier_of(version, num_threads), version


def classifier_of(version: ClassifierVersion, num_threads: int = 1):
    """The `ml.serving.inference.Classifier` of a version, from its folder and nothing else. Raises `BadCheckpoint`."""
    classifier = load_classifier(version.folder, num_threads)
    if classifier.checkpoint.version != version.version:  # the folder was written anew since this process loaded it
        load_classifier.cache_clear()
        classifier = load_classifier(version.folder, num_threads)
    if classifier.checkpoint.version != version.version:
        raise BadCheckpoint(
            f"Expected version {version.version} in {version.folder}. Received: {classifier.checkpoint.version}."
        )
    return classifier


def active_version() -> ClassifierVersion:
    """The version that answers at this moment; the bundled one where none was chosen yet. Raises `BadCheckpoint`."""
    return ClassifierVersion.objects.active() or register_checkpoint(settings.BUNDLED_CLASSIFIER, bundled=True)


def verify_active() -> ClassifierVersion:
    """The version that answers, its files read and compared again whenever one has changed. Raises `BadCheckpoint`."""
    version = active_version()
    verify_files(version)
    return version


def verify_files(version: ClassifierVersion) -> None:
    """Raises `BadCheckpoint` where the folder of this version no longer holds it."""
    _verify(version.folder, version.version, _stamp_of(Path(version.folder)))


@lru_cache(maxsize=1)
def _verify(folder: str, version: str, stamp: tuple) -> None:
    from ml.serving.checkpoint import load_checkpoint

    if (found := load_checkpoint(Path(folder)).version) != version:
        raise BadCheckpoint(f"Expected version {version} in {folder}. Received: {found}.")


def _stamp_of(folder: Path) -> tuple:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple((path.name, (facts := path.stat()).st_size, facts.st_mtime_ns) for path in files)


def active_folder() -> Path:
    """The checkpoint folder that answers at this moment; the bundled one where there is no database yet."""
    try:
        version = ClassifierVersion.objects.active()
    except DatabaseError:
        version = None
    return Path(version.folder) if version else settings.BUNDLED_CLASSIFIER


@lru_cache(maxsize=4)
def load_classifier(folder: str | Path, num_threads: int = 1):
    """The `ml.serving.inference.Classifier` of a checkpoint folder, loaded once per process. Raises `BadCheckpoint`."""
    from ml.serving.inference import Classifier

    return Classifier.load(Path(folder), num_threads)


def register_checkpoint(folder: Path, *, bundled: bool = False) -> ClassifierVersion:
    """Verify a checkpoint folder, give it its row and, where none is active yet, make it the active one.

    A new Flair brings a new bundled classifier, which takes over from the old bundled one, but never from a
    classifier that an admin chose. Raises `BadCheckpoint`.
    """
    from ml.serving.checkpoint import load_checkpoint

    version = ClassifierVersion.objects.register(load_checkpoint(folder), bundled=bundled)
    active = ClassifierVersion.objects.active()
    if active is None or (bundled and active.is_bundled and active != version):
        version.activate()
    return version


def fuse(probs, energy, version: ClassifierVersion, familiarity=None):
    """`ml.serving.fusion.Fusion` of what `version` gave to N photos of one dog: (N, C) probabilities, (N,) energies.

    From the row alone, whether or not the checkpoint's folder is here. With their (N,) `familiarity`, where the
    version knows it. Raises `ValueError` for what are no probabilities of its labels.
    """
    from ml.serving.decision import Label, Thresholds
    from ml.serving.fusion import fuse

    mask = set(version.mask)
    labels = [
        Label(slug, group, slug in mask) for slug, group in zip(version.labels, version.label_groups, strict=True)
    ]
    return fuse(probs, energy, labels, Thresholds(**version.thresholds), familiarity=familiarity)


def verified_version(named: str) -> ClassifierVersion:
    """The row of a checkpoint folder (or of a run's), or of a registered version by its hash or the start of it.

    Its network was loaded and answers with numbers, of labels that are breeds here. Raises `BadCheckpoint`.
    """
    from ml.serving.checkpoint import checkpoint_in
    from ml.serving.inference import Classifier

    folder, registered = Path(named), None
    if not folder.is_dir():
        known = list(ClassifierVersion.objects.filter(version__startswith=named)[:2]) if len(named) >= 4 else []
        if len(known) != 1:
            raise BadCheckpoint(f"Expected a checkpoint folder or a version that is registered. Received: {named}.")
        registered = known[0]
        folder = Path(registered.folder)
    folder = checkpoint_in(folder)
    checkpoint = Classifier.load(folder).checkpoint  # anew: what is in the folder now, not what was
    if registered and registered.version != checkpoint.version:
        raise BadCheckpoint(f"Expected version {registered.version} in {folder}. Received: {checkpoint.version}.")
    foreign = {label.slug for label in checkpoint.labels} - set(Breed.objects.values_list("slug", flat=True))
    if foreign:
        shown = ", ".join(sorted(foreign)[:5]) + (" …" if len(foreign) > 5 else "")
        raise BadCheckpoint(f"Expected labels that are breeds here; add them first. Received: {shown} in {folder}.")
    bundled = ClassifierVersion.objects.filter(version=checkpoint.version, is_bundled=True).exists()
    return ClassifierVersion.objects.register(checkpoint, bundled=bundled)


def inspect_image(image_bytes: bytes):
    """`ml.images.imagefile.ImageFacts` of a photo, without decoding it. Raises `UnreadableImage`."""
    from ml.images.imagefile import inspect_image

    return inspect_image(image_bytes)


def remove_location(image_bytes: bytes, image_format: str) -> bytes:
    """The same photo, to the last bit of its pixels, without where it was taken. Raises `UnreadableImage`."""
    from ml.images.metadata import remove_location

    return remove_location(image_bytes, image_format)


def shrink_image(image_bytes: bytes, side: int) -> bytes:
    """A JPEG of at most `side` pixels a side. Raises `UnreadableImage`."""
    from ml.images.preprocessing import decode_image, render_preview

    return render_preview(decode_image(image_bytes, side), side)
