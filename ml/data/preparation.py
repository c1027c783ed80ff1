"""Photos -> a folder of pixels, prepared once: the same split, size and steps for whoever trains on it.

`OUT/{train,val,test}/<label>/<sha256[:16]>.png`, a report, and `OUT/manifest.json` last: as long as that is missing,
the folder is unfinished and no dataset, and the same command goes on where it stopped.
"""

import hashlib
import http.client
import io
import json
import math
import tarfile
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ml import BadDataset, MLError, UnreadableImage
from ml.data.datasets import FRACTIONS, MANIFEST, PREPARED, SPLITS, UNFINISHED, Dataset, Item, class_root
from ml.data.loading import load_joined
from ml.files import write_json, write_whole
from ml.images.preprocessing import (
    CLASSIC_STEPS,
    apply_steps,
    check_steps,
    decode_image,
    decoded_side,
    preprocessing_id,
    to_square_image,
)
from ml.progress import Track, no_track
from ml.reports import Report, subplots

STANFORD_DOGS_URL = "http://vision.stanford.edu/aditya86/ImageNetDogs/images.tar"  # Khosla et al., 2011; 757 MB

MAX_SIZE = 1024
BLOCK = 1 << 20
SHOWN_PHOTOS = 4


@dataclass(frozen=True)
class Recipe:
    """What decides every pixel and the split: a square of `image_size` pixels, `steps` (names of `STEPS`), `seed`."""

    image_size: int = 224
    steps: tuple[str, ...] = CLASSIC_STEPS
    seed: int = 0
    fractions: tuple[float, float, float] = FRACTIONS

    def __post_init__(self):
        check_steps(self.steps)
        if not 8 <= self.image_size <= MAX_SIZE:
            raise MLError(f"Expected an image size from 8 to {MAX_SIZE} pixels. Received: {self.image_size}.")

    @property
    def settings(self) -> dict:
        """As in the manifest; the same on every machine."""
        return {
            "version": PREPARED,
            "preprocessing": preprocessing_id(self.steps),
            "image_size": self.image_size,
            "steps": list(self.steps),
            "seed": self.seed,
            "fractions": list(self.fractions),
        }

    def prepare(self, image: Image.Image) -> Image.Image:
        """A decoded photo -> image_size x image_size pixels, RGB or L."""
        return apply_steps(to_square_image(image, self.image_size), self.steps)

    def decode(self, image_bytes: bytes) -> Image.Image:
        """As `prepare_image` decodes. Raises `UnreadableImage`."""
        return decode_image(image_bytes, decoded_side(self.image_size))


