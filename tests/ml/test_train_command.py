"""What `manage.py train` makes of its command line."""

import json

import pytest
from django.core.management import CommandError

from breeds.management.commands.train import config_of
from ml.images.preprocessing import CLASSIC_STEPS
from tests.support import commands
from tests.support.ml import write_dataset


def run(*arguments) -> str:
    return commands.run("train", *arguments)


def options(*arguments) -> dict:
    from breeds.management.commands.train import Command

    return vars(Command().create_parser("manage.py", "train").parse_args([str(argument) for argument in arguments]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (["cnn", "--breeds", "3"], "13,233,923"),
        (["transfer", "--backbone", "mobilenetv2"], "2,411,704"),
        (["fine-tune", "--backbone", "xception", "--breeds", "20"], "20,902,460"),
    ],
)
def test_it_prints_the_network_and_its_parameters_and_stops(arguments, parameters):
    assert f"{parameters} parameters" in run(*arguments, "--summary")


@pytest.mark.slow
def test_it_summarises_what_the_tuner_found(tmp_path):
    best = {"filters": [32, 64, 128], "units": 384, "dropout": 0.25, "learning_rate": 1e-4, "loss": "kl_divergence"}
    (tmp_path / "best.json").write_text(json.dumps(best))
    said = run("cnn", "--breeds", "3", "--config", tmp_path / "best.json", "--summary")
    assert "38,629,379 parameters" in said


def test_it_takes_what_the_deck_took_where_nothing_is_said():
    cnn, extra = (config_of(options(recipe, "--out", "x"), ()) for recipe in ("cnn", "cnn-extra"))
    assert (cnn.stages, cnn.batch_size, cnn.patience, cnn.augment) == (((224, 20),), 40, 10, False)
    assert cnn.steps == extra.steps == CLASSIC_STEPS
    transfer, tuned = (config_of(options(recipe, "--out", "x"), ()) for recipe in ("transfer", "fine-tune"))
    assert (transfer.stages, transfer.layers, transfer.average) == ((), None, True)
    assert (tuned.layers, tuned.patience, tuned.average) == (15, 10, False)


def test_it_takes_the_head_that_the_tuner_found(tmp_path):
    best = {"head": "hidden", "units": 128, "dropout": 0.3, "learning_rate": 1e-3, "l2": 1e-5}
    (tmp_path / "best.json").write_text(json.dumps(best))

    config = config_of(options("transfer", "--out", "x", "--config", tmp_path / "best.json"), ())

    assert (config.head, config.dropout, config.learning_rate) == (best, 0.3, 7.5e-5)


@pytest.mark.parametrize("recipe", ["cnn", "transfer"])
@pytest.mark.parametrize("found", ['{"filters": [32]}', '{"head": "tall"}', "[]", "half a fi"])
def test_it_refuses_what_another_search_found(tmp_path, recipe, found):
    (tmp_path / "best.json").write_text(found)

    with pytest.raises(CommandError, match=r"Expected best\.json of tune (cnn|head)\. Received: .*best\.json"):
        config_of(options(recipe, "--out", "x", "--config", tmp_path / "best.json"), ())


def test_it_lets_the_command_line_win():
    given = ["--epochs", 3, "--learning-rate", 0.01, "--batch-size", 8, "--augment", "--steps", "greyscale,gaussian"]
    config = config_of(options("cnn", "--out", "x", *given), ())
    assert (config.stages, config.learning_rate, config.batch_size, config.augment) == (((224, 3),), 0.01, 8, True)
    assert config.steps == ("greyscale", "gaussian")


def test_it_keeps_the_size_of_serving_in_the_settings():
    assert config_of(options("transfer", "--out", "run", "--serve-size", "288"), ()).serve_size == 288


def test_it_serves_an_own_network_at_its_own_size_alone():
    with pytest.raises(CommandError, match="--serve-size with a pretrained backbone"):
        config_of(options("cnn", "--serve-size", "288"), ())


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dogs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--breeds", "pug,witch"], "witch"),
        (["--breeds", "5"], "2 to 3"),
        (["--weights", "nothing.h5"], "weights of MobileNetV2"),
        (["--backbone", "resnet9000"], "Expected a backbone among"),
    ],
)
def test_it_says_in_one_line_what_is_wrong(dataset, tmp_path, arguments, message):
    with pytest.raises(CommandError, match=message) as caught:
        run("transfer", "--dataset", dataset, "--out", tmp_path / "run", *arguments)
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("missing", ["--dataset", "--out"])
def test_it_wants_a_dataset_and_a_folder(tmp_path, missing):
    given = {"--dataset": tmp_path, "--out": tmp_path / "run"}
    del given[missing]
    with pytest.raises(CommandError, match="Expected --dataset and --out"):
        run("cnn", *(part for pair in given.items() for part in pair))


def test_it_says_so_when_the_weights_cannot_be_had_from_the_web(dataset, tmp_path, monkeypatch):
    import keras

    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(keras.utils, "get_file", offline)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    with pytest.raises(CommandError, match=r"Give --weights FILE where there is no internet"):
        run("transfer", "--dataset", dataset, "--out", tmp_path / "run")
