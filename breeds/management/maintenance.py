"""Shared by the commands of maintainers: their own command line, progress, and errors as one clear line."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, DjangoHelpFormatter

from ml import MLError
from ml.data.datasets import unpack_dataset
from ml.images.preprocessing import CLASSIC_STEPS, check_steps
from ml.progress import track


class MaintenanceCommand(BaseCommand):
    """A command around functions of `ml`. `work` imports those that need TensorFlow, Keras, LiteRT or matplotlib.

    An error of `ml` or of the files in `work` ends as one line and a non-zero exit status.
    """

    stopped = "Stopped. The same command goes on from here."

    def handle(self, *args, **options):
        self.options = options
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

    def unpack(self, dataset: Path | None) -> Path | None:
        return dataset and unpack_dataset(dataset, settings.DATA_DIR / "datasets")

    def report_folder(self, default: str) -> Path:
        return self.options["out"] or settings.DATA_DIR / "reports" / default

    def command_line(self, **changed) -> str:
        """The command that repeats this one, for a shell: without options at their default, paths as bare names.

        `changed` replaces the values of some options.
        """
        parser = self.create_parser("manage.py", self.__module__.rpartition(".")[2])
        words, values = parser.prog.split(), self.options | changed
        for action in parser._actions:  # private to argparse, which has no public list; `call_command` reads it, too
            value = values.get(action.dest, action.default)
            if value == action.default or DjangoHelpFormatter.show_last.intersection(action.option_strings):
                continue
            if action.nargs == 0:  # a switch, or a pair such as --augment and --no-augment
                words.append(action.option_strings[0 if value else -1])
                continue
            for each in value if isinstance(value, list) else [value]:
                words += [*action.option_strings[:1], _as_word(each, action.type)]
        return shlex.join(words)


def _as_word(value, kind) -> str:
    if kind is Path or isinstance(value, Path):
        return Path(value).absolute().name
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return "none" if value is None else str(value)


def weights(text: str) -> Path | str | None:
    """The type of an option: `imagenet`, `none`, or a file."""
    return {"imagenet": text, "none": None}.get(text, Path(text))


def steps_of(text: str) -> tuple[str, ...]:
    """Steps from `classic`, `none`, or names with commas. Raises `MLError` for an unknown name."""
    named = {"classic": CLASSIC_STEPS, "none": ()}.get(text.strip())
    return check_steps(step.strip() for step in text.split(",") if step.strip()) if named is None else named
