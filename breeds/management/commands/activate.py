from django.core.management.base import BaseCommand, CommandError

from breeds import classifier as classifiers
from breeds.models import ClassifierVersion


class Command(BaseCommand):
    help = (
        "Verify a checkpoint and let it answer from now on; workers switch with their next batch. Answers that are "
        "there stay until `repredict` queues the photos again."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "checkpoint",
            nargs="?",
            help="checkpoint folder, folder of a run, or a registered version (its first digits)",
        )
        parser.add_argument("--back", action="store_true", help="roll back to the version that answered before")

    def handle(self, *, checkpoint, back, **options):
        if bool(checkpoint) == back:
            raise CommandError("Expected a checkpoint, or --back. Received: both or neither.")
        if back:
            before = ClassifierVersion.objects.answered_before()
            if before is None:
                raise CommandError("Expected a version that answered before. Received: none.")
            checkpoint = before.folder
        try:
            version = classifiers.verified_version(str(checkpoint))
        except classifiers.BadCheckpoint as error:
            raise CommandError(str(error)) from error
        if back and version != before:
            raise CommandError(f"Expected {before} in {before.folder}. Received: {version}.")
        version.activate()
        self.stdout.write(f"Active: {version}")
