"""A new version beside the active one: its answers to the photos that are there, and what would change."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path

from django.db.models import Exists, Max, OuterRef, QuerySet, Subquery
from django.utils import timezone

from breeds.classifier import UnreadableImage, classifier_of
from breeds.models import ClassifierVersion, Decision, Prediction, Review, ShadowAnswer, photo_model

BLOCK = 50  # photos that a killed run answers again at most
SHOWN = 24  # photos on the page


def all_photos(filters: Iterable[str] = ()) -> QuerySet:
    """All photos by key, or those that pass every filter, such as `breed=pug`. Raises `ValueError` for other texts."""
    model = photo_model()
    photos = model.objects.order_by("pk")
    for text in filters:
        name, equals, value = text.partition("=")
        if name not in model.FILTERS or not equals:
            names = ", ".join(f"{name}=…" for name in model.FILTERS)
            raise ValueError(f"Expected filters among {names}. Received: {text}.")
        photos = photos.filter(**{model.FILTERS[name]: value})
    return photos


def answer_in_shadow(version: ClassifierVersion, photos: QuerySet, track: Callable, num_threads: int = 1) -> int:
    """Let `version` answer those of `photos` that it has not yet; nobody sees it but the comparison. Returns how many.

    Answers are kept block by block, so that a stopped run goes on where it was.
    """
    classifier = classifier_of(version, num_threads)
    wanted = list(_unanswered(version, photos).values_list("pk", flat=True))
    blocks = (photos.in_bulk(wanted[start : start + BLOCK]).values() for start in range(0, len(wanted), BLOCK))
    each = iter(track((photo for block in blocks for photo in block), "answering in shadow", len(wanted)))
    while answers := [_answer(classifier, version, photo) for photo in islice(each, BLOCK)]:
        ShadowAnswer.objects.bulk_create(answers, ignore_conflicts=True)
    return len(wanted)


def answer_slice(version: ClassifierVersion, until: datetime) -> tuple[int, bool]:
    """(photos answered until the time was up, whether none is left). Raises `BadCheckpoint`."""
    classifier = classifier_of(version)
    answers = []
    for photo in _unanswered(version, all_photos())[:BLOCK]:
        answers.append(_answer(classifier, version, photo))
        if timezone.now() >= until:
            break
    ShadowAnswer.objects.bulk_create(answers, ignore_conflicts=True)
    return len(answers), not answers


def _unanswered(version: ClassifierVersion, photos: QuerySet) -> QuerySet:
    known = ShadowAnswer.objects.filter(version=version, photo=OuterRef("pk"))
    return photos.exclude(Exists(known))


def _answer(classifier, version: ClassifierVersion, photo) -> ShadowAnswer:
    try:
        found = classifier.classify(photo.read_original())
    except UnreadableImage as error:
        return ShadowAnswer(photo=photo, version=version, error_code=error.reason)
    except FileNotFoundError:
        return ShadowAnswer(photo=photo, version=version, error_code="missing")
    return ShadowAnswer(
        photo=photo,
        version=version,
        decision=found.decision,
        label=found.label,
        group=found.group,
        probability=found.probability,
        candidates=[{"label": c.label, "probability": c.probability} for c in found.candidates],
    )


@dataclass(frozen=True)
class Change:
    """One photo: what is said of it now, what would be said, and the breed that a person named, if one did."""

    photo: int
    before: tuple[str, str]  # decision, and the label or group that it names
    after: tuple[str, str]
    truth: str = ""

    @property
    def was_right(self) -> bool:
        return self.before == (Decision.BREED, self.truth)

    @property
    def would_be_right(self) -> bool:
        return self.after == (Decision.BREED, self.truth)

    @property
    def is_gained(self) -> bool:
        return bool(self.truth) and self.would_be_right and not self.was_right

    @property
    def is_lost(self) -> bool:
        return bool(self.truth) and self.was_right and not self.would_be_right


def compare(version: ClassifierVersion, photos: QuerySet) -> list[Change]:
    """Every photo of `photos` that both `version` and an earlier one have answered."""
    newest = Prediction.objects.answers().filter(photo=OuterRef("photo")).order_by("-pk")
    review = Review.objects.standing().filter(photo=OuterRef("photo"))
    rows = (
        ShadowAnswer.objects.filter(version=version, photo__in=photos, error_code="")
        .annotate(
            decision_now=Subquery(newest.values("decision")[:1]),
            label_now=Subquery(newest.values("label")[:1]),
            group_now=Subquery(newest.values("group")[:1]),
            truth=Subquery(review.values("breed__slug")[:1]),
            verdict=Subquery(review.values("verdict")[:1]),
        )
        .exclude(decision_now=None)
        .order_by("photo")
        .values_list(
            "photo", "decision_now", "label_now", "group_now", "decision", "label", "group", "truth", "verdict"
        )
    )
    one_breed = (Review.Verdict.CONFIRM, Review.Verdict.CORRECT)
    return [
        Change(
            photo, (now, label_now or group_now), (then, label or group), (truth or "") if verdict in one_breed else ""
        )
        for photo, now, label_now, group_now, then, label, group, truth, verdict in rows.iterator(chunk_size=2000)
    ]


@dataclass(frozen=True)
class Summary:
    """What a page shows of all changes: numbers, the most frequent ones, and a few photos of each kind."""

    answered: int
    changed: int
    reviewed: int
    right_now: int
    right_then: int
    gained: int
    lost: int
    moves: list[tuple[str, str, int]]  # decision now, decision then, photos
    names: list[tuple[str, str, int]]  # label, group or decision now and then, photos
    breeds: list[dict]
    photos: dict[str, list[Change]]  # of those lost, gained, and changed though nobody has looked at them


def summary(version: ClassifierVersion) -> Summary:
    """Of all photos; remembered until there is another answer or review."""
    answers = ShadowAnswer.objects.filter(version=version)
    newest = (rows.aggregate(Max("pk"))["pk__max"] for rows in (answers, Prediction.objects.answers(), Review.objects))
    return _summary(version, answers.count(), *newest)


@lru_cache(maxsize=4)
def _summary(version: ClassifierVersion, *state) -> Summary:
    changes = compare(version, all_photos())
    changed = [change for change in changes if change.before != change.after]
    reviewed = [change for change in changes if change.truth]
    lost, gained = [c for c in reviewed if c.is_lost], [c for c in reviewed if c.is_gained]
    moves = Counter((change.before[0], change.after[0]) for change in changed)
    names = Counter((c.before[1] or c.before[0], c.after[1] or c.after[0]) for c in changed)
    return Summary(
        answered=len(changes),
        changed=len(changed),
        reviewed=len(reviewed),
        right_now=sum(change.was_right for change in reviewed),
        right_then=sum(change.would_be_right for change in reviewed),
        gained=len(gained),
        lost=len(lost),
        moves=[(*move, n) for move, n in moves.most_common()],
        names=[(*pair, n) for pair, n in names.most_common(40)],
        breeds=by_breed(changes),
        photos={"lost": lost[:SHOWN], "gained": gained[:SHOWN], "other": [c for c in changed if not c.truth][:SHOWN]},
    )


def in_words(changes: list[Change]) -> list[str]:
    changed = sum(change.before != change.after for change in changes)
    reviewed = [change for change in changes if change.truth]
    lines = [f"{changed:,} of {len(changes):,} answers would change"]
    if reviewed:
        was, will = sum(c.was_right for c in reviewed), sum(c.would_be_right for c in reviewed)
        gained, lost = sum(c.is_gained for c in reviewed), sum(c.is_lost for c in reviewed)
        lines.append(
            f"of {len(reviewed):,} photos that people named a breed for, the right breed is named for {was:,} now and "
            f"{will:,} then: {gained:,} gained, {lost:,} lost"
        )
    return lines


def write_comparison(version: ClassifierVersion, changes: list[Change], out: Path, command: str) -> Path:
    """`index.html` and `report.json` in `out`; returns the page."""
    from ml.reports import Report

    report = Report(f"{version} beside what is said now", command)
    report.section("What would change")
    for line in in_words(changes):
        report.text(line + ".")
    moves = Counter((change.before[0], change.after[0]) for change in changes)
    report.table(["now", "then", "photos"], [(*move, count) for move, count in moves.most_common()])
    named = Counter((c.before[1], c.after[1]) for c in changes if c.before != c.after)
    report.section("Names that would change most often")
    report.table(["now", "then", "photos"], [(*pair, count) for pair, count in named.most_common(40)])
    report.section("Where a person has named the breed")
    report.text(
        "Photos on which this version was trained flatter it. What it says of held-out photos of the shelter is under "
        "“reviewed” in its metrics-test.json."
    )
    truths = by_breed(changes)
    report.table(list(truths[0]) if truths else ["breed"], [row.values() for row in truths])
    for title, photos in (
        ("Lost", [change for change in changes if change.is_lost]),
        ("Gained", [change for change in changes if change.is_gained]),
    ):
        report.section(f"{title}: {len(photos):,}")
        report.images(_pictures(photos[:SHOWN]))
    data = {"in_words": in_words(changes), "by_breed": truths, "changes": changes}
    return report.write(out, data)


def by_breed(changes: list[Change]) -> list[dict]:
    """A row for each breed that people named, the one that loses most first."""
    rows = {}
    for change in changes:
        if change.truth:
            row = rows.setdefault(
                change.truth,
                {"breed": change.truth, "photos": 0, "right now": 0, "right then": 0, "gained": 0, "lost": 0},
            )
            row["photos"] += 1
            row["right now"] += change.was_right
            row["right then"] += change.would_be_right
            row["gained"] += change.is_gained
            row["lost"] += change.is_lost
    return sorted(rows.values(), key=lambda row: (row["gained"] - row["lost"], -row["photos"], row["breed"]))


def _pictures(changes: list[Change]) -> list:
    from ml.images.preprocessing import decode_image

    photos = all_photos().in_bulk([change.photo for change in changes])
    pictures = []
    for change in changes:
        try:
            picture = decode_image(photos[change.photo].read_original(), 300)
        except (KeyError, FileNotFoundError, UnreadableImage):  # deleted meanwhile: its line in the table stays
            continue
        now, then = change.before[1] or change.before[0], change.after[1] or change.after[0]
        pictures.append((picture, f"{change.truth}: {now} → {then}"))
    return pictures