def prepare_dataset(
    source: Path | None,
    out: Path,
    recipe: Recipe,
    *,
    reviews: Path | None = None,
    labels: list[str] | None = None,
    command: str = "",
    track: Track = no_track,
) -> Dataset:
    """Scan and split `source` (a folder with one folder per breed), and write every photo prepared below `out`.

    `reviews` (an export of `ml.data.reviewed`) is joined with it, or alone where there is no source.

    Returns the dataset of the originals, with its unreadable photos. Photos that `out` has already are kept, where it
    was made of the same photos with the same recipe. Raises `BadDataset` for the source, `MLError` where `out` is
    something else or cannot be written; what is written by then is whole, and the same call goes on from there.
    """
    for folder in filter(None, (source, reviews)):
        _refuse_overlap(class_root(folder), out)
    _refuse_other_settings(out, recipe.settings)
    dataset = load_joined(source, reviews, seed=recipe.seed, fractions=recipe.fractions, labels=labels, track=track)
    if dataset.image_size:
        raise BadDataset(f"Expected original photos. Received: {source}, which is prepared already.")
    settings = recipe.settings | {"source": dataset.manifest_hash}
    _refuse_other_settings(out, settings)
    try:
        _start(out, settings, dataset)
        rows, unreadable = _write_photos(dataset, out, recipe, track)
        written = {row["source"] for row in rows}
        items = [item for item in dataset.items if item.path in written]
        dataset = Dataset(dataset.root, items, unreadable=(*dataset.unreadable, *unreadable))
        _write_report(dataset, rows, out, recipe, command)
        write_json(out / MANIFEST, settings | {"items": rows}, indent=1)
        (out / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise MLError(
            f"Expected to write all photos below {out}. Received: {error.strerror or error}. "
            "What is written is whole; the same command goes on from there."
        ) from error
    return dataset


def prepared_path(item: Item) -> str:
    """Exact copies of a photo within a breed share one file."""
    return f"{item.split}/{item.label}/{item.sha256[:16]}.png"


def _refuse_overlap(root: Path, out: Path) -> None:
    root, out = root.resolve(), out.resolve()
    if root == out or root in out.parents or out in root.parents:
        raise MLError(f"Expected a folder apart from the dataset's. Received: {out.name}, in or around {root.name}.")


def _refuse_other_settings(out: Path, settings: dict) -> None:
    """Compare with what `out` was made with, as far as `settings` says."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        known = next(json.loads(path.read_text()) for name in (MANIFEST, UNFINISHED) if (path := out / name).is_file())
        known = {name: known[name] for name in settings}
    except (StopIteration, OSError, ValueError, KeyError, TypeError) as error:
        raise MLError(f"Expected a new or empty folder, or one that was prepared. Received: {out}.") from error
    other = [name for name in settings if known[name] != settings[name]]
    other = [name for name in other if name != "preprocessing" or "steps" not in other]
    if other == ["source"]:
        raise MLError(f"Expected the photos that {out} was made of. Received: others, or another choice of breeds.")
    if other:
        made = ", ".join(f"{name} {_words(known[name])} instead of {_words(settings[name])}" for name in other)
        raise MLError(f"Expected a folder made with the same settings. Received: {out}, made with {made}.")


def _words(value) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _start(out: Path, settings: dict, dataset: Dataset) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not (out / MANIFEST).is_file():
        write_json(out / UNFINISHED, settings, indent=1)
    for folder in {(out / prepared_path(item)).parent for item in dataset.items}:
        folder.mkdir(parents=True, exist_ok=True)
        for left_behind in folder.glob("*.part"):
            left_behind.unlink()


def _write_photos(dataset: Dataset, out: Path, recipe: Recipe, track: Track) -> tuple[list[dict], list]:
    """Rows of the manifest, sorted, and the photos that turned out to be unreadable with their reasons."""
    first = {prepared_path(item): item for item in dataset.items}
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(lambda item: _write_photo(dataset, item, out, recipe), first.values())
        pixels = dict(zip(first, track(hashes, "preparing photos", len(first)), strict=True))
    rows, unreadable = [], []
    for item in dataset.items:
        found = pixels[prepared_path(item)]
        if isinstance(found, UnreadableImage):
            unreadable.append((item.path, str(found)))
        else:
            rows.append(_row(item, found))
    return sorted(rows, key=lambda row: (row["path"], row["source"])), unreadable


def _row(item: Item, pixels: str) -> dict:
    return {
        "path": prepared_path(item),
        "source": item.path,
        "label": item.label,
        "group": item.group,
        "split": item.split,
        "sha256": item.sha256,
        "pixels": pixels,
    }


def _write_photo(dataset: Dataset, item: Item, out: Path, recipe: Recipe) -> str | UnreadableImage:
    """SHA-256 of the prepared pixels (row by row, channels last); the error of a photo that cannot be read."""
    target = out / prepared_path(item)
    image = _read_prepared(target, recipe)
    if image is None:
        try:
            image = recipe.prepare(recipe.decode(dataset.read(item)))
        except UnreadableImage as error:
            return error
        stream = io.BytesIO()
        image.save(stream, "PNG", compress_level=3)
        write_whole(target, stream.getvalue())
    return hashlib.sha256(image.tobytes()).hexdigest()


def _read_prepared(path: Path, recipe: Recipe) -> Image.Image | None:
    """A photo of an earlier run; `None` where there is none, or a damaged one."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            mode = "L" if "greyscale" in recipe.steps else "RGB"
            return image if (image.mode, image.size) == (mode, (recipe.image_size,) * 2) else None
    except (OSError, SyntaxError, ValueError):
        return None


def _write_report(dataset: Dataset, rows: list[dict], out: Path, recipe: Recipe, command: str) -> None:
    counts = Counter((row["label"], row["split"]) for row in rows)
    totals = {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    report = Report(f"Prepared photos of {len(dataset.labels)} breeds", command)
    report.section("What was made")
    report.text(
        "Every photo decoded upright, cut to a square out of its middle and resized, then the steps in their order. "
        "Near-duplicates stay in one split, and the split never changes: it is written in manifest.json."
    )
    shown = [(name, _words(value)) for name, value in recipe.settings.items() if name != "version"]
    report.table(["setting", "value"], shown)
    report.table(["split", "photos"], [*totals.items(), ("all", len(rows))])
    report.section("Before and after")
    report.text(
        "The first picture is the whole photo, the others what is left of it after each step. Below each, how many "
        "pixels have which brightness, from black to white; of a colour picture, each channel in its colour."
    )
    for item in _examples(dataset):
        report.figure(_steps_figure(dataset.read(item), recipe), f"{item.label}: {item.path}", photos=True)
    report.section("Photos per breed")
    breeds = {label: {split: counts[label, split] for split in SPLITS} for label in dataset.labels}
    report.table(["breed", *SPLITS], [(label, *count.values()) for label, count in breeds.items()])
    report.section("Files that cannot be read")
    if dataset.unreadable:
        report.table(["file", "reason"], dataset.unreadable)
    else:
        report.text("None.")
    report.write(
        out / "report",
        {
            "settings": recipe.settings,
            "photos": totals,
            "breeds": breeds,
            "unreadable": [{"path": path, "reason": reason} for path, reason in dataset.unreadable],
        },
    )


def _examples(dataset: Dataset) -> list[Item]:
    """A training photo of each of a few breeds, spread over the alphabet."""
    labels = dataset.labels[:: math.ceil(len(dataset.labels) / SHOWN_PHOTOS)]
    return [next(item for item in dataset.part("train") if item.label == label) for label in labels]


def _steps_figure(image_bytes: bytes, recipe: Recipe):
    """Every stage of one photo over its histogram."""
    whole = recipe.decode(image_bytes)
    stages = [("the photo", whole), ("square", to_square_image(whole, recipe.image_size))]
    for step in recipe.steps:
        stages.append((step, apply_steps(stages[-1][1], [step])))
    figure, axes = subplots(
        2, len(stages), size=(1.85 * len(stages), 2.9), squeeze=False, gridspec_kw={"height_ratios": [1.9, 1]}
    )
    for (name, image), (above, below) in zip(stages, axes.T, strict=True):
        above.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
        above.set_title(name)
        above.axis("off")
        _draw_histogram(below, image)
    return figure


def _draw_histogram(axes, image: Image.Image) -> None:
    colours = ("#8a8178",) if image.mode == "L" else ("#b3402e", "#4f7d3a", "#2b6777")
    for channel, colour in zip(image.split(), colours, strict=True):
        axes.fill_between(range(256), channel.histogram(), step="mid", color=colour, alpha=0.75 / len(colours) + 0.1)
    axes.set(xlim=(0, 255), ylim=(0, None), xticks=(0, 128, 255), yticks=())
    axes.spines["left"].set_visible(False)


def fetch_archive(url: str, target: Path, *, track: Track = no_track, timeout: float = 30) -> Path:
    """Fetch a tar archive to `target`, unless it is there. What came before an interruption is kept, as `….part`.

    Raises `MLError` where the server cannot be reached, stops early, or sends something else.
    """
    if target.exists():
        return target
    partial = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_rest(url, partial, track, timeout)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        here = partial.stat().st_size / 1e6 if partial.exists() else 0
        raise MLError(
            f"Expected all of {url}. Received: {here:,.1f} MB, then {reason}. The same command goes on from there."
        ) from error
    if not tarfile.is_tarfile(partial):
        partial.unlink()
        raise MLError(f"Expected a tar archive from {url}. Received: something else.")
    return partial.rename(target)


def _fetch_rest(url: str, partial: Path, track: Track, timeout: float) -> None:
    """Append what is missing (HTTP Range, RFC 9110, section 14); from the start where the server knows no ranges."""
    here = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{here}":
            return
        if error.code == 416:  # more than the server has: of another file
            partial.unlink()
        raise
    with response, partial.open("ab" if response.status == 206 else "wb") as file:
        here = file.tell()
        length = response.headers.get("Content-Length")
        blocks = iter(lambda: response.read(BLOCK), b"")
        for block in track(blocks, "fetching the archive, in MB", math.ceil(int(length or 0) / BLOCK)):
            file.write(block)
        if length and file.tell() != here + int(length):
            raise OSError(f"the connection ended, with {(here + int(length) - file.tell()) / 1e6:,.1f} MB missing")
