import argparse
import json
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from breeds.catalogue import group_of
from breeds.management.maintenance import MaintenanceCommand, steps_of, weights
from breeds.training_set import add_review_arguments, chosen_labels, reviews_of
from ml.serving.checkpoint import checkpoint_in, load_checkpoint

# What each recipe takes where the command line is silent: (learning rate, batch size, stages, patience, dropout).
DEFAULTS = {
    "cnn": {"learning_rate": 1e-3, "batch_size": 40, "epochs": 20, "patience": 10, "dropout": 0.0},
    "transfer": {"learning_rate": 7.5e-5, "batch_size": 32, "epochs": 0, "patience": None, "dropout": 0.2},
    "fine-tune": {"learning_rate": 7.5e-5, "batch_size": 40, "epochs": 20, "patience": 10, "dropout": 0.2},
}
DEFAULTS["cnn-extra"] = DEFAULTS["cnn"]


def stage(text: str) -> tuple[int, int]:
    size, epochs = text.split(":")
    return int(size), int(epochs)


class Command(MaintenanceCommand):
    help = "Train a classifier and write its checkpoint folder. A killed run goes on with the same command."

    def add_arguments(self, parser):
        parser.add_argument(
            "recipe",
            choices=DEFAULTS,
            help="cnn, cnn-extra: an own network. transfer: a new head on a pretrained backbone, then, with "
            "--fine-tune, every layer. fine-tune: a new head, then the last --layers of the backbone",
        )
        parser.add_argument("--dataset", type=Path, help="folder, tar archive, or folder written by preprocess")
        add_review_arguments(parser)
        parser.add_argument("--out", type=Path, help="folder of the run; its checkpoint/ is the result")
        parser.add_argument("--name", help="name of the classifier (default: that of --out)")
        parser.add_argument("--breeds", default="", help="3, 20, 50, 120 or names with commas (default: all)")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--without-dog", type=Path, help="photos without a dog, folder or tar, to measure on")
        parser.add_argument(
            "--fewer-breeds", type=Path, metavar="RUN",
            help="a run of the same recipe with --breeds: the card says what it makes of the breeds it never saw",
        )  # fmt: skip
        parser.add_argument("--summary", action="store_true", help="print the network and stop")

        way = parser.add_argument_group("way of training (defaults depend on the recipe)")
        way.add_argument("--epochs", type=int)
        way.add_argument("--patience", type=int, help="stop after so many epochs without a lower loss on val")
        way.add_argument("--learning-rate", type=float)
        way.add_argument("--batch-size", type=int)
        way.add_argument(
            "--augment", action=argparse.BooleanOptionalAction, help="random rotation, stretch and flip, or crops"
        )
        way.add_argument("--image-size", type=int, default=224, help="pixels")
        way.add_argument("--serve-size", type=int, default=0, help="pixels to run the result at (default: the same)")
        way.add_argument("--config", type=Path, help="best.json of tune cnn (own network) or of tune head")

        own = parser.add_argument_group("own network")
        own.add_argument("--steps", default="classic", help="classic, none, or names of steps with commas")

        pretrained = parser.add_argument_group("pretrained backbone")
        pretrained.add_argument("--backbone", default="mobilenetv2", help="a network of keras.applications")
        pretrained.add_argument(
            "--weights", type=weights, default="imagenet", help="imagenet (from the web), none, or a file"
        )
        pretrained.add_argument("--layers", type=int, default=15, help="fine-tune: how many layers of the backbone")
        pretrained.add_argument("--teacher", type=Path, help="transfer: checkpoint whose answers are learned from too")
        pretrained.add_argument(
            "--fine-tune", type=stage, action="append", default=[], metavar="SIZE:EPOCHS",
            help="transfer: then train every layer at this image size; repeat for progressive sizes",
        )  # fmt: skip

    def work(self, **options):
        if options["summary"]:
            self._summarise(options)
        else:
            self._train(options)

    def _summarise(self, options):
        from ml.training.recipes import build_network

        num_classes = int(options["breeds"]) if options["breeds"].isdecimal() else len(options["breeds"].split(","))
        network = build_network(config_of(options, ()), num_classes if options["breeds"] else 120)
        network.summary(print_fn=self.say)
        self.say(f"{network.count_params():,} parameters")

    def _train(self, options):
        from ml.training.runs import TrainingRun

        base, out = options["dataset"], options["out"]
        if not out or not (base or options["from_reviews"] or options["reviews"]):
            raise CommandError("Expected --dataset and --out; or --from-reviews, alone or with a --dataset, and --out.")
        dataset = self.unpack(base)
        reviews = reviews_of(options, out / "reviews", self.say, self.track)
        breeds = tuple(chosen_labels(dataset, reviews, options["breeds"]) or ())
        run = TrainingRun(
            config_of(options, breeds),
            out,
            weights=options["weights"],
            cache_dir=settings.DATA_DIR / "features",
            say=self.say,
            track=self.track,
            command=self.command_line(),
            teacher=options["teacher"] and checkpoint_in(options["teacher"]),
            fewer_breeds=options["fewer_breeds"] and checkpoint_in(options["fewer_breeds"]),
            without_dog=self.unpack(options["without_dog"]),
        )
        figures = run.train(dataset, group_of, reviews=reviews)
        if own := figures.get("reviewed"):
            self.say(f"the shelter's own among them: top-1 {own['top1']:.1%} of {own['n']} photos")
        self.say(f"test: top-1 {figures['top1']:.1%} of {figures['n']} photos. Checkpoint: {run.checkpoint_dir}")


