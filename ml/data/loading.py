"""From a folder to a dataset with its split: plain photos, a prepared folder, an export of reviews, or two joined."""

import json
import os
from dataclasses import replace
from pathlib import Path

from ml import BadDataset
from ml.data.datasets import (
    FRACTIONS,
    MANIFEST,
    REVIEWED,
    SPLITS,
    Dataset,
    Item,
    breeds_of,
    class_root,
    paths_by_label,
    read_files,
    read_items,
    read_manifest,
    refuse_fewer_than_two,
    refuse_two_breeds_of_one_photo,
    refuse_unknown,
    split_photos,
)
from ml.data.reviewed import is_reviewed, read_reviewed, split_reviewed
from ml.images.duplicates import group_near_duplicates
from ml.progress import Track, no_track


def load_dataset(
    folder: Path, *, seed: int = 0, fractions=FRACTIONS, labels: list[str] | None = None, track: Track = no_track
) -> Dataset:
    """Scan `folder` and divide it into train / val / test; `labels` keeps only those breeds.

    A prepared folder keeps the split that it was written with, whatever `seed` and `fractions` say. Photos that cannot
    be read are left out. `track(items, description, total)` may show progress. Raises `BadDataset` for an unknown
    label, fewer than two breeds, a breed with too few photos for three parts, or one photo under two breeds.
    """
    root = class_root(folder)
    if (manifest := read_manifest(root)) is not None:
        if manifest["version"] == REVIEWED:
            return load_reviewed(root, manifest, labels, seed=seed, fractions=fractions)
        return _load_prepared(root, manifest, labels)
    paths = paths_by_label(root)
    refuse_unknown(root, labels, paths)
    paths = {label: files for label, files in paths.items() if not labels or label in labels}
    refuse_fewer_than_two(root, paths)
    photos = read_files(root, paths, track)
    unreadable = tuple((photo.path, photo.error) for photo in photos if photo.error)
    readable = [photo for photo in photos if not photo.error]
    refuse_two_breeds_of_one_photo(readable)
    by_label = {label: [photo for photo in readable if photo.label == label] for label in paths}
    items = sorted(split_photos(by_label, seed=seed, fractions=fractions), key=lambda item: item.path)
    return Dataset(root, items, unreadable=unreadable, dhashes={photo.sha256: photo.dhash for photo in readable})


def scan_dataset(folder: Path) -> Dataset:
    """Every readable photo of a dataset as it lies there, in one part called `all`: for measuring, not for training."""
    root = class_root(folder)
    if (manifest := read_manifest(root)) is not None:
        prepared = _load_prepared(root, manifest, None)
        return replace(prepared, items=[replace(item, split="all") for item in prepared.items])
    items = [
        Item(photo.path, photo.label, photo.sha256, f"{photo.label}:{photo.sha256[:16]}", "all")
        for photo in read_files(root, paths_by_label(root))
        if not photo.error
    ]
    return Dataset(root, items)


def _load_prepared(root: Path, manifest: dict, labels: list[str] | None) -> Dataset:
    items = read_items(root, manifest, labels)
    refuse_fewer_than_two(root, {item.label for item in items})
    return Dataset(root, items, tuple(manifest["steps"]), manifest["image_size"])


def load_reviewed(
    root: Path, manifest: dict, labels: list[str] | None, *, seed: int = 0, fractions=FRACTIONS
) -> Dataset:
    """The exported photos, divided. Without `labels`, breeds with too few photos or dogs are left out, and told.

    Raises `BadDataset` for a damaged export and for fewer than two breeds.
    """
    dataset = read_reviewed(root, manifest, labels)
    dataset = split_reviewed(dataset, known=set(labels or ()), seed=seed, fractions=fractions)
    if len(dataset.labels) < 2:
        few = ", ".join(f"{label} ({why})" for label, why in dataset.unreadable) or "none"
        raise BadDataset(f"Expected two breeds or more with enough reviewed photos. Received: {dataset.labels}; {few}.")
    return dataset


def load_joined(
    base: Path | None,
    reviews: Path | None,
    *,
    seed: int = 0,
    fractions=FRACTIONS,
    labels: list[str] | None = None,
    track: Track = no_track,
) -> Dataset:
    """A base set, exported reviews, or both in one. What is reviewed is divided the same way in either case.

    Of the base, photos that nearly equal a reviewed one are left out: a person has said what they show, and they must
    not lie on another side. Breeds that the base lacks join where people named enough of them. Raises `BadDataset`.
    """
    if base is None or reviews is None:
        return load_dataset(base or reviews, seed=seed, fractions=fractions, labels=labels, track=track)
    unknown = sorted(set(labels or ()) - set(breeds_of(base)) - set(breeds_of(reviews)))
    if unknown:
        raise BadDataset(f"Expected breeds of {base} or of the reviews. Received: {', '.join(unknown)}.")
    of_base = labels and sorted(set(labels) & set(breeds_of(base)))
    if of_base == []:
        raise BadDataset(f"Expected at least two breeds of {base}. Received: those of the reviews alone.")
    found = load_dataset(base, seed=seed, fractions=fractions, labels=of_base, track=track)
    if found.image_size:
        raise BadDataset(f"Expected original photos to join with reviews. Received: {base}, which is prepared already.")
    of_reviews = labels and sorted(set(labels) & set(breeds_of(reviews)))
    own = read_reviewed(reviews, json.loads((reviews / MANIFEST).read_text()), of_reviews)
    own = split_reviewed(own, known=set(found.labels), seed=seed, fractions=fractions)
    return _joined(found, own)


def _joined(base: Dataset, own: Dataset) -> Dataset:
    """One dataset below the nearest folder that holds both."""
    root = Path(os.path.commonpath([base.root.absolute(), own.root.absolute()]))

    def moved(dataset: Dataset, path: str) -> str:
        return (dataset.root.absolute() / path).relative_to(root).as_posix()

    twins = _twins(base, own)
    kept = [item for item in base.items if item.group not in twins]
    items = [replace(item, path=moved(base, item.path)) for item in kept]
    items += [replace(item, path=moved(own, item.path)) for item in own.items]
    told = [(moved(base, path), why) for path, why in base.unreadable] + list(own.unreadable)
    told += [(moved(base, i.path), "nearly equals a reviewed photo") for i in base.items if i.group in twins]
    for label in {item.label for item in items}:
        if {item.split for item in items if item.label == label} != set(SPLITS):
            raise BadDataset(f"Expected photos of {label} enough for {', '.join(SPLITS)}. Received: too few.")
    return Dataset(root, sorted(items, key=lambda item: item.path), unreadable=tuple(told))


def _twins(base: Dataset, own: Dataset) -> set[str]:
    """Groups of the base that hold a near-duplicate of a reviewed photo."""
    photos = [*base.items, *own.items]
    dhashes = [dataset.dhashes[item.sha256] for dataset in (base, own) for item in dataset.items]
    twins = set()
    for members in group_near_duplicates(dhashes):
        if any(is_reviewed(photos[i]) for i in members):
            twins |= {photos[i].group for i in members if not is_reviewed(photos[i])}
    return twins
