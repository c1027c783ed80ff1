"""Folders of photos -> a fixed, fair split -> batches.

A dataset is a folder (or a tar archive of one) with one folder per breed. The split depends on the photos' content
and the seed alone, so that it is the same on every machine; near-duplicates never end up on two sides of it.
"""

import hashlib
import json
import re
import shutil
import tarfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageEnhance

from ml import BadDataset, UnreadableImage
from ml.preprocessing import decode_image, to_square

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic"}
SPLITS = ("train", "val", "test")

# Two photos of one breed whose 64-bit difference hashes differ in at most this many bits are one group.
NEAR_DUPLICATE_BITS = 6


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
    root: Path
    items: list[Item]

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


def load_dataset(folder: Path, *, seed: int = 0, fractions=(0.70, 0.15, 0.15), labels: list[str] | None = None):
    """Scan `folder` and divide it into train / val / test; `labels` keeps only those breeds.

    Photos that cannot be read are left out. Raises `BadDataset` for an unknown label, fewer than two breeds, a breed
    with too few photos for three parts, or one photo under two breeds.
    """
    root = _class_root(folder)
    paths = _paths_by_label(root)
    unknown = sorted(set(labels or ()) - set(paths))
    if unknown:
        raise BadDataset(f"Expected breeds of {root}. Received: {', '.join(unknown)}.")
    paths = {label: files for label, files in paths.items() if not labels or label in labels}
    if len(paths) < 2:
        raise BadDataset(f"Expected at least two folders of photos, one per breed. Received: {len(paths)} in {root}.")
    with ThreadPoolExecutor() as pool:
        items = [
            item
            for label, files in paths.items()
            for item in _split_label(root, label, list(filter(None, pool.map(_fingerprint, files))), seed, fractions)
        ]
    _refuse_two_breeds_of_one_photo(items)
    return Dataset(root, sorted(items, key=lambda item: item.path))


def _paths_by_label(root: Path) -> dict[str, list[Path]]:
    folders: dict[str, Path] = {}
    for folder in sorted(child for child in root.iterdir() if child.is_dir()):
        other = folders.setdefault(label_slug(folder.name), folder)
        if other != folder:
            raise BadDataset(f"Expected one folder per breed. Received: {other.name} and {folder.name} in {root}.")
    return {
        label: sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
        for label, folder in folders.items()
    }


def _split_label(root: Path, label: str, prints: list[tuple[Path, str, int]], seed: int, fractions) -> list[Item]:
    """The photos of one breed, near-duplicates together, each with its split."""
    groups = {
        f"{label}:{min(prints[i][1] for i in members)[:16]}": members
        for members in group_near_duplicates([dhash for _, _, dhash in prints])
    }
    splits = assign_split([(name, len(members)) for name, members in groups.items()], seed=seed, fractions=fractions)
    if set(splits.values()) != set(SPLITS):
        raise BadDataset(f"Expected photos of {label} enough for {', '.join(SPLITS)}. Received: {len(prints)}.")
    return [
        Item(prints[i][0].relative_to(root).as_posix(), label, prints[i][1], name, splits[name])
        for name, members in groups.items()
        for i in members
    ]


def _refuse_two_breeds_of_one_photo(items: list[Item]) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        other = seen.setdefault(item.sha256, item)
        if other.label != item.label:
            raise BadDataset(f"Expected one breed per photo. Received: {other.path} and {item.path}, the same file.")


def _class_root(folder: Path) -> Path:
    """Step down through wrappers such as `stanford-dogs/Images/` to the folder that holds one folder per breed."""
    while True:
        children = [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
        if len(children) != 1 or any(file.suffix.lower() in PHOTO_SUFFIXES for file in children[0].iterdir()):
            return folder
        folder = children[0]


def _fingerprint(path: Path) -> tuple[Path, str, int] | None:
    image_bytes = path.read_bytes()
    try:
        return path, hashlib.sha256(image_bytes).hexdigest(), difference_hash(decode_image(image_bytes, 64))
    except UnreadableImage:
        return None


def difference_hash(image: Image.Image) -> int:
    """64-bit dHash (Krawetz, 2013): is each pixel of a 9 x 8 grey thumbnail brighter than its left neighbour?"""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


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


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches: images (B, size, size, 3) uint8 and label_index (B,) int32.

    Decoded by the same code as in serving. Every random choice depends on (seed, epoch, photo), so that a resumed
    training sees what an uninterrupted one would have seen.
    """

    def __init__(self, dataset: Dataset, items: list[Item], *, image_size: int, batch_size: int, seed: int, epoch: int):
        super().__init__(workers=2, max_queue_size=8)
        self.dataset, self.items = dataset, items
        self.label_index = dataset.label_index(items)
        self.image_size, self.batch_size, self.seed, self.epoch = image_size, batch_size, seed, epoch
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.items))

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return np.stack([self._augmented(i) for i in chosen]), self.label_index[chosen]

    def _augmented(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, self.epoch, int(index)])
        image = decode_image(self.dataset.read(self.items[index]), 2 * self.image_size)
        return augment(image, self.image_size, rng)


def augment(image: Image.Image, image_size: int, rng: np.random.Generator) -> np.ndarray:
    """Random resized crop (Szegedy et al., 2015; at least 35 % of the area), flip, light, contrast and colour."""
    width, height = image.size
    area = width * height * rng.uniform(0.35, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    crop_width, crop_height = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    image = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.7, 1.3))
    return np.asarray(image)


def centre_images(dataset: Dataset, items: list[Item], image_size: int) -> np.ndarray:
    """(N, image_size, image_size, 3) uint8, the view that serving takes."""
    with ThreadPoolExecutor() as pool:
        squares = pool.map(lambda i: to_square(decode_image(dataset.read(i), 2 * image_size), image_size), items)
        return np.stack(list(squares))