def config_of(options: dict, breeds: tuple[str, ...]):
    from ml.training.recipes import TrainingConfig

    recipe, chosen = options["recipe"], dict(DEFAULTS[options["recipe"]])
    own = recipe.startswith("cnn")
    best = settings_found(options["config"], own) if options["config"] else {}
    if own:
        chosen |= {name: best[name] for name in ("learning_rate", "dropout", "units", "filters") if name in best}
    elif "dropout" in best:
        chosen["dropout"] = best["dropout"]
    chosen |= {name: options[name] for name in chosen if options.get(name) is not None}
    epochs = chosen.pop("epochs")
    chosen["filters"] = tuple(chosen.get("filters", ()))
    return TrainingConfig(
        name=options["name"] or (options["out"].name if options["out"] else recipe),
        recipe=recipe,
        backbone=options["backbone"],
        image_size=options["image_size"],
        serve_size=serve_size_of(options),
        breeds=breeds,
        head={} if own else best,
        steps=steps_of(options["steps"]) if own else (),
        stages=tuple(options["fine_tune"]) or (((options["image_size"], epochs),) if epochs else ()),
        layers=options["layers"] if recipe == "fine-tune" else None,
        average=recipe == "transfer",
        augment=(not own) if options["augment"] is None else options["augment"],
        seed=options["seed"],
        teacher=teacher_version(options),
        **chosen,
    )


def settings_found(path: Path, own: bool) -> dict:
    """What `tune cnn` or `tune head` wrote. Raises `CommandError` for anything else."""
    searched = "tune cnn" if own else "tune head"
    try:
        best = json.loads(path.read_text())
        fits = {"filters", "units"} <= set(best) if own else best["head"] in ("linear", "hidden")
    except (ValueError, TypeError, KeyError):
        fits = False
    if not fits:
        raise CommandError(f"Expected best.json of {searched}. Received: {path}.")
    return best


def serve_size_of(options: dict) -> int:
    if options["serve_size"] and options["recipe"].startswith("cnn"):
        raise CommandError("Expected --serve-size with a pretrained backbone: an own network is built for one size.")
    return options["serve_size"]


def teacher_version(options: dict) -> str:
    if not options["teacher"]:
        return ""
    if options["recipe"] != "transfer" or not options["fine_tune"]:
        raise CommandError("Expected transfer with --fine-tune beside --teacher: only tuning learns from a teacher.")
    return load_checkpoint(checkpoint_in(options["teacher"])).version
