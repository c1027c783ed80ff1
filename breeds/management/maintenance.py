"""What the commands of maintainers share: lines that appear at once, progress, and errors as one clear line."""

from collections.abc import Iterable

from django.core.management.base import BaseCommand, CommandError

from ml import MLError
from ml.progress import track


class MaintenanceCommand(BaseCommand):
    """A command around functions of `ml`, which are imported inside `work`: `manage.py help` loads none of them.

    What `work` raises as an error of `ml` or of the files ends as one line and a non-zero exit status.
    """

    stopped = "Stopped. The same command goes on from here."

    def handle(self, *args, **options):
        try:
            self.work(**options)
        except KeyboardInterrupt:
            raise CommandError(self.stopped, returncode=130) from None
        except MLError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Expected files that can be read and written. Received: {error}.") from error

    def work(self, **options) -> None:
        raise NotImplementedError

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def track(self, items: Iterable, description: str, total: int) -> Iterable:
        return track(items, description, total, self.say)
