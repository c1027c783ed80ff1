"""What is in a dataset? Counts, sizes, copies and damage, before anything is trained on it."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from ml.data.datasets import (
    FRACTIONS,
    SPLITS,
    PhotoFile,
    assign_split,
    class_root,
    paths_by_label,
    read_files,
    read_manifest,
)
from ml.images.duplicates import NEAR_DUPLICATE_BITS, group_near_duplicates
from ml.images.preprocessing import decode_image
from ml.progress import Track, no_track
from ml.reports import PICTURE_SIDE, Report, subplots

SAMPLED_BREEDS, SAMPLED_PHOTOS = 10, 6
SHOWN_GROUPS, SHOWN_OF_A_GROUP, SHOWN_FILES = 24, 6, 200


@dataclass(frozen=True)
class Exploration:
    """What was found below `root`; `labels` are all folders, those without a photo too."""

    root: Path
    labels: list[str]
    files: list[PhotoFile]

    @cached_property
    def photos(self) -> list[PhotoFile]:
        return [photo for photo in self.files if not photo.error]

    @cached_property
    def unreadable(self) -> list[PhotoFile]:
        return [photo for photo in self.files if photo.error]

    @cached_property
    def by_label(self) -> dict[str, list[PhotoFile]]:
        found: dict[str, list[PhotoFile]] = {label: [] for label in self.labels}
        for photo in self.photos:
            found[photo.label].append(photo)
        return found

    @cached_property
    def counts(self) -> dict[str, int]:
        """Label -> number of readable photos, the most first."""
        return dict(
            sorted(((label, len(found)) for label, found in self.by_label.items()), key=lambda x: (-x[1], x[0]))
        )

    @cached_property
    def empty(self) -> list[str]:
        return [label for label in self.labels if not self.by_label[label]]

    @cached_property
    def too_small(self) -> list[str]:
        """Breeds with photos, but with too few unlike ones for train, val and test: no training takes them."""
        return [label for label in self.labels if self.by_label[label] and not _divides(label, self.by_label[label])]

    @cached_property
    def copies(self) -> list[list[PhotoFile]]:
        """Files with the same bytes, wherever they are."""
        same = defaultdict(list)
        for photo in self.photos:
            same[photo.sha256].append(photo)
        return [group for group in same.values() if len(group) > 1]

    @cached_property
    def two_breeds(self) -> list[list[PhotoFile]]:
        """The same photo filed under several breeds: no training takes the dataset before one is removed."""
        return [group for group in self.copies if len({photo.label for photo in group}) > 1]

    @cached_property
    def near_duplicates(self) -> list[list[PhotoFile]]:
        """Different files whose difference hashes are at most `NEAR_DUPLICATE_BITS` apart; across breeds as well."""
        different = list({photo.sha256: photo for photo in self.photos}.values())
        groups = [group for group in group_near_duplicates([photo.dhash for photo in different]) if len(group) > 1]
        return sorted(
            ([different[i] for i in group] for group in groups), key=lambda group: (-len(group), group[0].path)
        )

    @cached_property
    def across_breeds(self) -> list[list[PhotoFile]]:
        """Near-duplicates of which one may be in the wrong folder."""
        return [group for group in self.near_duplicates if len({photo.label for photo in group}) > 1]

    @cached_property
    def summary(self) -> dict:
        counts = list(self.counts.values()) or [0]
        sides = np.array([(photo.width, photo.height) for photo in self.photos] or [(0, 0)])
        return {
            "files": len(self.files),
            "photos": len(self.photos),
            "unreadable": len(self.unreadable),
            "breeds": len(self.labels),
            "photos_per_breed": {"least": min(counts), "median": median(counts), "most": max(counts)},
            "empty_breeds": self.empty,
            "too_small_breeds": self.too_small,
            "bytes": sum(photo.bytes for photo in self.files),
            "formats": dict(Counter(photo.format for photo in self.photos).most_common()),
            "width": _spread(sides[:, 0]),
            "height": _spread(sides[:, 1]),
            "copies": sum(len(group) - 1 for group in self.copies),
            "photos_in_two_breeds": len(self.two_breeds),
            "near_duplicate_groups": len(self.near_duplicates),
            "near_duplicate_groups_across_breeds": len(self.across_breeds),
            "near_duplicates": sum(map(len, self.near_duplicates)),
        }


def explore(folder: Path, *, track: Track = no_track) -> Exploration:
    """Read every file below `folder` that is named like a photo; a prepared folder by its manifest.

    Raises `BadDataset` where `folder` is none, or two of its folders are one breed. Unreadable files and photos under
    two breeds are found, not raised.
    """
    root = class_root(folder)
    paths = dict(sorted(_paths(root).items()))
    return Exploration(root, list(paths), read_files(root, paths, track))


def _paths(root: Path) -> dict[str, list[Path]]:
    manifest = read_manifest(root)
    if manifest is None:
        return paths_by_label(root)
    paths = defaultdict(set)
    for row in manifest["items"]:
        paths[row["label"]].add(root / row["path"])
    return {label: sorted(files) for label, files in paths.items()}


def _divides(label: str, photos: list[PhotoFile]) -> bool:
    groups = group_near_duplicates([photo.dhash for photo in photos])
    named = [(f"{label}:{min(photos[i].sha256 for i in group)[:16]}", len(group)) for group in groups]
    return set(assign_split(named, seed=0, fractions=FRACTIONS).values()) == set(SPLITS)


def _spread(values: np.ndarray) -> dict:
    return {"least": int(values.min()), "median": float(np.median(values)), "most": int(values.max())}


def in_words(found: Exploration, name: str) -> list[str]:
    """Three lines for a terminal."""
    figures = found.summary
    each, width, height = figures["photos_per_breed"], figures["width"], figures["height"]
    sizes = f"{_range(width)} x {_range(height)} pixels, median {width['median']:g} x {height['median']:g}"
    groups, across = len(found.near_duplicates), len(found.across_breeds)
    return [
        f"{name}: {_count(figures['photos'], 'photo')} of {_count(figures['breeds'], 'breed')}, {_range(each)} each, "
        f"median {each['median']:g}; {len(found.empty)} without any, {len(found.too_small)} with too few to train on.",
        f"{_count(figures['unreadable'], 'file')} that cannot be read; {sizes}; {figures['bytes'] / 1e6:,.1f} MB.",
        f"Exact copies: {figures['copies']}; photos under two breeds: {figures['photos_in_two_breeds']}; "
        f"near-duplicates: {figures['near_duplicates']} in {_count(groups, 'group')}, {across} across breeds.",
    ]


def _range(spread: dict) -> str:
    least, most = spread["least"], spread["most"]
    return f"{least}" if least == most else f"{least} to {most}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def write_report(found: Exploration, out: Path, name: str, command: str = "") -> Path:
    """`out/index.html` and `out/report.json`; returns the page."""
    report = Report(f"What is in {name}", command)
    report.section("In short")
    for line in in_words(found, name):
        report.text(line)
    report.table(["format", "photos"], found.summary["formats"].items())
    _write_problems(report, found)
    if found.photos:
        _write_counts(report, found)
        _write_sizes(report, found)
        _write_samples(report, found)
    _write_near_duplicates(report, found)
    return report.write(out, _data(found))


def _write_problems(report: Report, found: Exploration) -> None:
    report.section("What stands in the way of training")
    if not (found.empty or found.too_small or found.two_breeds or found.unreadable):
        return report.text("Nothing: every file can be read, every breed has photos enough, none is under two breeds.")
    if found.empty:
        report.text(f"Breeds without a photo that can be read ({len(found.empty)}): {', '.join(found.empty)}.")
    if found.too_small:
        report.text(
            f"Breeds with too few unlike photos for train, val and test ({len(found.too_small)}): "
            f"{', '.join(f'{label} ({found.counts[label]})' for label in found.too_small)}."
        )
    if found.two_breeds:
        report.text(f"The same photo under several breeds ({len(found.two_breeds)}); keep the right one of each:")
        report.images((_picture(found, group[0]), _names(group)) for group in found.two_breeds[:SHOWN_GROUPS])
    if found.unreadable:
        report.text(f"Files that cannot be read ({len(found.unreadable)}), and are left out of every training:")
        report.table(["file", "bytes", "reason"], [(p.path, p.bytes, p.error) for p in found.unreadable[:SHOWN_FILES]])
    return None


def _write_counts(report: Report, found: Exploration) -> None:
    report.section("Photos per breed")
    counts = found.counts
    middle = median(counts.values())
    figure, axes = subplots(size=(10.5, max(2.0, 0.6 + 0.16 * len(counts))))
    axes.barh(range(len(counts)), counts.values(), height=0.72)
    axes.axvline(middle, color="#2b6777", linestyle="--", linewidth=1.2)
    axes.set(ylim=(len(counts) - 0.4, -0.6), xlabel="photos that can be read")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_yticks(range(len(counts)), counts, fontsize=7.5 if len(counts) > 25 else 9)
    axes.grid(False, axis="y")
    report.figure(figure, f"{_count(len(counts), 'breed')}, that with the most first; dashed: the median, {middle:g}.")


def _write_sizes(report: Report, found: Exploration) -> None:
    report.section("Sizes")
    width, height = np.array([(photo.width, photo.height) for photo in found.photos]).T
    kilobytes = np.array([photo.bytes for photo in found.photos]) / 1e3
    figure, (sides, shapes, weights) = subplots(1, 3, size=(10.5, 3.6), gridspec_kw={"width_ratios": [1.25, 1, 1]})
    sides.scatter(width, height, s=14, alpha=min(0.6, max(0.05, 60 / len(width))), linewidths=0)
    sides.set(title="width and height", xlabel="width in pixels", ylabel="height in pixels")
    if max(width.max(), height.max()) > 6 * np.median(width):
        sides.set(xscale="log", yscale="log")
    else:
        sides.set(xlim=(0, 1.06 * width.max()), ylim=(0, 1.06 * height.max()))
    shapes.hist(np.log2(width / height).clip(-2, 2), bins=np.linspace(-2, 2, 41))
    shapes.set(title="shape", xlabel="width : height", xticks=[-2, -1, 0, 1, 2])
    shapes.set_xticklabels(["≤ 1:4", "1:2", "1:1", "2:1", "≥ 4:1"])
    weights.hist(kilobytes, bins=_log_bins(kilobytes), color="#2b6777")
    weights.set(title="file size", xlabel="kB", xscale="log")
    ticks = [t for power in range(-2, 6) for t in (10**power, 2 * 10**power, 5 * 10**power)]
    ticks = [t for t in ticks if kilobytes.min() * 0.8 <= t <= kilobytes.max() * 1.2]
    weights.set_xticks(ticks[:: math.ceil(len(ticks) / 6)] if ticks else [])
    weights.set_xticks([], minor=True)
    weights.xaxis.set_major_formatter("{x:,g}")
    report.figure(figure, "Each point is a photo; the histograms count photos.")


def _log_bins(values: np.ndarray) -> np.ndarray:
    low, high = math.log10(values.min()), math.log10(values.max())
    return np.logspace(low - 0.05, high + 0.05, 40)


def _write_samples(report: Report, found: Exploration) -> None:
    report.section("Samples")
    report.text(
        "Breeds spread over the alphabet, and photos spread over each: people, objects and other dogs included."
    )
    labels = _spread_over([label for label in found.labels if found.by_label[label]], SAMPLED_BREEDS)
    report.images(
        (
            [_picture(found, photo) for photo in _spread_over(found.by_label[label], SAMPLED_PHOTOS)],
            f"{label}: {_count(found.counts[label], 'photo')}",
        )
        for label in labels
    )


def _write_near_duplicates(report: Report, found: Exploration) -> None:
    report.section("Copies and near-duplicates")
    report.text(
        f"{_count(found.summary['copies'], 'file')}: exact copies of others. Of the rest, "
        f"{found.summary['near_duplicates']} look nearly the same as another (difference hashes at most "
        f"{NEAR_DUPLICATE_BITS} of 64 bits apart, directly or in a chain). They stay on one side of the "
        "split; where they span breeds, that side is training, and one of them may be in the wrong folder."
    )
    within = [group for group in found.near_duplicates if group not in found.across_breeds]
    for title, groups in (("Across breeds", found.across_breeds), ("Within a breed", within)):
        if groups:
            shown = f" (the first {SHOWN_GROUPS} are shown)" if len(groups) > SHOWN_GROUPS else ""
            report.text(f"{title}: {_count(len(groups), 'group')}{shown}")
            report.images(
                ([_picture(found, photo) for photo in group[:SHOWN_OF_A_GROUP]], _names(group))
                for group in groups[:SHOWN_GROUPS]
            )


def _spread_over(items: list, number: int) -> list:
    return items[:: math.ceil(len(items) / number)] if items else []


def _picture(found: Exploration, photo: PhotoFile) -> Image.Image:
    return decode_image((found.root / photo.path).read_bytes(), 2 * PICTURE_SIDE)


def _names(group: list[PhotoFile]) -> str:
    """`pug: a.jpg, b.jpg`, breed after breed."""
    files = defaultdict(list)
    for photo in group:
        files[photo.label].append(photo.path.rpartition("/")[2])
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in files.items())


def _data(found: Exploration) -> dict:
    def paths(groups):
        return [[photo.path for photo in group] for group in groups]

    return {
        **found.summary,
        "counts": found.counts,
        "unreadable_files": [{"path": p.path, "bytes": p.bytes, "reason": p.error} for p in found.unreadable],
        "copy_groups": paths(found.copies),
        "two_breeds": paths(found.two_breeds),
        "near_duplicate_paths": paths(found.near_duplicates),
    }
