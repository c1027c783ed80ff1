from pathlib import Path

from django.conf import settings

from breeds.management.maintenance import MaintenanceCommand


class Command(MaintenanceCommand):
    help = (
        "Say what is in a dataset: photos per breed, sizes, samples, copies, near-duplicates and files that cannot be "
        "read, on a page and as JSON."
    )
    stopped = "Stopped."

    def add_arguments(self, parser):
        parser.add_argument("dataset", type=Path, help="folder, or tar archive, with one folder of photos per breed")
        parser.add_argument(
            "--out", type=Path, help="folder of the page (default: reports/explore-… in the data folder)"
        )

    def work(self, *, dataset, out, **options):
        from ml.data.datasets import unpack_dataset
        from ml.data.exploration import explore, in_words, write_report

        name = dataset.resolve().name.split(".")[0]
        found = explore(unpack_dataset(dataset, settings.DATA_DIR / "datasets"), track=self.track)
        for line in in_words(found, name):
            self.say(line)
        out = out or settings.DATA_DIR / "reports" / f"explore-{name}"
        page = write_report(found, out, name, f"manage.py explore {dataset.name}")
        self.say(f"Page: {page}")
