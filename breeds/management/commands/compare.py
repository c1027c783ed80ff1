from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Put runs beside each other and beside the figures of the slide deck that Flair grew from."

    def add_arguments(self, parser):
        parser.add_argument("runs", nargs="+", type=Path, help="folders of runs or checkpoints")
        parser.add_argument("--out", type=Path, help="folder of the report (default: in the data folder)")

    def handle(self, *, runs, out, **options):
        from rich.console import Console
        from rich.table import Table

        from ml import MLError
        from ml.comparison import HEADERS, read_run, report_comparison, table

        try:
            found = [read_run(folder) for folder in runs]
        except MLError as error:
            raise CommandError(str(error)) from error
        shown = Table(*HEADERS)
        for row in table(found):
            shown.add_row(*("–" if cell is None else str(cell) for cell in row))
        Console(file=self.stdout, width=160).print(shown)
        command = "manage.py compare " + " ".join(folder.name for folder in runs)
        self.stdout.write(
            f"report: {report_comparison(found, out or settings.DATA_DIR / 'reports' / 'compare', command)}"
        )
