"""The search for better settings: the space of the first system, fair trials, and a kill that costs one trial."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from django.core.management import CommandError, call_command
from keras import layers

from ml import MLError
from ml.data.datasets import Dataset
from ml.serving.calibration import log_loss, softmax
from ml.training import tuning
from ml.training.heads import fit_hidden_head
from ml.training.losses import KL, LOSSES, SPARSE, compile_with, targets_of
from ml.training.networks import build_cnn
from ml.training.tuning import (
    Examples,
    Search,
    TuningConfig,
    TuningRun,
    best_of,
    cnn_space,
    head_space,
    settings_of,
    trial_table,
    try_head,
)
from tests.support.ml import Killed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner", "ignore::UserWarning:keras_tuner")


class Listener:
    """Keeps what is said, and is killed at the line that starts with `at`."""

    def __init__(self, at: str | None = None):
        self.at, self.lines = at, []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if self.at and line.startswith(self.at):
            raise Killed

    def trials(self) -> list[str]:
        """`trial 1 of 3`, … for each trial that was run."""
        return [line.split(":")[0] for line in self.lines if line.startswith("trial")]


@pytest.fixture
def read_photos(monkeypatch):
    """The items whose photos were read, after the scan."""
    read, items = Dataset.read, []
    monkeypatch.setattr(Dataset, "read", lambda self, item: (items.append(item), read(self, item))[1])
    return items


def cnn_config(**changed) -> TuningConfig:
    return TuningConfig(**{"recipe": "cnn", "epochs": 2, "image_size": 32, "steps": ("greyscale",), **changed})


def quick(settings: dict) -> dict:
    """A trial without a network: the better, the more units."""
    return {"val_accuracy": settings["units"] / 1000, "val_log_loss": 1.0}


def search(folder, trials=3, seed=0, say=None, try_settings=quick) -> Search:
    say = say or Listener()
    return Search(cnn_space(), try_settings, trials=trials, seed=seed, folder=folder, say=say)


# -- the space --------------------------------------------------------------------------------------------------------


def test_it_searches_where_the_first_system_did():
    space = {hp.name: hp for hp in cnn_space().space}

    assert list(space["filters_2"].values) == [32, 64]
    assert list(space["filters_3"].values) == [64, 128]
    assert (space["units"].min_value, space["units"].max_value, space["units"].step) == (32, 512, 32)
    assert (space["dropout"].min_value, space["dropout"].max_value, space["dropout"].step) == (0.1, 0.7, 0.05)
    assert list(space["learning_rate"].values) == [1e-2, 1e-3, 1e-4]
    assert list(space["loss"].values) == ["sparse_categorical_crossentropy", "kl_divergence"]


def test_it_finds_the_best_network_of_the_first_system_among_its_settings():
    settings = settings_of({"filters_2": 64, "filters_3": 128, "units": 384, "dropout": 0.5, "loss": KL})

    network = build_cnn(3, filters=settings["filters"], units=settings["units"], dropout=settings["dropout"])

    assert network.count_params() == 38_629_379


def test_it_draws_only_points_of_the_space(tmp_path):
    rows = search_all(tmp_path, trials=30)

    for settings in (row["settings"] for row in rows):
        assert settings["filters"][0] == 32
        assert settings["units"] % 32 == 0
        assert 0.1 <= settings["dropout"] <= 0.7
        assert round(settings["dropout"] * 20, 6).is_integer()
        assert len(str(settings["dropout"])) <= 4
    assert {row["settings"]["loss"] for row in rows} == set(LOSSES)
    assert {tuple(row["settings"]["filters"][1:]) for row in rows} == {(32, 64), (32, 128), (64, 64), (64, 128)}
    assert len({json.dumps(row["settings"]) for row in rows}) == 30


def search_all(folder, **options) -> list[dict]:
    one = search(folder, **options)
    one.search()
    return one.rows()


def test_it_gives_a_head_only_what_it_has():
    space = head_space()
    space.values["head"] = "linear"
    assert [hp.name for hp in space.space if space.is_active(hp)] == ["head", "strength"]

    space.values["head"] = "hidden"

    names = [hp.name for hp in space.space if space.is_active(hp)]
    assert names == ["head", "units", "dropout", "learning_rate", "l2"]


# -- losses and their targets -----------------------------------------------------------------------------------------


def points(num_classes=3, n=90):
    """(N, 2) points around a centre per class, and their labels."""
    rng = np.random.default_rng(0)
    index = np.arange(n) % num_classes
    angle = 2 * np.pi * index / num_classes
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centres + rng.normal(0, 0.1, (n, 2))).astype(np.float32), index


def linear_network(num_classes=3):
    inputs = keras.Input((2,))
    return keras.Model(inputs, layers.Dense(num_classes, kernel_initializer="zeros")(inputs))


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns_the_same_problem_with_either_loss(loss):
    inputs, index = points()
    network = linear_network()
    compile_with(network, loss, 0.1)
    targets = targets_of(loss, index, 3)
    before = network.evaluate(inputs, targets, verbose=0, return_dict=True)

    network.fit(inputs, targets, epochs=20, verbose=0)

    after = network.evaluate(inputs, targets, verbose=0, return_dict=True)
    assert before["log_loss"] == pytest.approx(np.log(3), abs=1e-3)
    assert after["accuracy"] == 1.0
    assert after["log_loss"] < 0.2


def test_it_measures_both_losses_by_the_same_figures():
    inputs, index = points()
    figures = {}
    for loss in LOSSES:
        keras.utils.set_random_seed(0)
        network = linear_network()
        compile_with(network, loss, 0.1)
        network.fit(inputs, targets_of(loss, index, 3), epochs=3, shuffle=False, verbose=0)
        figures[loss] = network.evaluate(inputs, targets_of(loss, index, 3), verbose=0, return_dict=True)

    assert figures[KL] == pytest.approx(figures[SPARSE], rel=1e-4)


def test_it_gives_each_loss_its_own_targets():
    index = np.array([2, 0])

    assert targets_of(SPARSE, index, 3).tolist() == [2, 0]
    assert targets_of(KL, index, 3).tolist() == [[0, 0, 1], [1, 0, 0]]


# -- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_it_draws_the_same_trials_for_the_same_seed(tmp_path, seed):
    rows = [search_all(tmp_path / name, seed=seed) for name in ("once", "again")]

    assert [row["settings"] for row in rows[0]] == [row["settings"] for row in rows[1]]


def test_it_draws_other_trials_for_another_seed(tmp_path):
    rows = [search_all(tmp_path / str(seed), seed=seed) for seed in (0, 1)]

    assert [row["settings"] for row in rows[0]] != [row["settings"] for row in rows[1]]


def test_it_puts_the_most_accurate_trial_first_and_of_equals_the_surest():
    rows = [
        {"trial": 1, "val_accuracy": 0.5, "val_log_loss": 0.1},
        {"trial": 2, "val_accuracy": 0.9, "val_log_loss": 0.7},
        {"trial": 3, "val_accuracy": 0.9, "val_log_loss": 0.4},
        {"trial": 4},
    ]

    assert best_of(rows)["trial"] == 3


@pytest.mark.parametrize("at", ["trial 1", "trial 2"])
def test_it_goes_on_after_a_kill_with_the_next_trial(tmp_path, at):
    whole = search_all(tmp_path / "whole")
    with pytest.raises(Killed):
        search(tmp_path / "killed", say=Listener(at)).search()
    again = Listener()

    resumed = search_all(tmp_path / "killed", say=again)

    assert again.trials() == [f"trial {number} of 3" for number in range(int(at[-1]) + 1, 4)]
    assert [row["settings"] for row in resumed] == [row["settings"] for row in whole]


def test_it_repeats_the_trial_in_which_it_was_killed(tmp_path):
    tried = []

    def killed_at_the_second(settings):
        tried.append(settings)
        if len(tried) == 2:
            raise Killed
        return quick(settings)

    with pytest.raises(Killed):
        search(tmp_path, try_settings=killed_at_the_second).search()

    rows = search_all(tmp_path, try_settings=killed_at_the_second)

    assert len(rows) == 3
    assert tried[1] == tried[2]


def test_it_adds_trials_to_those_that_are_there(tmp_path):
    few = search_all(tmp_path, trials=2)
    say = Listener()

    more = search_all(tmp_path, trials=12, say=say)

    assert say.trials() == [f"trial {number} of 12" for number in range(3, 13)]
    assert len(more) == 12
    assert all(row in more for row in few)


@pytest.mark.parametrize("name", ["oracle.json", "trial_0/trial.json"])
def test_it_says_which_files_are_damaged(tmp_path, name):
    search_all(tmp_path)
    (tmp_path / "trials" / name).write_text('{"half')

    with pytest.raises(MLError, match="Expected whole files of a search"):
        search(tmp_path)


def test_it_tells_of_a_trial_that_failed_and_goes_on(tmp_path):
    tried, say = [], Listener()

    def failing_once(settings):
        tried.append(settings)
        if len(tried) == 1:
            raise MemoryError("too large")
        return quick(settings)

    rows = search_all(tmp_path, try_settings=failing_once, say=say)

    assert [row["trial"] for row in sorted(rows, key=lambda row: row["trial"])] == [2, 3]
    assert [line for line in say.lines if "trial 1 of 3 failed" in line and "MemoryError: too large" in line]


# -- the own network --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_cnn(monkeypatch):
    """The own network with an eighth of its filters and units: the search around it is what is tested."""

    def build(num_classes, *, filters, units, **options):
        return build_cnn(num_classes, filters=[number // 8 for number in filters], units=units // 8, **options)

    monkeypatch.setattr(tuning, "build_cnn", build)


@pytest.mark.slow
def test_it_leaves_the_best_settings_and_a_report(small_cnn, dataset, tmp_path, read_photos):
    best = TuningRun(cnn_config(), tmp_path, Listener()).tune_cnn(dataset, 3)

    settings = json.loads((tmp_path / "best.json").read_text())
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(settings) == {"filters", "units", "dropout", "learning_rate", "loss"}
    assert settings == best["settings"] == report["best"]["settings"]
    assert len(report["trials"]) == 3
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in report["trials"])
    assert report["photos"] == {"train": 42, "val": 9}
    assert "<h2>Trials</h2>" in (tmp_path / "index.html").read_text()
    assert {item.split for item in read_photos} == {"train", "val"}


@pytest.mark.slow
def test_it_finds_the_same_after_a_kill(small_cnn, dataset, tmp_path):
    whole = TuningRun(cnn_config(), tmp_path / "whole", Listener()).tune_cnn(dataset, 3)
    with pytest.raises(Killed):
        TuningRun(cnn_config(), tmp_path / "killed", Listener("trial 1")).tune_cnn(dataset, 3)
    say = Listener()

    resumed = TuningRun(cnn_config(), tmp_path / "killed", say).tune_cnn(dataset, 3)

    assert say.trials() == ["trial 2 of 3", "trial 3 of 3"]
    assert resumed["settings"] == whole["settings"]
    assert resumed["val_log_loss"] == pytest.approx(whole["val_log_loss"], rel=1e-3)


def test_it_refuses_a_folder_of_another_search(small_cnn, dataset, tmp_path):
    with pytest.raises(Killed):
        TuningRun(cnn_config(), tmp_path, Listener("3 breeds")).tune_cnn(dataset, 1)

    with pytest.raises(MLError, match="Expected a new folder"):
        TuningRun(cnn_config(seed=1), tmp_path, Listener()).tune_cnn(dataset, 1)


@pytest.mark.parametrize(("trials", "message"), [(2, "failures only"), (4, "three failures in a row, .*too large")])
def test_it_refuses_a_search_without_a_figure(dataset, tmp_path, monkeypatch, trials, message):
    def fail(*_arguments):
        raise MemoryError("too large")

    monkeypatch.setattr(tuning, "try_cnn", fail)

    with pytest.raises(MLError, match=message):
        TuningRun(cnn_config(), tmp_path, Listener()).tune_cnn(dataset, trials)


def test_it_stops_a_trial_that_gets_no_better():
    inputs, index = points()
    examples = Examples(inputs, index, inputs, index, 3)
    network = linear_network()

    figures = tuning.fit_and_measure(network, KL, 0.5, examples, cnn_config(epochs=40, patience=2))

    assert figures["val_accuracy"] == 1.0
    assert figures["epochs"] < 10


# -- a head -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_goes_on_with_a_backbone_without_weights(tiny_backbone, monkeypatch, dataset, tmp_path):
    config = TuningConfig(recipe="head", epochs=2, image_size=32, backbone="tiny")
    monkeypatch.setattr(keras.initializers, "GlorotUniform", lambda seed: keras.initializers.HeNormal())
    for trials in (1, 2):
        say = Listener()
        TuningRun(config, tmp_path / "run", say).tune_head(dataset, trials, weights=None, cache_dir=tmp_path)

    assert say.trials() == ["trial 2 of 2"]


@pytest.mark.slow
def test_it_searches_a_head_on_features_that_it_computes_once(tiny_backbone, dataset, tmp_path, read_photos):
    config = TuningConfig(recipe="head", epochs=3, image_size=32, backbone="tiny")
    TuningRun(config, tmp_path / "first", Listener()).tune_head(
        dataset, 1, weights=None, cache_dir=tmp_path / "features"
    )
    assert {item.split for item in read_photos} == {"train", "val"}
    read_photos.clear()

    best = TuningRun(config, tmp_path / "second", Listener()).tune_head(
        dataset, 6, weights=None, cache_dir=tmp_path / "features"
    )

    assert not read_photos
    assert json.loads((tmp_path / "second" / "best.json").read_text()) == best["settings"]
    rows = json.loads((tmp_path / "second" / "report.json").read_text())["trials"]
    assert {row["settings"]["head"] for row in rows} == {"linear", "hidden"}


def test_it_refuses_grey_photos_for_a_backbone(tiny_backbone, dataset, tmp_path):
    grey = replace(dataset, steps=("greyscale",), image_size=32)
    config = TuningConfig(recipe="head", image_size=32, backbone="tiny")

    with pytest.raises(MLError, match="photos in colour"):
        TuningRun(config, tmp_path, Listener()).tune_head(grey, 1, weights=None, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "head",
    [
        {"head": "linear", "strength": 1.0},
        {"head": "hidden", "units": 64, "dropout": 0.1, "learning_rate": 1e-2, "l2": 1e-6},
    ],
)
def test_it_fits_either_head_to_raw_features(head):
    inputs, index = points()
    inputs = inputs * 1000 + 5000  # far from standardised
    examples = Examples(inputs, index, inputs, index, 3)

    figures = try_head(head, examples, TuningConfig(recipe="head", epochs=20))

    assert figures["val_accuracy"] > 0.95
    assert figures["val_log_loss"] < 0.5


def test_it_tries_the_hidden_head_that_training_makes():
    inputs, index = points()
    arrays = inputs[::2], inputs[1::2], index[::2], index[1::2]
    settings = {"head": "hidden", "units": 8, "dropout": 0.1, "learning_rate": 1e-2, "l2": 1e-6}
    examples = Examples(arrays[0], arrays[2], arrays[1], arrays[3], 3)

    keras.utils.set_random_seed(0)
    tried = try_head(settings, examples, TuningConfig(recipe="head", epochs=5, batch_size=7))
    keras.utils.set_random_seed(0)
    (hidden_kernel, hidden_bias, kernel, bias), _ = fit_hidden_head(*arrays, 3, settings, epochs=5)

    logits = np.maximum(arrays[1] @ hidden_kernel + hidden_bias, 0) @ kernel + bias
    assert tried["val_log_loss"] == pytest.approx(log_loss(softmax(logits), arrays[3]), rel=1e-4)


def test_it_shows_a_dash_where_a_trial_has_no_such_setting():
    rows = [
        {"trial": 2, "settings": {"head": "linear", "strength": 0.1}, "val_accuracy": 0.9, "val_log_loss": 0.2,
         "parameters": 10.0, "seconds": 1.5},
        {"trial": 1, "settings": {"head": "hidden", "units": 64}, "val_accuracy": 0.8, "val_log_loss": 0.3,
         "best_epoch": 4.0, "parameters": 20.0, "seconds": 2.5},
    ]  # fmt: skip

    headers, cells = trial_table(rows)

    assert headers[:4] == ["trial", "head", "strength", "units"]
    assert cells == [[2, "linear", 0.1, None, 0.9, 0.2, None, 10, 1.5], [1, "hidden", None, 64, 0.8, 0.3, 4, 20, 2.5]]


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_a_command(small_cnn, dataset_folder, tmp_path, capsys):
    call_command(
        "tune", "cnn", dataset=dataset_folder, out=tmp_path / "search", breeds="pug,whippet", trials=1, epochs=1,
        image_size=32,
    )  # fmt: skip

    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "search" / "report.json").read_text())
    assert "trial 1 of 1: val accuracy" in printed
    assert report["labels"] == ["pug", "whippet"]
    assert report["config"]["steps"][0] == "greyscale"
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.parametrize("options", [{"trials": 0}, {"breeds": "husky"}, {"steps": "sharpen"}])
def test_it_refuses_what_it_cannot_search(dataset_folder, tmp_path, options):
    with pytest.raises(CommandError, match="Expected"):
        call_command("tune", "cnn", dataset=dataset_folder, out=tmp_path / "search", **options)

    assert not (tmp_path / "search").exists()
