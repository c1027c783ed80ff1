"""Folders of photos -> a fixed, fair split.

A dataset is a folder (or a tar archive of one) with one folder per breed. The split depends on the photos' content
and the seed alone, so that it is the same on every machine; near-duplicates never end up on two sides of it.
A folder that `ml.preparation` wrote brings its split with it, in its manifest.
"""

import difflib
import hashlib
import json
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ml import BadDataset, UnreadableImage
from ml.preprocessing import decode_image, difference_hash

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic"}
SPLITS = ("train", "val", "test")
FRACTIONS = (0.70, 0.15, 0.15)

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"  # in place of the manifest, until every photo of a prepared folder is written
PREPARED = "flair-prepared-dataset-1"

# Two photos of one breed whose 64-bit difference hashes differ in at most this many bits are one group.
NEAR_DUPLICATE_BITS = 6


class Fingerprint(NamedTuple):
    """A file of a dataset; `error` is empty for a photo that can be read, else why it can not."""

    path: Path
    sha256: str
    dhash: int
    error: str = ""


@dataclass(frozen=True)
class Item:
    """One photo of a dataset. `path` is relative to the dataset's folder; `group` must not be divided."""

    path: str
    label: str
    sha256: str
    group: str
    split: str


@dataclass(frozen=True)
class Dataset:
    """`steps` and `image_size` say what has been applied already, to photos that `ml.preparation` wrote.

    They are read by `prepare_image` with the same size as they are; the greyscale step alone may be repeated, for its
    single channel. `unreadable` holds the path and the reason of each photo that was left out.
    """

    root: Path
    items: list[Item]
    steps: tuple[str, ...] = ()
    image_size: int | None = None
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> list[str]:
        return sorted({item.label for item in self.items})

    def part(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]

    def read(self, item: Item) -> bytes:
        return (self.root / item.path).read_bytes()

    def label_index(self, items: list[Item]) -> np.ndarray:
        """(N,) int32, the position of each photo's label in `labels`."""
        position = {label: index for index, label in enumerate(self.labels)}
        return np.array([position[item.label] for item in items], np.int32)

    @property
    def manifest_hash(self) -> str:
        rows = sorted((item.sha256, item.label, item.split) for item in self.items)
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def save_manifest(self, path: Path) -> None:
        path.write_text(json.dumps({"items": [asdict(item) for item in self.items]}, indent=0))


def label_slug(folder_name: str) -> str:
    """`n02098105-soft-coated_wheaten_terrier` -> `soft_coated_wheaten_terrier`."""
    name = unicodedata.normalize("NFKD", re.sub(r"^n\d{8}-", "", folder_name))
    plain = "".join(character for character in name if not unicodedata.combining(character))
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")


def unpack_dataset(source: Path, cache_dir: Path) -> Path:
    """Return the folder of a dataset; a tar archive is unpacked once, into `cache_dir`."""
    if source.is_dir():
        return source
    if not source.is_file() or not tarfile.is_tarfile(source):
        raise BadDataset(f"Expected a folder or a tar archive with one folder per breed. Received: {source}.")
    with source.open("rb") as file:
        folder = cache_dir / f"{source.name.split('.')[0]}-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with tarfile.open(source) as archive:
                archive.extractall(partial, filter="data")
        except tarfile.TarError as error:
            raise BadDataset(f"Expected a whole and harmless tar archive. Received: {source} ({error}).") from error
        partial.rename(folder)
    return folder


def load_dataset(
    folder: Path,
    *,
    seed: int = 0,
    fractions=FRACTIONS,
    labels: list[str] | None = None,
    track: Callable[[Iterable, str, int], Iterable] = lambda items, description, total: items,
) -> Dataset:
    """Scan `folder` and divide it into train / val / test; `labels` keeps only those breeds.

    A prepared folder keeps the split that it was written with, whatever `seed` and `fractions` say. Photos that cannot
    be read are left out. `track(items, description, total)` may show progress. Raises `BadDataset` for an unknown
    label, fewer than two breeds, a breed with too few photos for three parts, or one photo under two breeds.
    """
    root = class_root(folder)
    if (manifest := read_manifest(root)) is not None:
        return _load_prepared(root, manifest, labels)
    paths = paths_by_label(root)
    _refuse_unknown(root, labels, paths)
    paths = {label: files for label, files in paths.items() if not labels or label in labels}
    _refuse_fewer_than_two(root, paths)
    every = [path for files in paths.values() for path in files]
    with ThreadPoolExecutor() as pool:
        prints = iter(track(pool.map(_fingerprint, every), "reading photos", len(every)))
        by_label = {label: list(islice(prints, len(files))) for label, files in paths.items()}
        next(prints, None)  # so that a progress bar ends, too
    items, unreadable = [], []
    for label, found in by_label.items():
        readable = [photo for photo in found if not photo.error]
        items += _split_label(root, label, readable, seed, fractions)
        unreadable += [(photo.path.relative_to(root).as_posix(), photo.error) for photo in found if photo.error]
    _refuse_two_breeds_of_one_photo(items)
    return Dataset(root, sorted(items, key=lambda item: item.path), unreadable=tuple(unreadable))


