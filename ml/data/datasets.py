"""Folders of photos -> a fixed, fair split.

A dataset is a folder (or a tar archive of one) with one folder per breed. The split depends on the photos' content and
the seed alone, so that it is the same on every machine; near-duplicates never end up on two sides of it. A folder that
`ml.data.preparation` wrote brings its split with it, in its manifest; one of `ml.data.reviewed`, its groups.
"""

import difflib
import hashlib
import json
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ml import BadDataset, UnreadableImage
from ml.files import sha256_of
from ml.images.duplicates import difference_hash, group_near_duplicates
from ml.images.imagefile import inspect_image
from ml.images.preprocessing import decode_image
from ml.progress import Track, no_track

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic"}
SPLITS = ("train", "val", "test")
FRACTIONS = (0.70, 0.15, 0.15)

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"  # in place of the manifest, until every photo of a prepared folder is written
PREPARED = "flair-prepared-dataset-1"
REVIEWED = "flair-reviewed-photos-1"


@dataclass(frozen=True)
class PhotoFile:
    """One file of a dataset. `path` is relative to its root; width and height are in pixels, upright.

    A file that cannot be read has an `error`, and only its path, label and size in bytes besides.
    """

    path: str
    label: str
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    dhash: int = 0
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
    """`steps` and `image_size` say what has been applied already, to photos that `ml.data.preparation` wrote.

    They are read by `prepare_image` with the same size as they are; the greyscale step alone may be repeated, for its
    single channel. `unreadable` holds the path and the reason of each photo that was left out, `dhashes` the
    difference hash of each content that was read.
    """

    root: Path
    items: list[Item]
    steps: tuple[str, ...] = ()
    image_size: int | None = None
    unreadable: tuple[tuple[str, str], ...] = ()
    dhashes: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> list[str]:
        return sorted({item.label for item in self.items})

    def part(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]

    @property
    def counts(self) -> dict[str, int]:
        """Photos in each split."""
        return {split: len(self.part(split)) for split in SPLITS}

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
    folder = cache_dir / f"{source.name.split('.')[0]}-{sha256_of(source)[:12]}"
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


def read_manifest(root: Path) -> dict | None:
    """The manifest of a prepared or exported folder; `None` for any other. Raises `BadDataset` for one not whole."""
    if not (root / MANIFEST).is_file():
        if (root / UNFINISHED).is_file():
            raise BadDataset(f"Expected photos prepared to the end. Received: {root}, whose making was stopped.")
        return None
    try:
        manifest = json.loads((root / MANIFEST).read_text())
    except ValueError as error:
        raise BadDataset(f"Expected a whole manifest. Received: {root / MANIFEST} ({error}).") from error
    return manifest if isinstance(manifest, dict) and manifest.get("version") in (PREPARED, REVIEWED) else None


def read_items(root: Path, manifest: dict, labels: list[str] | None) -> list[Item]:
    """The rows of a manifest, of `labels` alone if given. Raises `BadDataset` where one, or its photo, is missing."""
    try:
        items = [Item(**{name: row[name] for name in Item.__dataclass_fields__}) for row in manifest["items"]]
        _ = manifest["steps"], manifest["image_size"]
    except (KeyError, TypeError) as error:
        raise BadDataset(f"Expected a whole manifest. Received: {root / MANIFEST} ({error!r}).") from error
    refuse_unknown(root, labels, {item.label for item in items})
    items = [item for item in items if not labels or item.label in labels]
    missing = [item.path for item in items if not (root / item.path).is_file()]
    if missing:
        raise BadDataset(f"Expected all {len(items)} photos of {root}. Received: {len(missing)} less ({missing[0]} …).")
    return items


def refuse_unknown(root: Path, labels, known) -> None:
    unknown = sorted(set(labels or ()) - set(known))
    if unknown:
        raise BadDataset(f"Expected breeds of {root}. Received: {', '.join(unknown)}.")


def refuse_fewer_than_two(root: Path, labels) -> None:
    if len(labels) < 2:
        raise BadDataset(f"Expected at least two folders of photos, one per breed. Received: {len(labels)} in {root}.")


