"""How often the answers that people looked at were right, counted from the reviews that stand.

Blind reviews, in which the answer was hidden, come from a draw among the sure answers: they alone measure without bias.
The others were chosen because they looked difficult, and whoever confirms has read the answer; they stand apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from django.db.models import Count, F, Max, Sum, Window
from django.db.models.functions import RowNumber, TruncMonth

from breeds.models import ClassifierVersion, Decision, Prediction, Review

LEAST = 20  # reviews; with fewer a share says nothing and is not shown
PAIRS, PICTURES = 12, 4

CELL = [
    "blind", "verdict", "breed__slug", "breed__group", "second_breed__slug", "second_breed__group", "group",
    "prediction__decision", "prediction__label", "prediction__group", "prediction__version", "month",
]  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """`right` of `n` judged answers; `said`: the mean probability that was stated, where there was one."""

    right: int = 0
    n: int = 0
    stated: float = 0.0

    @property
    def is_shown(self) -> bool:
        return self.n >= LEAST

    @property
    def share(self) -> float:
        return self.right / self.n if self.n else 0.0

    @property
    def said(self) -> float:
        return self.stated / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % (Wilson)."""
        from ml.evaluation.metrics import wilson_interval

        return wilson_interval(self.right, self.n)

    def __add__(self, other: "Figure") -> "Figure":
        return Figure(self.right + other.right, self.n + other.n, self.stated + other.stated)


@dataclass(frozen=True)
class Row:
    """One line of a table: the same question to the blind reviews, and to the others."""

    key: object
    blind: Figure
    open: Figure

    @property
    def n(self) -> int:
        return self.blind.n + self.open.n


@dataclass(frozen=True)
class Cell:
    """Reviews that say the same of answers that said the same."""

    blind: bool
    verdict: str
    truths: frozenset[str]
    groups: frozenset[str]
    level: str
    label: str
    group: str
    version: int
    month: date
    n: int
    stated: float

    @property
    def is_judged(self) -> bool:
        """An answer that claimed something, of which a person could tell whether it is so."""
        claims = self.level in (Decision.BREED, Decision.GROUP, Decision.NOT_A_DOG)
        return claims and self.verdict != Review.Verdict.CANNOT_TELL

    @property
    def is_right(self) -> bool:
        """Of a cross, either breed is right."""
        if self.level == Decision.BREED:
            return self.label in self.truths
        if self.level == Decision.GROUP:
            return self.group in self.groups
        return self.level == Decision.NOT_A_DOG and self.verdict == Review.Verdict.NOT_A_DOG

    def figure(self, right: bool) -> Figure:
        return Figure(self.n if right else 0, self.n, self.stated)


class Quality:
    """Every table of the quality page, of all versions or of one, from one grouped query."""

    def __init__(self, version: int | None = None):
        self.reviews = Review.objects.counting().filter(prediction__status=Prediction.Status.DONE)
        if version:
            self.reviews = self.reviews.filter(prediction__version=version)
        self.cells = [cell for cell in self._read() if cell.is_judged]

    def _read(self) -> Iterable[Cell]:
        counted = self.reviews.order_by().annotate(month=TruncMonth("created_at")).values(*CELL)
        for row in counted.annotate(photos=Count("pk"), stated=Sum("prediction__probability")):
            yield Cell(
                blind=row["blind"],
                verdict=row["verdict"],
                truths=frozenset({row["breed__slug"], row["second_breed__slug"]} - {None}),
                groups=frozenset({row["breed__group"], row["second_breed__group"], row["group"]} - {None, ""}),
                level=row["prediction__decision"],
                label=row["prediction__label"],
                group=row["prediction__group"],
                version=row["prediction__version"],
                month=row["month"].date(),
                n=row["photos"],
                stated=row["stated"] or 0.0,
            )

    def _table(self, key: Callable[[Cell], object], right: Callable[[Cell], bool], cells=None) -> list[Row]:
        """The most reviewed first."""
        sums: dict[object, list[Figure]] = defaultdict(lambda: [Figure(), Figure()])
        for cell in self.cells if cells is None else cells:
            pair = sums[key(cell)]
            pair[cell.blind] += cell.figure(right(cell))
        rows = [Row(name, blind, shown) for name, (shown, blind) in sums.items()]
        return sorted(rows, key=lambda row: (-row.n, str(row.key)))

    @property
    def by_level(self) -> list[Row]:
        return self._table(lambda cell: cell.level, lambda cell: cell.is_right)

    @property
    def by_version(self) -> list[Row]:
        return self._table(lambda cell: cell.version, lambda cell: cell.is_right)

    @property
    def by_breed(self) -> list[Row]:
        """When this breed is named, how often is it that one?"""
        return self._table(lambda cell: cell.label, lambda cell: cell.is_right, self._named)

    @property
    def by_group(self) -> list[Row]:
        """When a breed of this group is named, or the group alone, how often is the dog of the group?"""
        cells = [cell for cell in self.cells if cell.group]
        return self._table(lambda cell: cell.group, lambda cell: cell.group in cell.groups, cells)

    @property
    def by_month(self) -> list[Row]:
        """Sure answers, the newest month first, beside the probability that was stated."""
        rows = self._table(lambda cell: cell.month, lambda cell: cell.is_right, self._named)
        return sorted(rows, key=lambda row: row.key, reverse=True)

    @property
    def _named(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.level == Decision.BREED]

    def confusions(self) -> list[dict]:
        """[{called, truth, n, photos}], the most frequent first; `photos`: keys of the newest few."""
        pairs = Counter()
        for cell in self._named:
            if len(cell.truths) == 1 and not cell.is_right:
                pairs[cell.label, next(iter(cell.truths))] += cell.n
        found = pairs.most_common(PAIRS)
        photos = self._pictures([pair for pair, _n in found])
        return [{"called": pair[0], "truth": pair[1], "n": n, "photos": photos[pair]} for pair, n in found]

    def _pictures(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
        called, truths = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
        place = Window(RowNumber(), partition_by=["prediction__label", "breed"], order_by=F("pk").desc())
        rows = (
            self.reviews.filter(
                prediction__decision=Decision.BREED, prediction__label__in=called, breed__slug__in=truths,
                second_breed=None,
            )
            .annotate(place=place)
            .filter(place__lte=PICTURES)
            .order_by("-pk")
            .values_list("prediction__label", "breed__slug", "photo")
        )  # fmt: skip
        photos = defaultdict(list)
        for label, truth, photo in rows:
            photos[label, truth].append(photo)
        return photos


def track_record(level: str) -> Row | None:
    """How often answers of this level were right, of all versions; None below 20 reviews, blind or not.

    Counted anew after some more reviews, not for every page.
    """
    newest = Review.objects.aggregate(Max("pk"))["pk__max"] or 0
    row = _levels(newest if newest < 1000 else newest // 50).get(level)
    return row if row and (row.blind.is_shown or row.open.is_shown) else None


@lru_cache(maxsize=1)
def _levels(state: int) -> dict[str, Row]:
    return {row.key: row for row in Quality().by_level}


def unknown_labels(version: ClassifierVersion | None) -> list[dict]:
    """[{slug, photos, dogs}]: breeds that people name and this version lacks, the most frequent first."""
    named = Review.objects.counting().naming_a_breed().exclude(breed__slug__in=version.labels if version else [])
    counted = named.order_by().values(slug=F("breed__slug")).annotate(
        photos=Count("pk"), dogs=Count("photo__animal", distinct=True)
    )  # fmt: skip
    return sorted(counted, key=lambda row: (-row["photos"], row["slug"]))
