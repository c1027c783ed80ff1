from pathlib import Path

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

    def work(self, *, dataset, **options):
        from ml.data.exploration import explore, in_words, write_report

        name = dataset.resolve().name.split(".")[0]
        found = explore(self.unpack(dataset), track=self.track)
        for line in in_words(found, name):
            self.say(line)
        page = write_report(found, self.report_folder(f"explore-{name}"), name, self.command_line())
        self.say(f"Page: {page}")
