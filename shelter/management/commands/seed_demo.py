from django.core.management.base import BaseCommand, CommandError

from shelter.models import Photo
from shelter.operations.demo import seed


class Command(BaseCommand):
    help = "Add made photos of drawn dogs, with answers and records, to try Flair out at size. Not for real data."

    def add_arguments(self, parser):
        parser.add_argument("--photos", type=int, default=1000, metavar="N", help="how many (default: 1000)")
        parser.add_argument("--force", action="store_true", help="even where there are real photos")

    def handle(self, *, photos, force, **options):
        if photos < 1:
            raise CommandError(f"Expected a number of photos above 0. Received: {photos}.")
        real = Photo.objects.exclude(uploaded_by__username__startswith="demo-").count()
        if real and not force:
            raise CommandError(f"Expected a data folder without real photos (or --force). Received: {real} of them.")
        seed(photos, lambda done: self.stderr.write(f"\r{done} of {photos}", ending=""))
        self.stderr.write("")
        self.stdout.write(f"{Photo.objects.count()} photos are in the index.")
