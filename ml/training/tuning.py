"""The search for better settings (KerasTuner, random search), of the own network or of a head on features.

Every choice is made on val; of the test split not a photo is read. KerasTuner keeps a file per trial in the folder
of the search: a killed one goes on with the same command, and more trials are added to those that are there.
"""

import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.base_tuner import BaseTuner

from ml import MLError
from ml.data.datasets import Dataset
from ml.data.views import centre_images
from ml.evaluation.metrics import wilson_interval
from ml.files import write_json
from ml.progress import Track, no_track
from ml.reports import Report, plain, subplots
from ml.serving.calibration import log_loss, softmax
from ml.training.features import backbone_file, cache_key, embed
from ml.training.heads import figures_of, fit_head, fit_hidden_head
from ml.training.losses import LOSSES, compile_with, targets_of
from ml.training.networks import build_classifier, build_cnn

FIRST_FILTERS = 32

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


@dataclass(frozen=True)
class TuningConfig:
    """Everything but the number of trials that decides what a search finds.

    `patience`: epochs without a better accuracy on val (own network) or a lower log loss (head) after which a trial
    ends. `batch_size` and `steps` (see `ml.images.preprocessing`) are of the own network, `backbone` of a head.
    """

    recipe: str
    epochs: int = 40
    patience: int = 10
    batch_size: int = 40
    image_size: int = 224
    steps: tuple[str, ...] = ()
    backbone: str = ""
    seed: int = 0


def cnn_space() -> keras_tuner.HyperParameters:
    """Filters of the second and third convolution, the hidden layer, dropout, learning rate and loss."""
    space = keras_tuner.HyperParameters()
    space.Choice("filters_2", [32, 64])
    space.Choice("filters_3", [64, 128])
    space.Int("units", 32, 512, step=32)
    space.Float("dropout", 0.1, 0.7, step=0.05)
    space.Choice("learning_rate", [1e-2, 1e-3, 1e-4])
    space.Choice("loss", list(LOSSES))  # of the slide deck's search; no effect, since both are equal on one-hot targets
    return space


def head_space() -> keras_tuner.HyperParameters:
    """A linear head with its strength (inverse regularisation, L-BFGS), or one with a hidden layer (Adam)."""
    space = keras_tuner.HyperParameters()
    space.Choice("head", ["linear", "hidden"])
    with space.conditional_scope("head", ["linear"]):
        space.Float("strength", 1e-5, 1.0, sampling="log")
    with space.conditional_scope("head", ["hidden"]):
        space.Int("units", 64, 1024, step=64)
        space.Float("dropout", 0.0, 0.7, step=0.1)
        space.Choice("learning_rate", [1e-2, 1e-3, 1e-4])
        space.Float("l2", 1e-7, 1e-3, sampling="log")
    return space


def settings_of(values: dict) -> dict:
    """Values of a point in a space as `best.json` keeps them: `filters` a list, floats without binary crumbs."""
    settings = {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in values.items()}
    if "filters_2" in settings:
        settings = {"filters": [FIRST_FILTERS, settings.pop("filters_2"), settings.pop("filters_3")], **settings}
    return settings


@dataclass(frozen=True)
class Examples:
    """What trials learn from and are compared on: inputs (N, …) and label indices (N,) of train and val."""

    train: np.ndarray
    train_index: np.ndarray
    val: np.ndarray
    val_index: np.ndarray
    num_classes: int


def examples_of(dataset: Dataset, inputs_of: Callable[[list], np.ndarray]) -> Examples:
    """`inputs_of(items)` gives (N, …) inputs. The test split is not asked for."""
    train, val = dataset.part("train"), dataset.part("val")
    return Examples(
        inputs_of(train), dataset.label_index(train), inputs_of(val), dataset.label_index(val), len(dataset.labels)
    )


def try_cnn(settings: dict, examples: Examples, config: TuningConfig) -> dict:
    """Train the own network on (N, H, W, C) uint8 images. Returns the figures of its best epoch on val."""
    model = build_cnn(
        examples.num_classes,
        image_size=examples.train.shape[1],
        channels=examples.train.shape[-1],
        filters=settings["filters"],
        units=settings["units"],
        dropout=settings["dropout"],
    )
    return fit_and_measure(model, settings["loss"], settings["learning_rate"], examples, config)


def try_head(settings: dict, examples: Examples, config: TuningConfig) -> dict:
    """Fit a head on (N, D) features, as `train` does. Returns its figures on val."""
    arrays = examples.train, examples.val, examples.train_index, examples.val_index
    if settings["head"] == "hidden":
        limits = {"epochs": config.epochs, "patience": config.patience}
        _weights, figures = fit_hidden_head(*arrays, examples.num_classes, settings, **limits)
        return figures
    kernel, bias = fit_head(*arrays, strengths=(settings["strength"],))
    logits = examples.val @ kernel + bias
    return {
        "val_accuracy": float((logits.argmax(axis=1) == examples.val_index).mean()),
        "val_log_loss": log_loss(softmax(logits), examples.val_index),
        "parameters": kernel.size + bias.size,
    }