def scan_dataset(folder: Path) -> Dataset:
    """Every readable photo of a dataset as it lies there, in one part called `all`: for measuring, not for training."""
    root = class_root(folder)
    if (manifest := read_manifest(root)) is not None:
        prepared = _load_prepared(root, manifest, None)
        return replace(prepared, items=[replace(item, split="all") for item in prepared.items])
    with ThreadPoolExecutor() as pool:
        items = [
            Item(photo.path.relative_to(root).as_posix(), label, photo.sha256, f"{label}:{photo.sha256[:16]}", "all")
            for label, files in paths_by_label(root).items()
            for photo in pool.map(_fingerprint, files)
            if not photo.error
        ]
    return Dataset(root, items)


def read_manifest(root: Path) -> dict | None:
    """The manifest of a prepared folder; `None` for any other. Raises `BadDataset` for one damaged or not finished."""
    if not (root / MANIFEST).is_file():
        if (root / UNFINISHED).is_file():
            raise BadDataset(f"Expected photos prepared to the end. Received: {root}, whose preparation was stopped.")
        return None
    try:
        manifest = json.loads((root / MANIFEST).read_text())
    except ValueError as error:
        raise BadDataset(f"Expected a whole manifest. Received: {root / MANIFEST} ({error}).") from error
    return manifest if isinstance(manifest, dict) and manifest.get("version") == PREPARED else None


def _load_prepared(root: Path, manifest: dict, labels: list[str] | None) -> Dataset:
    try:
        items = [Item(**{name: row[name] for name in Item.__dataclass_fields__}) for row in manifest["items"]]
        steps, image_size = tuple(manifest["steps"]), manifest["image_size"]
    except (KeyError, TypeError) as error:
        raise BadDataset(f"Expected a whole manifest. Received: {root / MANIFEST} ({error!r}).") from error
    _refuse_unknown(root, labels, {item.label for item in items})
    items = [item for item in items if not labels or item.label in labels]
    _refuse_fewer_than_two(root, {item.label for item in items})
    missing = [item.path for item in items if not (root / item.path).is_file()]
    if missing:
        raise BadDataset(f"Expected all {len(items)} photos of {root}. Received: {len(missing)} less ({missing[0]} …).")
    return Dataset(root, items, steps, image_size)


def _refuse_unknown(root: Path, labels, known) -> None:
    unknown = sorted(set(labels or ()) - set(known))
    if unknown:
        raise BadDataset(f"Expected breeds of {root}. Received: {', '.join(unknown)}.")


def _refuse_fewer_than_two(root: Path, labels) -> None:
    if len(labels) < 2:
        raise BadDataset(f"Expected at least two folders of photos, one per breed. Received: {len(labels)} in {root}.")


def choose_breeds(folder: Path, wish: str, *, seed: int = 0) -> list[str]:
    """`"20"`, or `"pug, Brittany spaniel"` -> that many labels, or those, sorted. Looks at folder names alone.

    A number takes the breeds in the order of SHA-256("seed:label"), so that the choice is the same on every machine
    and 3 breeds are among the 20, and those among the 50. Raises `BadDataset` for more breeds than there are, for
    fewer than two, and for unknown names, with those that are near.
    """
    root, known = class_root(folder), breeds_of(folder)
    if wish.strip().isdecimal():
        count = int(wish)
        if not 2 <= count <= len(known):
            raise BadDataset(f"Expected a number of breeds from 2 to {len(known)} for {root}. Received: {count}.")
        return sorted(sorted(known, key=lambda label: hashlib.sha256(f"{seed}:{label}".encode()).digest())[:count])
    names = [name.strip() for name in wish.split(",") if name.strip()]
    unknown = [_with_near_matches(name, known) for name in names if label_slug(name) not in known]
    if unknown or not names:
        raise BadDataset(f"Expected a number, or names of breeds of {root}. Received: {', '.join(unknown) or 'none'}.")
    return sorted({label_slug(name) for name in names})


