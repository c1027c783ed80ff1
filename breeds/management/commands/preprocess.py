from pathlib import Path

from breeds.management.maintenance import MaintenanceCommand, steps_of
from breeds.training_set import add_review_arguments, chosen_labels, reviews_of
from ml import MLError


class Command(MaintenanceCommand):
    help = (
        "Write every photo of a dataset resized and filtered into fixed train / val / test folders, with a page that "
        "shows each step before and after. A stopped run goes on with the same command."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "dataset", type=Path, nargs="?", help="folder, or tar archive, with one folder of photos per breed"
        )
        parser.add_argument("out", type=Path, help="folder to write; train on it with --dataset")
        add_review_arguments(parser)
        parser.add_argument("--size", type=int, default=224, help="side of the square in pixels (default 224)")
        parser.add_argument("--steps", default="greyscale,autocontrast,equalise,gaussian",
                            help="in this order (default: %(default)s), or none")  # fmt: skip
        parser.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
        parser.add_argument("--breeds", help="3, 20, 50, 120 (always the same), or names with commas (default: all)")
        parser.add_argument("--download", action="store_true",
                            help="fetch the Stanford Dogs archive (757 MB) to DATASET, if not there yet")  # fmt: skip

    def work(self, *, dataset, out, size, steps, seed, breeds, download, **options):
        from ml.data.preparation import STANFORD_DOGS_URL, Recipe, fetch_archive, prepare_dataset

        if dataset is None and not (options["from_reviews"] or options["reviews"]):
            raise MLError("Expected a dataset, --from-reviews, or both. Received: neither.")
        if dataset is None and download:
            raise MLError("Expected with --download the file of the archive, before OUT. Received: none.")
        recipe = Recipe(size, steps_of(steps), seed)
        if download:
            fetch_archive(STANFORD_DOGS_URL, dataset, track=self.track)
        folder = self.unpack(dataset)
        reviews = reviews_of(options, out.with_name(f"{out.name}-reviews"), self.say, self.track)
        labels = chosen_labels(folder, reviews, breeds)
        prepared = prepare_dataset(
            folder, out, recipe, reviews=reviews, labels=labels, command=self.command_line(), track=self.track
        )
        for path, reason in prepared.unreadable:
            self.say(f"left out: {path}: {reason}")
        counts = ", ".join(f"{len(prepared.part(split)):,} {split}" for split in ("train", "val", "test"))
        self.say(f"{len(prepared.labels)} breeds, {counts}. Page: {out / 'report' / 'index.html'}")