def fit_and_measure(
    model: keras.Model, loss: str, learning_rate: float, examples: Examples, config: TuningConfig
) -> dict:
    """Train with early stopping, the loss fed with its own kind of targets. The figures of the best epoch on val."""
    compile_with(model, loss, learning_rate)
    fitted = model.fit(
        examples.train,
        targets_of(loss, examples.train_index, examples.num_classes),
        validation_data=(examples.val, targets_of(loss, examples.val_index, examples.num_classes)),
        epochs=config.epochs,
        batch_size=config.batch_size,
        callbacks=[keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=config.patience)],
        verbose=0,
    )
    figures = [figures_of(model, fitted, epoch) for epoch in fitted.epoch]
    return min(figures, key=_merit)


class Search(BaseTuner):
    """KerasTuner's loop around `try_settings(settings) -> figures`. It keeps no weights: settings are sought."""

    def __init__(self, space, try_settings: Callable[[dict], dict], *, trials: int, seed: int, folder: Path, say):
        self.try_settings, self.trials, self.seed, self.say = try_settings, trials, seed, say
        oracle = keras_tuner.oracles.RandomSearchOracle(
            objective=OBJECTIVE,
            max_trials=trials,
            hyperparameters=space,
            # KerasTuner takes 0 for "any", and counts up from it: near seeds would share their trials.
            seed=int(np.random.default_rng(seed).integers(1, 2**31)),
        )
        oracle.verbose = 0
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it would print the path of what it reads again
                super().__init__(oracle, directory=str(folder), project_name="trials", overwrite=False)
        except ValueError as error:  # KerasTuner writes its files in place: a kill at that moment leaves half of one
            raise MLError(f"Expected whole files of a search in {folder / 'trials'}. Received: {error}.") from error

    def run_trial(self, trial) -> dict:
        keras.backend.clear_session()  # or the networks of earlier trials would stay in memory
        keras.utils.set_random_seed(self.seed)
        start = time.monotonic()
        figures = self.try_settings(settings_of(trial.hyperparameters.values))
        figures["seconds"] = time.monotonic() - start
        return {name: round(float(value), 6) for name, value in figures.items()}  # float32 and float64 must compare

    def on_trial_end(self, trial) -> None:
        super().on_trial_end(trial)
        done = [row_of(other) for other in self.oracle.trials.values()]
        row = row_of(trial)
        if "val_accuracy" not in row:
            failure = (trial.message or "no figure").strip().splitlines()[-1]
            return self.say(f"trial {row['trial']} of {self.trials} failed with {row['settings']}: {failure}")
        best = best_of(done)["val_accuracy"]
        self.say(
            f"trial {row['trial']} of {self.trials}: val accuracy {row['val_accuracy']:.1%} (best {best:.1%}), "
            f"log loss {row['val_log_loss']:.3f}, {row['seconds']:.1f} s, {row['settings']}"
        )

    def rows(self) -> list[dict]:
        """A row per finished trial, the best first."""
        rows = [row_of(trial) for trial in self.oracle.trials.values()]
        return sorted((row for row in rows if "val_accuracy" in row), key=_merit)


def row_of(trial) -> dict:
    """Number, settings and, once it has them, the figures of a KerasTuner trial."""
    row = {"trial": int(trial.trial_id) + 1, "settings": settings_of(trial.hyperparameters.values)}
    if trial.status != "COMPLETED":
        return row
    return row | {name: trial.metrics.get_last_value(name) for name in trial.metrics.metrics}


def best_of(rows: list[dict]) -> dict:
    return min((row for row in rows if "val_accuracy" in row), key=_merit)


def _merit(row: dict) -> tuple[float, float]:
    return -row["val_accuracy"], row["val_log_loss"]


