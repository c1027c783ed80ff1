from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from shelter.operations.backup import BadBackup, back_up


class Command(BaseCommand):
    help = (
        "Write rows, files and the active classifier to a new folder, while Flair goes on serving. Keep it where "
        "nobody else reads it: it holds hashed passwords and photos of people's homes."
    )

    def add_arguments(self, parser):
        parser.add_argument("folder", type=Path, help="a folder that is not there yet")
        files = parser.add_mutually_exclusive_group()
        files.add_argument(
            "--files", action="store_true", default=None, help="copy the photos too (default for a folder of photos)"
        )
        files.add_argument(
            "--no-files", action="store_false", dest="files", default=None,
            help="list the photos and their hashes alone (default for a bucket, whose store keeps copies itself)",
        )  # fmt: skip

    def handle(self, *, folder, files, **options):
        try:
            summary = back_up(folder.absolute(), with_files=files)
        except BadBackup as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Expected to write the backup. Received: {error}. Nothing was kept.") from error
        self.stdout.write(
            f"{folder}: {summary.rows} rows, {summary.files} files, {summary.bytes / 1e6:.1f} MB, "
            f"classifier {summary.model or 'left out: it is missing or damaged'}"
        )
        for name in summary.missing:
            self.stderr.write(f"Missing: {name}")
        if summary.missing:
            raise CommandError(f"Expected all files. Received: a backup without {len(summary.missing)} of them.")