def choose_breeds(folder: Path, wish: str, *, seed: int = 0, more: Iterable[str] = ()) -> list[str]:
    """`"20"`, or `"pug, Brittany spaniel"` -> that many labels, or those, sorted. Looks at folder names alone.

    A number takes the breeds in the order of SHA-256("seed:label"), so that the choice is the same on every machine
    and 3 breeds are among the 20, and those among the 50. Names may also be of `more` breeds.
    Raises `BadDataset` for more breeds than there are, for fewer than two, and for unknown names, with those near.
    """
    root, known = class_root(folder), breeds_of(folder)
    if wish.strip().isdecimal():
        count = int(wish)
        if not 2 <= count <= len(known):
            raise BadDataset(f"Expected a number of breeds from 2 to {len(known)} for {root}. Received: {count}.")
        return sorted(sorted(known, key=lambda label: hashlib.sha256(f"{seed}:{label}".encode()).digest())[:count])
    names = [name.strip() for name in wish.split(",") if name.strip()]
    known = sorted({*known, *more})
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


def split_photos(by_label: dict[str, list[PhotoFile]], *, seed: int, fractions) -> list[Item]:
    """The photos of all breeds, near-duplicates together, each with its split.

    Groups that span breeds are for training: their breed is in doubt, so that they can measure nothing.
    """
    photos = [photo for of_label in by_label.values() for photo in of_label]
    groups: dict[str, dict[str, list[int]]] = {label: {} for label in by_label}
    shared = set()
    for members in group_near_duplicates([photo.dhash for photo in photos]):
        labels = sorted({photos[i].label for i in members})
        name = f"{'+'.join(labels)}:{min(photos[i].sha256 for i in members)[:16]}"
        if len(labels) > 1:
            shared.add(name)
        for label in labels:
            groups[label][name] = [i for i in members if photos[i].label == label]
    splits = dict.fromkeys(shared, "train")
    for label, named in groups.items():
        free = [(name, len(members)) for name, members in named.items() if name not in shared]
        mine = assign_split(free, seed=seed, fractions=fractions)
        if set(mine.values()) != set(SPLITS):
            received = len(by_label[label])
            raise BadDataset(f"Expected photos of {label} enough for {', '.join(SPLITS)}. Received: {received}.")
        splits |= mine
    return [
        Item(photos[i].path, label, photos[i].sha256, name, splits[name])
        for label, named in groups.items()
        for name, members in named.items()
        for i in members
    ]


def refuse_two_breeds_of_one_photo(photos: Iterable[PhotoFile]) -> None:
    seen: dict[str, PhotoFile] = {}
    for photo in photos:
        other = seen.setdefault(photo.sha256, photo)
        if other.label != photo.label:
            raise BadDataset(f"Expected one breed per photo. Received: {other.path} and {photo.path}, the same file.")


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


def read_files(root: Path, paths: dict[str, list[Path]], track: Track = no_track) -> list[PhotoFile]:
    """Read every file of each label, in their order."""
    files = [(root, label, path) for label, of_label in paths.items() for path in of_label]
    with ThreadPoolExecutor() as pool:
        return list(track(pool.map(_read_file, *zip(*files, strict=True)), "reading photos", len(files)))


def _read_file(root: Path, label: str, path: Path) -> PhotoFile:
    """Return an error as a part of the result; never raise it."""
    name, size = path.relative_to(root).as_posix(), 0
    try:
        image_bytes = path.read_bytes()
        size = len(image_bytes)
        facts = inspect_image(image_bytes)
        dhash = difference_hash(decode_image(image_bytes, 64))
    except UnreadableImage as error:
        return PhotoFile(name, label, size, error=str(error))
    except OSError as error:  # a broken link, or a file without permission to read
        return PhotoFile(name, label, size, error=error.strerror or str(error))
    sha256 = hashlib.sha256(image_bytes).hexdigest()
    return PhotoFile(name, label, size, facts.format, facts.width, facts.height, sha256, dhash)


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
