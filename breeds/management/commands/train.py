from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from breeds.catalogue import group_of


def stage(text: str) -> tuple[int, int]:
    size, epochs = text.split(":")
    return int(size), int(epochs)


class Command(BaseCommand):
    help = "Train a classifier and write its checkpoint folder. A killed run goes on with the same command."

    def add_arguments(self, parser):
        parser.add_argument("recipe", choices=["transfer"], help="transfer: a pretrained backbone with a new head")
        parser.add_argument("--dataset", type=Path, help="folder, or tar archive, with one folder of photos per breed")
        parser.add_argument("--out", type=Path, help="folder of the run; its checkpoint/ is the result")
        parser.add_argument("--name", default="flair", help="name of the classifier")
        parser.add_argument("--backbone", default="mobilenetv2")
        parser.add_argument("--weights", type=Path, help="weights file of the backbone (default: random)")
        parser.add_argument("--fine-tune", type=stage, action="append", default=[], metavar="SIZE:EPOCHS",
                            help="then train every layer at this image size; repeat for progressive sizes")  # fmt: skip
        parser.add_argument("--learning-rate", type=float, default=1e-4)
        parser.add_argument("--batch-size", type=int, default=32)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--summary", action="store_true", help="print the network and stop")

    def handle(self, **options):
        from ml import MLError

        try:
            self._train(options)
        except MLError as error:
            raise CommandError(str(error)) from error

    def _train(self, options):
        from ml.datasets import unpack_dataset
        from ml.training import TrainingConfig, TrainingRun

        if options["summary"]:
            from ml.models import build_classifier

            return build_classifier(options["backbone"], 120).summary(print_fn=self.stdout.write)
        if not options["dataset"] or not options["out"]:
            raise CommandError("Expected --dataset and --out.")
        config = TrainingConfig(
            name=options["name"],
            backbone=options["backbone"],
            stages=tuple(options["fine_tune"]),
            learning_rate=options["learning_rate"],
            batch_size=options["batch_size"],
            seed=options["seed"],
        )
        run = TrainingRun(config, options["out"], options["weights"], self._say, command_line(options))
        figures = run.train(unpack_dataset(options["dataset"], settings.DATA_DIR / "datasets"), group_of)
        self._say(f"test: top-1 {figures['top1']:.1%} of {figures['n']} photos. Checkpoint: {run.checkpoint_dir}")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def command_line(options: dict) -> str:
    """The command that makes this run, with the bare names of its files."""
    parts = ["manage.py train", options["recipe"], f"--dataset {options['dataset'].name}", f"--name {options['name']}"]
    if options["weights"]:
        parts.append(f"--weights {options['weights'].name}")
    parts += [f"--fine-tune {size}:{epochs}" for size, epochs in options["fine_tune"]]
    parts += [
        f"--{name} {options[name.replace('-', '_')]}" for name in ("backbone", "learning-rate", "batch-size", "seed")
    ]
    return " ".join([*parts, f"--out {options['out'].name}"])
