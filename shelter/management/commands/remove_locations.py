from collections import Counter

from django.core.management.base import BaseCommand, CommandError

from shelter.operations.locations import Found, check_originals, unchecked


class Command(BaseCommand):
    help = (
        "Remove from stored originals where they were taken, for photos that came in before Flair did so at once. "
        "Stopped at any moment, the same command goes on where it was. Pixels stay as they are."
    )

    def add_arguments(self, parser):
        parser.add_argument("--dry-run", action="store_true", help="only say which originals tell a position")

    def handle(self, *, dry_run, verbosity, **options):
        total, counts = unchecked().count(), Counter()
        for photo, found in check_originals(dry_run=dry_run):
            counts[found] += 1
            if found in (Found.MISSING, Found.UNREADABLE) or (dry_run and found == Found.CLEANED) or verbosity > 1:
                self.stdout.write(f"photo {photo.pk}, {photo.original_name}: {found}")
            if counts.total() % 1000 == 0:
                self.stderr.write(f"{counts.total()} of {total}")
        wording = "would lose their position" if dry_run else "lost their position"
        self.stdout.write(
            f"{counts.total()} originals looked at: {counts[Found.CLEANED]} {wording}, {counts[Found.CLEAN]} told none."
        )
        if left := counts[Found.MISSING] + counts[Found.UNREADABLE]:
            raise CommandError(f"Expected every original to be readable. Received: {left} that nobody can vouch for.")
