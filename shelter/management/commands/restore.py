from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from shelter.operations.backup import BadBackup, check_backup, read_manifest, restore


class Command(BaseCommand):
    help = (
        "Bring a backup back into an empty database and an empty storage. Every byte is compared with its hash first; "
        "either all of it is restored, or nothing."
    )

    def add_arguments(self, parser):
        parser.add_argument("folder", type=Path, help="a folder that `backup` wrote")
        parser.add_argument("--check", action="store_true", help="only look whether it is whole")

    def handle(self, *, folder, check, **options):
        try:
            if check:
                manifest = read_manifest(folder)
                check_backup(folder, manifest)
                self.stdout.write(f"{folder} of {manifest['created']} is whole.")
                return
            summary = restore(folder)
        except BadBackup as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Restored {summary.rows} rows and {summary.files} files ({summary.bytes / 1e6:.1f} MB), "
            f"classifier {summary.model or 'none'}."
        )
        for name in summary.missing:
            self.stderr.write(f"Missing since before the backup: {name}")
