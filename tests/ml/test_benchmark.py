"""`make bench-classifier` does what it says, with whatever is installed. What it measures is not looked at here."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import checkpoints, pixels, views
from benchmarks import classifier as benchmark
from ml.images.preprocessing import prepare_image
from ml.serving.calibration import softmax
from ml.serving.inference import Classifier
from tests.support.ml import (
    LABELS,
    colour_model,
    colour_network,
    encode,
    plain_picture,
    write_checkpoint,
    write_dataset,
)

JPEG = benchmark.made_jpeg((640, 480))


@pytest.fixture
def checkpoint(tmp_path):
    return Classifier.load(write_checkpoint(tmp_path / "checkpoint", network=colour_network())).checkpoint


def test_it_makes_a_photo_of_five_megapixels():
    data = benchmark.made_jpeg()

    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (2592, 1944))
    assert 500_000 < len(data) < 5_000_000


def test_it_lets_every_candidate_run_as_often_and_counts_not_the_first_time():
    calls = {"a": 0, "b": 0}

    def run(name):
        calls[name] += 1

    figures = benchmark.race({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=3)

    assert calls == {"a": 4, "b": 4}
    assert set(figures["a"]) == {"median", "p90", "processor"}


def test_it_names_what_is_not_installed_and_goes_on():
    def absent():
        import a_runtime_that_nobody_has  # noqa: F401

    loaded, missing = benchmark.load({"here": lambda: print, "absent": absent})

    assert list(loaded) == ["here"]
    assert "a_runtime_that_nobody_has" in missing["absent"]


def test_it_does_not_time_a_network_that_is_another_function():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1] = 9
    runs = {
        benchmark.SERVED: lambda image: np.array([1.0, float(image.mean())]),
        "same": lambda image: np.array([1.0, float(image.mean()) + 1e-6]),
        "other": lambda image: np.array([1.0, 0.5]),
    }

    figures = benchmark.compare_networks(runs, images, np.array([0, 1]), softmax, rounds=1)

    assert {name for name, row in figures.items() if "median" in row} == {benchmark.SERVED, "same"}
    assert [row["top1"] for row in figures.values()] == [1.0, 1.0, 0.5]


@pytest.mark.slow
def test_it_compares_the_served_network_with_those_that_are_there(checkpoint, tmp_path):
    runs, missing = benchmark.load(benchmark.networks(checkpoint, 1, tmp_path))
    images, label_index = benchmark.photos_of(None, 2, checkpoint)

    figures = benchmark.compare_networks(runs, images, label_index, checkpoint.calibration, rounds=1)

    assert figures[benchmark.SERVED]["difference"] == 0
    assert "the checkpoint has no model.keras" in missing.values()
    assert runs.keys() | missing.keys() == benchmark.networks(checkpoint, 1, tmp_path).keys()


def test_it_decodes_as_flair_does_and_near_to_what_pillow_gives_at_full_scale():
    ways = {name: make() for name, make in benchmark.decoders(224, 1).items() if "illow" in name}

    figures = benchmark.compare_decoders(ways, JPEG, rounds=1)

    np.testing.assert_array_equal(ways[benchmark.DECODED](JPEG), prepare_image(JPEG, 224))
    assert figures["Pillow at full scale"]["difference"] == 0
    assert figures[benchmark.DECODED]["difference"] < 3


@pytest.mark.slow
def test_it_measures_the_whole_way_beside_its_parts(checkpoint, capsys):
    whole = benchmark.compare_whole(Classifier(checkpoint), JPEG, rounds=1)

    assert {"bytes to decision", "decode alone", "network alone", "preview"} <= whole["parts"].keys()
    network = {
        benchmark.SERVED: {"difference": 0.0, "median": 1.0, "p90": 1.0, "processor": 1.0},
        "other": {"difference": 1.0},
    }
    decoders = {benchmark.DECODED: {"median": 1.0, "p90": 1.0, "processor": 1.0, "difference": 0.0}}
    benchmark.say(
        {"threads": 1, "photos": 2, "jpeg": 9, "load": 0.0, "networks": network, "decoders": decoders, "whole": whole,
         "missing": {"OpenVINO": "not installed"}}
    )  # fmt: skip
    said = capsys.readouterr().out
    assert f"network alone: {whole['ratio']:.2f}" in said
    assert "left out: OpenVINO" in said
    assert "| other | not the same function |" in said


@pytest.mark.slow
def test_it_puts_checkpoints_into_one_table(tmp_path, capsys):
    network = colour_network()
    folders = [str(write_checkpoint(tmp_path / name, network=network)) for name in ("one", "two")]
    photos = write_dataset(tmp_path / "photos", [label.slug for label in LABELS], photos=10)

    rows = checkpoints.main([*folders, "--dataset", str(photos), "--whole", str(photos), "--rounds", "1"])

    assert len(rows) == 2
    assert all(len(row) == len(checkpoints.HEADS) and all(row) for row in rows)
    assert rows[0][2:7] == rows[1][2:7]  # the same network on the same photos
    assert "| checkpoint | pixels | top-1 |" in capsys.readouterr().out


# -- several views ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("colours"), network=colour_network())
    colour_model().save(folder / "model.keras")
    return Classifier.load(folder)


def red_corner(size=(96, 64)) -> Image.Image:
    picture = plain_picture("black", size)
    picture.paste((255, 0, 0), (size[0] - 32, 40, size[0] - 16, 56))  # at the right end of the centre square
    return picture


def test_it_looks_again_where_the_best_label_rests_on(colours):
    look = views.SecondLook(colours)
    picture = red_corner()

    left, top, right, bottom = look(picture, prepare_image(encode(picture, "PNG"), 32), best=0)

    assert left <= 64 <= 80 <= right
    assert top <= 40 <= 56 <= bottom
    assert right - left == bottom - top < 32


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (50, 50)])
def test_it_never_looks_outside_the_photo(size):
    picture = plain_picture("white", size)

    for box in [views.centre(picture), views.centre(picture, 0.8), *views.ends(picture)]:
        assert 0 <= box[0] < box[2] <= size[0]
        assert 0 <= box[1] < box[3] <= size[1]
        assert box[2] - box[0] == pytest.approx(box[3] - box[1])
    assert views.padded(picture, 32).size == (32, 32)


@pytest.mark.slow
def test_it_measures_every_way_to_look(colours):
    photos = [encode(plain_picture(colour, (40, 60)), "PNG") for colour in ("red", "lime", "blue")]

    figures = views.measure(colours, photos, np.array([0, 1, 2]), say=lambda line: None)

    assert len(figures) == 8
    assert {row["top1"] for row in figures.values()} == {1.0}


@pytest.mark.slow
def test_it_measures_the_same_network_at_several_sizes(colours, tmp_path, capsys):
    photos = write_dataset(tmp_path / "photos", [label.slug for label in LABELS], photos=4)

    figures = pixels.main(
        ["--dataset", str(photos), "--checkpoint", str(colours.checkpoint.folder), "--split", "all",
         "--sizes", "32", "48", "--rounds", "1"]
    )  # fmt: skip

    assert figures.keys() == {32, 48}
    assert all(row["milliseconds"] > 0 for row in figures.values())
    assert "| 48 |" in capsys.readouterr().out