class TuningRun:
    """One search in one folder; `say` receives a line per step and per trial, `track` shows progress."""

    def __init__(
        self, config: TuningConfig, folder: Path, say: Callable[[str], None], command: str = "", track: Track = no_track
    ):
        self.config, self.folder, self.say, self.command, self.track = config, folder, say, command, track

    def tune_cnn(self, dataset: Dataset, trials: int) -> dict:
        """Search the settings of the own network; returns the best row. Raises `MLError` for another run's folder."""
        size, steps = self.config.image_size, self.config.steps
        return self._search(
            dataset, trials, cnn_space(), try_cnn, lambda items: centre_images(dataset, items, size, steps)
        )

    def tune_head(self, dataset: Dataset, trials: int, *, weights: Path | str | None, cache_dir: Path) -> dict:
        """Search a head on features of a frozen backbone, which are computed once, in `cache_dir`.

        Raises `MLError` for another run's folder, and for photos that were prepared by steps: a backbone wants them
        as they are.
        """
        if dataset.steps:
            steps = ", ".join(dataset.steps)
            raise MLError(f"Expected photos in colour for a backbone. Received: a folder prepared by {steps}.")
        size = self.config.image_size
        keras.utils.set_random_seed(self.config.seed)  # without weights, the backbone is the same one every time
        model = build_classifier(self.config.backbone, len(dataset.labels), weights=weights)
        runtime_file = backbone_file(model, size, cache_dir)
        return self._search(
            dataset,
            trials,
            head_space(),
            try_head,
            lambda items: embed(runtime_file, dataset, items, cache_dir, size, self.track),
            features=cache_key(runtime_file, size),
        )

    def _search(self, dataset: Dataset, trials: int, space, try_one, inputs_of, features: str = "") -> dict:
        self._claim_folder(dataset, features)
        counts = {split: len(dataset.part(split)) for split in ("train", "val")}
        self.say(f"{len(dataset.labels)} breeds, photos: {counts}")
        examples = examples_of(dataset, inputs_of)
        search = Search(
            space,
            lambda settings: try_one(settings, examples, self.config),
            trials=trials,
            seed=self.config.seed,
            folder=self.folder,
            say=self.say,
        )
        try:
            search.search()
        except RuntimeError as error:  # KerasTuner's, after three failures in a row
            last = str(error).strip().splitlines()[-1]
            raise MLError(
                f"Expected trials that can be finished. Received: three failures in a row, {last}."
            ) from error
        if not (rows := search.rows()):
            raise MLError("Expected at least one trial with a figure. Received: failures only.")
        write_json(self.folder / "best.json", rows[0]["settings"])
        self._report(dataset, rows, counts)
        return rows[0]

    def _claim_folder(self, dataset: Dataset, features: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "search.json"
        search = plain({"config": self.config, "dataset": dataset.manifest_hash, "features": features})
        if path.exists() and json.loads(path.read_text()) != search:
            raise MLError(
                f"Expected a new folder, or one with a search of the same settings and photos. Received: {self.folder}."
            )
        write_json(path, search)

    def _report(self, dataset: Dataset, rows: list[dict], counts: dict) -> None:
        best = rows[0]
        interval = wilson_interval(round(best["val_accuracy"] * counts["val"]), counts["val"])
        report = Report(f"Search: {self.config.recipe}, {len(dataset.labels)} breeds", self.command)
        report.section("Best")
        report.text(
            f"Trial {best['trial']} of {len(rows)}: val accuracy {best['val_accuracy']:.1%} of {counts['val']} photos "
            f"(95 % interval {interval[0]:.1%} to {interval[1]:.1%}), log loss {best['val_log_loss']:.3f}. "
            "The best of many trials on the same photos flatters; only the test split can say how good it is."
        )
        report.table(["setting", "value"], [[name, str(value)] for name, value in best["settings"].items()])
        report.section("Trials")
        report.table(*trial_table(rows))
        report.section("What matters")
        report.figure(accuracy_by_setting(rows), "Accuracy on val of each trial, by each setting.")
        report.write(
            self.folder,
            {"config": self.config, "dataset": dataset.manifest_hash, "photos": counts, "labels": dataset.labels,
             "best": best, "best_interval": interval, "trials": rows},
        )  # fmt: skip


FIGURES = {
    "val_accuracy": "accuracy",
    "val_log_loss": "log loss",
    "best_epoch": "best epoch",
    "parameters": "parameters",
    "seconds": "seconds",
}
WHOLE = ("best_epoch", "parameters")


def trial_table(rows: list[dict]) -> tuple[list[str], list[list]]:
    """Headers and cells: number, settings, figures on val; `None` where a trial has no such thing."""
    names = setting_names(rows)
    cells = []
    for row in rows:
        figures = (int(row[name]) if name in WHOLE and name in row else row.get(name) for name in FIGURES)
        cells.append([row["trial"], *(_shown(row["settings"].get(name)) for name in names), *figures])
    return ["trial", *names, *FIGURES.values()], cells


def setting_names(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["settings"]))


def _shown(value):
    return "-".join(map(str, value)) if isinstance(value, list) else value


def accuracy_by_setting(rows: list[dict]):
    """A panel per setting with a dot per trial."""
    names = setting_names(rows)
    lines = -(-len(names) // 3)
    figure, axes = subplots(lines, 3, size=(9, 2.6 * lines), squeeze=False, sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(_shown(r["settings"][name]), r["val_accuracy"]) for r in rows if name in r["settings"]]
        numeric = all(isinstance(value, (int, float)) for value, _ in points)
        points.sort(key=lambda point: point[0] if numeric else str(point[0]))
        axis.plot([p[0] if numeric else str(p[0]) for p in points], [p[1] for p in points], "o", alpha=0.7)
        axis.set(title=name)
        if name in ("learning_rate", "strength", "l2"):
            axis.set_xscale("log")
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    return figure
