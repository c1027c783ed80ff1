"""Photos that people reviewed, as a dataset: written whole, read with their groups, joined with a base set.

`OUT/<label>/<name>` holds the photos as they are, `OUT/manifest.json`, written last, the hash and the group of each.
A group is all photos of one animal with their near-duplicates, and is never divided between train, val and test.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ml import BadDataset, MLError, UnreadableImage
from ml.data.datasets import FRACTIONS, MANIFEST, REVIEWED, SPLITS, UNFINISHED, Dataset, Item, read_items
from ml.files import sha256_of, write_json, write_whole
from ml.images.duplicates import difference_hash, group_near_duplicates
from ml.images.preprocessing import decode_image
from ml.progress import Track, no_track

# A breed that the base set lacks is learned from at least so many photos, of at least so many dogs.
MIN_PHOTOS = 10
MIN_DOGS = 3

GROUP_PREFIX = "shelter:"  # of reviewed photos, also where they were prepared or joined


@dataclass(frozen=True)
class ReviewedPhoto:
    """`name` is that of the file to write, `animal` empty where unknown; `facts` go into the manifest as they are.

    A file of an earlier export is kept where it has this `sha256`.
    """

    name: str
    label: str
    animal: str
    sha256: str
    read: Callable[[], bytes]
    facts: dict = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.label}/{self.name}"


def is_reviewed(item: Item) -> bool:
    return item.group.startswith(GROUP_PREFIX)


def write_reviewed(out: Path, photos: list[ReviewedPhoto], *, track: Track = no_track) -> list[tuple[str, str]]:
    """Write `photos` below `out`; photos of an earlier export that are no longer among them go.

    Until all is written the folder is no dataset, and the same call goes on where an earlier one was stopped. Returns
    the path and the reason of each photo that cannot be read. Raises `MLError` where `out` is something else, or
    cannot be written.
    """
    _refuse_other_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / UNFINISHED, {"version": REVIEWED}, indent=1)
        (out / MANIFEST).unlink(missing_ok=True)
        with ThreadPoolExecutor() as pool:
            found = list(track(pool.map(lambda photo: _write_photo(out, photo), photos), "writing photos", len(photos)))
        written = [(photo, *row) for photo, row in zip(photos, found, strict=True) if isinstance(row, tuple)]
        left_out = [(p.path, str(row)) for p, row in zip(photos, found, strict=True) if not isinstance(row, tuple)]
        rows = _rows(written)
        _remove_others(out, {row["path"] for row in rows})
        content = {"version": REVIEWED, "steps": [], "image_size": None, "items": rows, "left_out": left_out}
        write_json(out / MANIFEST, content, indent=1)
        (out / UNFINISHED).unlink()
    except OSError as error:
        raise MLError(
            f"Expected to write all photos below {out}. Received: {error.strerror or error}. "
            "What is written is whole; the same command goes on from there."
        ) from error
    return left_out


def _refuse_other_folder(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    for name in (MANIFEST, UNFINISHED):
        try:
            if json.loads((out / name).read_text())["version"] == REVIEWED:
                return
        except (OSError, ValueError, KeyError, TypeError):
            continue
    raise MLError(f"Expected a new or empty folder, or one of an earlier export. Received: {out}.")


def _write_photo(out: Path, photo: ReviewedPhoto) -> tuple[str, int] | Exception:
    """(SHA-256, difference hash) of the file; the error of a photo that is missing or cannot be decoded."""
    path = out / photo.path
    try:
        is_there = path.is_file() and sha256_of(path) == photo.sha256
        image_bytes = path.read_bytes() if is_there else photo.read()
        prints = hashlib.sha256(image_bytes).hexdigest(), difference_hash(decode_image(image_bytes, 64))
    except (FileNotFoundError, UnreadableImage) as error:
        return error
    if not is_there:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, image_bytes)
    return prints


def _rows(written: list[tuple[ReviewedPhoto, str, int]]) -> list[dict]:
    first_of: dict[str, int] = {}  # animal -> its first photo
    same_animal = [(first_of.setdefault(photo.animal, i), i) for i, (photo, _, _) in enumerate(written) if photo.animal]
    names = [""] * len(written)
    for members in group_near_duplicates([dhash for _, _, dhash in written], same_animal):
        animals = sorted({written[i][0].animal for i in members} - {""})
        first = animals[0] if animals else min(written[i][1] for i in members)[:16]
        for i in members:
            names[i] = GROUP_PREFIX + first
    rows = [
        {
            "path": photo.path, "label": photo.label, "sha256": sha256, "dhash": f"{dhash:016x}", "group": name,
            "split": "all", **photo.facts,
        }
        for (photo, sha256, dhash), name in zip(written, names, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["path"])


def _remove_others(out: Path, paths: set[str]) -> None:
    """What an earlier export or a killed one left behind. Only in folders of photos, one level down."""
    for file in [file for file in out.glob("*/*") if file.is_file()]:
        if file.relative_to(out).as_posix() not in paths:
            file.unlink()
    for folder in [folder for folder in out.iterdir() if folder.is_dir() and not any(folder.iterdir())]:
        folder.rmdir()


def read_reviewed(root: Path, manifest: dict, labels: list[str] | None) -> Dataset:
    """Every photo in one part called `all`, after a look at every byte."""
    items = read_items(root, manifest, labels)
    for item in items:
        if sha256_of(root / item.path) != item.sha256:
            raise BadDataset(f"Expected the photos of {root} as they were exported. Received: {item.path}, changed.")
    return Dataset(root, items, dhashes={row["sha256"]: int(row["dhash"], 16) for row in manifest["items"]})


def split_reviewed(dataset: Dataset, *, known: set[str], seed: int, fractions=FRACTIONS) -> Dataset:
    """Groups into train / val / test, each by a seeded hash of its own name: it stays there when more reviews come.

    Groups of several breeds are for training: their breed is in doubt, so that they can measure nothing. A breed that
    is not `known` must fill all three parts; one that cannot is left out and told in `unreadable`.
    """
    sizes: dict[str, Counter] = {label: Counter() for label in dataset.labels}
    for item in dataset.items:
        sizes[item.label][item.group] += 1
    shared = {group for group, n in Counter(group for of in sizes.values() for group in of).items() if n > 1}
    splits, left_out = dict.fromkeys(shared, "train"), []
    for label, of_label in sizes.items():
        free = {group: size for group, size in of_label.items() if group not in shared}
        fills = len(free) >= MIN_DOGS and sum(free.values()) >= MIN_PHOTOS
        if not fills and label not in known:
            had = f"{sum(of_label.values())} photos of {len(of_label)} dogs"
            left_out.append((label, f"expected {MIN_PHOTOS} photos of {MIN_DOGS} dogs, received {had}"))
        splits |= _place(free, fills, seed, fractions)
    gone = {label for label, _ in left_out}
    items = [replace(item, split=splits[item.group]) for item in dataset.items if item.label not in gone]
    return replace(dataset, items=items, unreadable=(*dataset.unreadable, *left_out))


def _place(groups: dict[str, int], fills: bool, seed: int, fractions) -> dict[str, str]:
    """A group with more than half of the photos of its breed is for training. With `fills`, no part is empty."""
    spot = {g: int.from_bytes(hashlib.sha256(f"{seed}:{g}".encode()).digest()[:8], "big") / 2**64 for g in groups}
    large = {g for g, size in groups.items() if 2 * size > sum(groups.values())}
    _, val, test = fractions
    splits = {
        g: "train" if g in large or spot[g] >= test + val else "test" if spot[g] < test else "val" for g in groups
    }
    if fills and set(splits.values()) != set(SPLITS):
        order = sorted(groups, key=lambda g: (g in large, spot[g]))
        splits = dict.fromkeys(order, "train") | {order[0]: "test", order[1]: "val"}
    return splits
