from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from breeds.management.maintenance import MaintenanceCommand, steps_of, weights
from ml.data.datasets import choose_breeds
from ml.data.loading import load_dataset


class Command(MaintenanceCommand):
    help = (
        "Search better settings of the own network (cnn) or of a head on a pretrained backbone (head). "
        "A killed search goes on with the same command."
    )

    def add_arguments(self, parser):
        parser.add_argument("recipe", choices=["cnn", "head"])
        parser.add_argument(
            "--dataset", type=Path, required=True, help="folder, tar archive, or folder written by preprocess"
        )
        parser.add_argument("--out", type=Path, required=True, help="folder of the search: report and best.json")
        parser.add_argument("--breeds", default="", help="3, 20, 50, 120 or names with commas (default: all)")
        parser.add_argument("--trials", type=int, default=20)
        parser.add_argument("--epochs", type=int, default=40, help="at most so many for each trial")
        parser.add_argument("--patience", type=int, default=10, help="epochs without an improvement on val")
        parser.add_argument("--batch-size", type=int, default=40, help="cnn: photos in a batch")
        parser.add_argument("--image-size", type=int, help="pixels (default: 224, or that of a prepared folder)")
        parser.add_argument("--seed", type=int, default=0, help="of the split and the search")
        parser.add_argument("--steps", default="classic", help="cnn: classic, none, or names of steps with commas")
        parser.add_argument("--backbone", default="mobilenetv2", help="head: a network of keras.applications")
        parser.add_argument(
            "--weights", type=weights, default="imagenet", help="head: imagenet (from the web), none, or a file"
        )

    def work(self, **options):
        from ml.training.tuning import TuningConfig, TuningRun

        if min(options["trials"], options["epochs"], options["batch_size"]) < 1:
            raise CommandError("Expected --trials, --epochs and --batch-size of at least 1.")
        folder = self.unpack(options["dataset"])
        labels = choose_breeds(folder, options["breeds"]) if options["breeds"] else None
        dataset = load_dataset(folder, seed=options["seed"], labels=labels)
        is_cnn = options["recipe"] == "cnn"
        config = TuningConfig(
            recipe=options["recipe"],
            epochs=options["epochs"],
            patience=options["patience"],
            batch_size=options["batch_size"],
            image_size=options["image_size"] or dataset.image_size or 224,
            steps=(dataset.steps or steps_of(options["steps"])) if is_cnn else (),
            backbone="" if is_cnn else options["backbone"],
            seed=options["seed"],
        )
        run = TuningRun(config, options["out"], self.say, self.command_line(), self.track)
        if is_cnn:
            best = run.tune_cnn(dataset, options["trials"])
        else:
            cache_dir = settings.DATA_DIR / "features"
            best = run.tune_head(dataset, options["trials"], weights=options["weights"], cache_dir=cache_dir)
        self.say(f"best: trial {best['trial']}, val accuracy {best['val_accuracy']:.1%}. See {options['out']}.")
