from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from breeds import classifier as classifiers


class Command(BaseCommand):
    help = "Verify a checkpoint folder and let it answer from now on. Workers switch with their next batch."

    def add_arguments(self, parser):
        parser.add_argument("checkpoint", type=Path, help="checkpoint folder")

    def handle(self, *, checkpoint, **options):
        try:
            version = classifiers.register_checkpoint(checkpoint)
        except classifiers.BadCheckpoint as error:
            raise CommandError(str(error)) from error
        version.activate()
        self.stdout.write(f"Active: {version}")
