from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = (
        "Say what is in a dataset: photos per breed, sizes, samples, copies, near-duplicates and files that cannot be "
        "read, on a page and as JSON."
    )

    def add_arguments(self, parser):
        parser.add_argument("dataset", type=Path, help="folder, or tar archive, with one folder of photos per breed")
        parser.add_argument(
            "--out", type=Path, help="folder of the page (default: reports/explore-… in the data folder)"
        )

    def handle(self, *, dataset, out, **options):
        from ml import MLError

        try:
            self._explore(dataset, out)
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        except MLError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(str(error)) from error

    def _explore(self, dataset: Path, out: Path | None) -> None:
        from ml.datasets import unpack_dataset
        from ml.exploration import explore, in_words, write_report

        name = dataset.resolve().name.split(".")[0]
        found = explore(unpack_dataset(dataset, settings.DATA_DIR / "datasets"), track=self._track)
        for line in in_words(found, name):
            self.stdout.write(line)
        out = out or settings.DATA_DIR / "reports" / f"explore-{name}"
        page = write_report(found, out, name, f"manage.py explore {dataset.name}")
        self.stdout.write(f"Page: {page}")

    def _track(self, items, description, total):
        from ml.reports import track

        return track(items, description, total, lambda line: (self.stdout.write(line), self.stdout.flush()))
