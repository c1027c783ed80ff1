from collections import Counter
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError

from shelter.operations.consistency import SET_ASIDE, Consistency, Kind


class Command(BaseCommand):
    help = (
        "Compare rows and files: no photo without its file, no file without its row. Changes nothing unless told to "
        f"--repair, which deletes nothing either: files that no row knows are moved to {SET_ASIDE}/. The exit status "
        "is 0 where all is well in the end, 1 otherwise. Uploads may go on meanwhile."
    )

    def add_arguments(self, parser):
        parser.add_argument("--repair", action="store_true", help="mend what can be mended without losing anything")
        parser.add_argument("--hashes", action="store_true", help="read every original and compare its SHA-256")
        parser.add_argument(
            "--grace", type=int, default=60, metavar="MINUTES",
            help="files younger than this may still be waiting for their row (default: 60)",
        )  # fmt: skip

    def handle(self, *, repair, hashes, grace, **options):
        consistency = Consistency(grace=timedelta(minutes=grace), verify_hashes=hashes)
        found, mended = Counter(), Counter()
        for finding in consistency.findings():
            found[finding.kind] += 1
            is_mended = repair and consistency.repair(finding)
            mended[finding.kind] += is_mended
            self.stdout.write(f"{finding}{'; mended' if is_mended else ''}")
        left = found - mended
        for kind in Kind:
            if found[kind]:
                self.stdout.write(f"{kind}: {found[kind]}, mended: {mended[kind]}")
        if left:
            raise CommandError(f"Expected rows and files that agree. Received: {left.total()} that do not.")
        self.stdout.write("All is well." if not found else "All is well now.")
