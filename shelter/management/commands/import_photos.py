import time
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from shelter.intake.importing import work_slice
from shelter.intake.refusals import REASONS, refusal
from shelter.models import Import


class Command(BaseCommand):
    help = (
        "Take in the photos of a disk: folders with everything below them, zip archives, single files. Stopped at any "
        "moment, the same command goes on where it was, and so do the workers of this machine."
    )

    def add_arguments(self, parser):
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--user", help="whose photos they will be (default: nobody's)")

    def handle(self, *, paths, user, **options):
        owner = get_user_model().objects.filter(username=user).first() if user else None
        if user and owner is None:
            raise CommandError(f"Expected the name of a user. Received: {user}.")
        paths = [path.absolute() for path in paths]
        if missing := [str(path) for path in paths if not path.exists()]:
            raise CommandError(f"Expected files and folders that are there. Received: {', '.join(missing)}.")
        for kind, sources in divided(paths):
            batch = Import.objects.from_disk(kind, sources, owner)
            self._run(batch)

    def _run(self, batch: Import) -> None:
        """Work while the lease can be had, watch while a worker has it."""
        self.stdout.write(f"{batch}: import {batch.pk}, shown at {batch.get_absolute_url()}")
        while not (batch := Import.objects.get(pk=batch.pk)).is_over:
            if mine := Import.objects.claim(batch.pk):
                try:
                    work_slice(mine)
                except BaseException:  # Ctrl-C: hand back what a worker would otherwise wait for
                    mine.give_back()
                    raise
                if Import.objects.filter(pk=mine.pk, error_code="passing").exists():
                    raise CommandError(f"{batch}: stopped by a problem of this machine; the same command goes on.")
            else:
                time.sleep(1)
            self._say(Import.objects.get(pk=batch.pk))
        if batch.status == Import.Status.FAILED:
            raise CommandError(refusal(batch.error_code, batch.name))
        for code, count in batch.refusals:
            self.stdout.write(f"  refused, {REASONS.get(code, code)}: {count}")

    def _say(self, batch: Import) -> None:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in batch.counts.items() if count)
        left = f"; {batch.minutes_left} min left" if batch.minutes_left else ""
        self.stdout.write(f"  {counts or 'no photos'} ({batch.speed:.1f}/s{left})")


def divided(paths: list[Path]) -> list[tuple[str, list[Path]]]:
    """One import for each folder and each zip, one for all single files together."""
    folders = [path for path in paths if path.is_dir()]
    archives = [path for path in paths if path.is_file() and path.suffix.lower() == ".zip"]
    files = [path for path in paths if path not in folders and path not in archives]
    return [
        *((Import.Kind.DISK, [folder]) for folder in folders),
        *((Import.Kind.ARCHIVE, [archive]) for archive in archives),
        *([(Import.Kind.DISK, files)] if files else []),
    ]
