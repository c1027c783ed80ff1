"""A training in a folder of its own: split, train, ship. A killed run goes on with the same command."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import keras

from ml import MLError
from ml.data.datasets import Dataset
from ml.data.loading import load_joined
from ml.evaluation.card import Card, Origin
from ml.files import write_json
from ml.progress import Track, no_track
from ml.reports import Report, subplots
from ml.serving.checkpoint import load_checkpoint
from ml.serving.decision import Label
from ml.training.recipes import Trained, TrainingConfig, Workplace, train_network
from ml.training.shipping import left_out_items, measure_shipped, ship


class TrainingRun:
    """One run. `say` receives a line for people about each step; `track` shows progress.

    `teacher`: the checkpoint folder to learn from too, `without_dog`: a folder of photos without a dog, to be measured
    on too, `fewer_breeds`: a checkpoint folder of the same recipe on some of the breeds, to be measured on the others.
    The result lies in `checkpoint_dir`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        *,
        weights: Path | str | None = None,
        cache_dir: Path | None = None,
        say: Callable[[str], None] = print,
        track: Track = no_track,
        command: str = "",
        teacher: Path | None = None,
        without_dog: Path | None = None,
        fewer_breeds: Path | None = None,
    ):
        self.config, self.folder, self.say, self.track, self.command = config, folder, say, track, command
        self.without_dog, self.fewer_breeds = without_dog, fewer_breeds
        self.place = Workplace(folder, cache_dir or folder / "features", weights, say, teacher, track)
        self.checkpoint_dir = folder / "checkpoint"

    def train(
        self, dataset_folder: Path | None, group_of: Callable[[str], tuple[str, bool]], *, reviews: Path | None = None
    ) -> dict:
        """Run all steps and return the figures on the test split. `reviews`: an export of `ml.data.reviewed`, to join.

        `group_of` gives (FCI-style group, is it a wild canid) of a label. Raises `MLError` for a folder that holds
        another run, and `BadDataset`.
        """
        self._claim_folder()
        keras.utils.set_random_seed(self.config.seed)
        labels = list(self.config.breeds) or None
        dataset = load_joined(dataset_folder, reviews, seed=self.config.seed, labels=labels, track=self.track)
        for path, reason in dataset.unreadable:
            self.say(f"left out: {path} ({reason})")
        self._claim_dataset(dataset)
        self.say(f"{len(dataset.labels)} breeds, photos: {dataset.counts}")
        if self.fewer_breeds:  # said now rather than after an hour
            left_out_items(load_checkpoint(self.fewer_breeds), dataset)
        trained = train_network(self.config, dataset, self.place)
        labels = [Label(slug, *group_of(slug)) for slug in dataset.labels]
        origin = self._origin(trained, dataset)
        shipped = ship(trained.model, dataset, labels, self.checkpoint_dir, origin, self.say)
        measured = measure_shipped(shipped, without_dog=self.without_dog, fewer_breeds=self.fewer_breeds)
        for split, figures in measured.items():
            figures["training_seconds"] = round(trained.seconds, 1)
            write_json(self.checkpoint_dir / f"metrics-{split}.json", figures)
        figures = measured["test"]
        Card(figures, shipped.classifier.checkpoint, origin, shipped.worst_labels).write(self.checkpoint_dir)
        self._report(trained, figures)
        return figures

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config_path = self.folder / "config.json"
        if config_path.exists() and _settings_in(config_path) != self.config:
            raise MLError(f"Expected a new folder or an interrupted run of the same settings. Received: {self.folder}.")
        write_json(config_path, asdict(self.config))

    def _claim_dataset(self, dataset: Dataset) -> None:
        """What an earlier attempt left behind counts only for the same photos in the same split."""
        path = self.folder / "dataset.json"
        if path.exists() and json.loads(path.read_text())["manifest_hash"] != dataset.manifest_hash:
            raise MLError(f"Expected a new folder, or the photos with which {self.folder} was begun. Received: others.")
        dataset.save_manifest(self.folder / "manifest.json")
        write_json(path, {"manifest_hash": dataset.manifest_hash})

    def _origin(self, trained: Trained, dataset: Dataset) -> Origin:
        return Origin(
            name=self.config.name,
            backbone=self.config.recipe if self.config.is_own else self.config.backbone,
            image_size=self.config.serve_size or self.config.image_size,
            steps=trained.steps,
            recipe=trained.recipe,
            command=self.command,
            config=asdict(self.config),
            git_commit=git_commit(),
            photos=dataset.counts,
            dataset_manifest=dataset.manifest_hash,
        )

    def _report(self, trained: Trained, figures: dict) -> None:
        """`report/index.html`: the recipe, the curves and the figures."""
        report = Report(f"Training of {self.config.name}", self.command)
        report.section("Recipe")
        report.text(trained.recipe)
        if trained.history:
            report.section("Epochs")
            report.figure(training_curves(trained.history), "Loss and accuracy after each epoch")
        report.section("Test")
        report.table(["measure", "value"], [[name, f"{figures[name]:.4f}"] for name in ("top1", "top3", "loss", "ece")])
        if own := figures.get("reviewed"):
            report.section("The shelter's own reviewed photos among them")
            report.table(["measure", "value"], [(name, own[name]) for name in ("n", "top1", "top1_interval", "loss")])
        report.write(self.folder / "report", {"history": trained.history, "test": figures})


def _settings_in(path: Path) -> TrainingConfig | None:
    """Those that a run was begun with; what was not known then has its default."""
    try:
        return TrainingConfig(**{name: _as_tuples(value) for name, value in json.loads(path.read_text()).items()})
    except (TypeError, ValueError):
        return None


def _as_tuples(value):
    """JSON knows no tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def training_curves(history: list[dict]):
    """Figure: loss and accuracy of train and val after each epoch."""
    figure, axes = subplots(1, 2)
    for axis, title, names in (
        (axes[0], "loss", ("train_loss", "val_loss")),
        (axes[1], "accuracy", ("train_accuracy", "val_top1")),
    ):
        for name in names:
            rows = [row for row in history if name in row]
            axis.plot([row["epoch"] for row in rows], [row[name] for row in rows], marker=".", label=name)
        axis.set(title=title, xlabel="epoch")
        axis.legend()
    return figure


def git_commit() -> str:
    """The commit of this code, or `unknown` where it is no checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"
