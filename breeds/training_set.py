"""The reviewed photos of the database as a dataset for `ml`: what each command that trains or prepares offers."""

from collections.abc import Callable
from pathlib import Path

from breeds.models import Review
from ml import MLError
from ml.data.datasets import MANIFEST, breeds_of, choose_breeds
from ml.data.reviewed import ReviewedPhoto, write_reviewed
from ml.progress import Track


def export_reviews(out: Path, *, track: Track) -> tuple[int, list[tuple[str, str]]]:
    """Write every photo that a person named one breed for below `out`.

    Returns their number, and the path and the reason of each that cannot be read. Raises `MLError`.
    """
    reviews = Review.objects.counting().naming_a_breed().select_related("breed", "photo")
    photos = [_reviewed_photo(review) for review in reviews.iterator(chunk_size=2000)]
    left_out = write_reviewed(out, photos, track=track)
    return len(photos) - len(left_out), left_out


def _reviewed_photo(review: Review) -> ReviewedPhoto:
    photo = review.photo
    return ReviewedPhoto(
        name=photo.export_name,
        label=review.breed.slug,
        animal=photo.dog_key,
        sha256=photo.sha256,
        read=photo.read_original,
        facts={
            "photo": photo.sha256,
            "verdict": review.verdict,
            "reason": review.reason,
            "blind": review.blind,
            "reviewed_at": review.created_at.isoformat(),
        },
    )


def add_review_arguments(parser) -> None:
    own = parser.add_argument_group("the shelter's own photos, alone or joined with a dataset")
    own.add_argument(
        "--from-reviews", action="store_true",
        help="the photos of the database that people named a breed for; kept as they are now beside the result, so "
        "that a stopped run goes on with the same",
    )  # fmt: skip
    own.add_argument("--reviews", type=Path, help="the same from a folder that export_training_set wrote")


def reviews_of(options: dict, folder: Path, say: Callable[[str], None], track: Track) -> Path | None:
    """The export that was asked for: that of the database is written to `folder`, unless it is there already."""
    if not options["from_reviews"]:
        return options["reviews"]
    if options["reviews"]:
        raise MLError("Expected --from-reviews or --reviews. Received: both.")
    if not (folder / MANIFEST).is_file():
        count, left_out = export_reviews(folder, track=track)
        say(f"{count:,} reviewed photos kept in {folder}")
        for path, reason in left_out:
            say(f"left out: {path}: {reason}")
    return folder


def chosen_labels(dataset: Path | None, reviews: Path | None, wish: str | None) -> list[str] | None:
    """`--breeds`: of the dataset, or names that are only among the reviews; `None` for all."""
    if not wish:
        return None
    return choose_breeds(dataset or reviews, wish, more=breeds_of(reviews) if reviews else ())
