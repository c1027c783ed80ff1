from pathlib import Path

from breeds.management.maintenance import MaintenanceCommand
from breeds.training_set import export_reviews


class Command(MaintenanceCommand):
    help = (
        "Write every photo that a person named one breed for into a folder per breed, with a manifest of hashes and of "
        "the groups (photos of one animal and near-duplicates) that training must not divide. Train on it with "
        "--reviews OUT; the same command again brings the folder up to date, and goes on where it was stopped."
    )

    def add_arguments(self, parser):
        parser.add_argument("out", type=Path, help="new folder, or one of an earlier export")

    def work(self, *, out, **options):
        count, left_out = export_reviews(out, track=self.track)
        for path, reason in left_out:
            self.say(f"left out: {path}: {reason}")
        self.say(f"{count:,} reviewed photos in {out}")
