from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from breeds.training_set import export_reviews


class Command(BaseCommand):
    help = (
        "Write every photo that a person named one breed for into a folder per breed, with a manifest of hashes and of "
        "the groups (photos of one animal and near-duplicates) that training must not divide. Train on it with "
        "--reviews OUT; the same command again brings the folder up to date, and goes on where it was stopped."
    )

    def add_arguments(self, parser):
        parser.add_argument("out", type=Path, help="new folder, or one of an earlier export")

    def handle(self, *, out, **options):
        from ml import MLError

        try:
            count, left_out = export_reviews(out, track=self._track)
        except KeyboardInterrupt:
            raise CommandError("Stopped. The same command goes on from here.", returncode=130) from None
        except MLError as error:
            raise CommandError(str(error)) from error
        for path, reason in left_out:
            self.stdout.write(f"left out: {path}: {reason}")
        self.stdout.write(f"{count:,} reviewed photos in {out}")

    def _track(self, items, description, total):
        from ml.reports import track

        return track(items, description, total, lambda line: (self.stdout.write(line), self.stdout.flush()))
