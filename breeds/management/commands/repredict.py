import os
from pathlib import Path

from django.core.management.base import CommandError

from breeds import classifier as classifiers
from breeds import shadow
from breeds.hints import hint
from breeds.management.maintenance import MaintenanceCommand
from breeds.models import ClassifierVersion, Prediction, photo_model


class Command(MaintenanceCommand):
    help = (
        "Let a version answer photos that are there. With --shadow nobody sees its answers, and a page says what would "
        "change; a stopped run goes on with the same command. Without, every photo that the active version has not "
        "answered is queued for the workers; until then it keeps its answer. What people said is never changed."
    )

    def add_arguments(self, parser):
        parser.add_argument("--model", help="checkpoint folder, folder of a run, or a registered version")
        parser.add_argument("--shadow", action="store_true", help="compare only")
        parser.add_argument(
            "--filter", action="append", default=[], metavar="NAME=VALUE",
            help=f"only photos of this {', '.join(photo_model().FILTERS)}; repeat to narrow down",
        )  # fmt: skip
        parser.add_argument("--out", type=Path, help="folder of the page (default: in the data folder)")

    def work(self, *, model, filter, **options):
        if options["shadow"] and not model:
            raise CommandError("Expected --model with --shadow. Received: none.")
        try:
            version = classifiers.verified_version(model) if model else ClassifierVersion.objects.active()
            if options["shadow"]:
                self._shadow(version, filter)
            else:
                self._queue(version, filter)
        except ValueError as error:
            raise CommandError(str(error)) from error

    def _shadow(self, version: ClassifierVersion, filters: list[str]) -> None:
        photos = shadow.all_photos(filters)
        shadow.answer_in_shadow(version, photos, self.track, os.cpu_count() or 1)
        changes = shadow.compare(version, photos)
        for line in shadow.in_words(changes):
            self.say(line)
        out = self.report_folder(f"shadow-{version.name}-{version.version}")
        page = shadow.write_comparison(version, changes, out, self.command_line(model=version.version))
        self.say(f"Page: {page}. To let it answer: manage.py activate {version.version}")

    def _queue(self, version: ClassifierVersion | None, filters: list[str]) -> None:
        if version is None or not version.is_active:
            raise CommandError(f"Expected the active version; activate it first, or use --shadow. Received: {version}.")
        count = Prediction.objects.request_missing(shadow.all_photos(filters), version)
        if count:
            hint()
        self.say(f"{count:,} photos queued for {version}")
