from pathlib import Path

from rich.console import Console
from rich.table import Table

from breeds.management.maintenance import MaintenanceCommand


class Command(MaintenanceCommand):
    help = "Put runs beside each other and beside the figures of the slide deck that Flair grew from."
    stopped = "Stopped."

    def add_arguments(self, parser):
        parser.add_argument("runs", nargs="+", type=Path, help="folders of runs or checkpoints")
        parser.add_argument("--out", type=Path, help="folder of the report (default: in the data folder)")

    def work(self, *, runs, **options):
        from ml.evaluation.comparison import HEADERS, read_run, report_comparison, table

        found = [read_run(folder) for folder in runs]
        shown = Table(*HEADERS)
        for row in table(found):
            shown.add_row(*("–" if cell is None else str(cell) for cell in row))
        Console(file=self.stdout, width=160).print(shown)
        self.say(f"report: {report_comparison(found, self.report_folder('compare'), self.command_line())}")