def breeds_of(folder: Path) -> list[str]:
    """The labels of a dataset, sorted; looks at folder names alone."""
    root = class_root(folder)
    manifest = read_manifest(root)
    return sorted({row["label"] for row in manifest["items"]} if manifest else folders_by_label(root))


def _with_near_matches(name: str, known: list[str]) -> str:
    slug = label_slug(name)
    near = [label for label in known if slug and slug in label] or difflib.get_close_matches(slug, known)
    return f"{name} (near: {', '.join(near[:3])})" if near else name


def folders_by_label(root: Path) -> dict[str, Path]:
    """Label -> its folder. Raises `BadDataset` where two folders have the same label."""
    folders: dict[str, Path] = {}
    for folder in sorted(_visible_folders(root)):
        other = folders.setdefault(label_slug(folder.name), folder)
        if other != folder:
            raise BadDataset(f"Expected one folder per breed. Received: {other.name} and {folder.name} in {root}.")
    return folders


def paths_by_label(root: Path) -> dict[str, list[Path]]:
    """Label -> the files below its folder that are named like photos, sorted."""
    return {
        label: sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
        for label, folder in folders_by_label(root).items()
    }


def _split_label(root: Path, label: str, prints: list[Fingerprint], seed: int, fractions) -> list[Item]:
    """The photos of one breed, near-duplicates together, each with its split."""
    groups = {
        f"{label}:{min(prints[i].sha256 for i in members)[:16]}": members
        for members in group_near_duplicates([photo.dhash for photo in prints])
    }
    splits = assign_split([(name, len(members)) for name, members in groups.items()], seed=seed, fractions=fractions)
    if set(splits.values()) != set(SPLITS):
        raise BadDataset(f"Expected photos of {label} enough for {', '.join(SPLITS)}. Received: {len(prints)}.")
    return [
        Item(prints[i].path.relative_to(root).as_posix(), label, prints[i].sha256, name, splits[name])
        for name, members in groups.items()
        for i in members
    ]


def _refuse_two_breeds_of_one_photo(items: list[Item]) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        other = seen.setdefault(item.sha256, item)
        if other.label != item.label:
            raise BadDataset(f"Expected one breed per photo. Received: {other.path} and {item.path}, the same file.")


def class_root(folder: Path) -> Path:
    """Step down through wrappers such as `stanford-dogs/Images/` to the folder that holds one folder per breed."""
    if not folder.is_dir():
        raise BadDataset(f"Expected a folder of photos. Received: {folder}.")
    while read_manifest(folder) is None:
        children = _visible_folders(folder)
        if len(children) != 1 or any(file.suffix.lower() in PHOTO_SUFFIXES for file in children[0].iterdir()):
            break
        folder = children[0]
    return folder


def _visible_folders(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]


def _fingerprint(path: Path) -> Fingerprint:
    try:
        image_bytes = path.read_bytes()
        return Fingerprint(
            path, hashlib.sha256(image_bytes).hexdigest(), difference_hash(decode_image(image_bytes, 64))
        )
    except UnreadableImage as error:
        return Fingerprint(path, "", 0, str(error))
    except OSError as error:  # a broken link, or a file that we may not read: told, as any other
        return Fingerprint(path, "", 0, error.strerror or str(error))


def group_near_duplicates(hashes: list[int]) -> list[list[int]]:
    """Positions of `hashes` in groups: photos within `NEAR_DUPLICATE_BITS` of each other, directly or in a chain."""
    groups: list[list[int]] = []
    for index, value in enumerate(hashes):
        near = [g for g in groups if any((value ^ hashes[i]).bit_count() <= NEAR_DUPLICATE_BITS for i in g)]
        groups = [g for g in groups if g not in near] + [[index] + [i for g in near for i in g]]
    return groups


def assign_split(groups: list[tuple[str, int]], *, seed: int, fractions) -> dict[str, str]:
    """Name of each group of one breed -> its split. Fills test, then val, then train, in the order of a seeded hash."""
    total = sum(size for _, size in groups)
    wanted = {"test": round(fractions[2] * total), "val": round(fractions[1] * total), "train": total}
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group[0]}".encode()).digest())
    splits, filled = {}, dict.fromkeys(SPLITS, 0)
    for name, size in order:
        split = next(split for split in wanted if filled[split] < wanted[split] or split == "train")
        splits[name] = split
        filled[split] += size
    return splits
