"""One short run of each benchmark that needs no running Flair. Their figures are not tested."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module

import numpy as np
import pytest

from benchmarks import api, checkpoints, classifier, pipeline, pixels, views
from ml.serving.calibration import softmax
from ml.serving.inference import Classifier
from tests.support.ml import (
    LABELS,
    REPOSITORY,
    colour_model,
    colour_network,
    encode,
    plain_picture,
    write_checkpoint,
    write_dataset,
)

MODULES = sorted(path.stem for path in (REPOSITORY / "benchmarks").glob("*.py") if not path.stem.startswith("rival_"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A classifier of plain colours, with its network for Keras."""
    folder = write_checkpoint(tmp_path_factory.mktemp("colours"), network=colour_network())
    colour_model().save(folder / "model.keras")
    return Classifier.load(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("photos"), [label.slug for label in LABELS], photos=10)


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported(name):
    import_module(f"benchmarks.{name}")


def test_it_does_not_time_a_network_that_computes_another_function():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    runs = {classifier.SERVED: lambda image: np.array([1.0, 0.0]), "other": lambda image: np.array([0.0, 1.0])}

    figures = classifier.compare_networks(runs, images, None, softmax, rounds=1)

    assert [name for name, row in figures.items() if "median" in row] == [classifier.SERVED]


@pytest.mark.slow
def test_it_compares_runtimes_and_decoders_with_what_is_served(colours, tmp_path, capsys):
    photo, checkpoint = classifier.made_jpeg((640, 480)), colours.checkpoint
    runs, missing = classifier.load(classifier.networks(checkpoint, 1, tmp_path))
    images, label_index = classifier.photos_of(None, 2, checkpoint)
    decoders = {name: make() for name, make in classifier.decoders(224, 1).items() if "illow" in name}
    figures = {
        "networks": classifier.compare_networks(runs, images, label_index, checkpoint.calibration, rounds=1),
        "decoders": classifier.compare_decoders(decoders, photo, rounds=1),
        "whole": classifier.compare_whole(colours, photo, rounds=1),
    }

    classifier.say({"threads": 1, "photos": 2, "jpeg": len(photo), "load": 0.0, "missing": missing} | figures)

    assert figures["networks"][classifier.SERVED]["difference"] < 1e-4
    assert figures["decoders"][classifier.DECODED]["difference"] < 3
    assert f"network alone: {figures['whole']['ratio']:.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_it_puts_checkpoints_into_one_table(colours, dataset, capsys):
    folder = str(colours.checkpoint.folder)
    arguments = ["--dataset", str(dataset), "--whole", str(dataset), "--rounds", "1"]

    first, second = checkpoints.main([folder, folder, *arguments])

    assert first[2:7] == second[2:7]
    assert "| checkpoint | pixels | top-1 |" in capsys.readouterr().out


@pytest.mark.slow
def test_it_measures_every_way_to_crop_a_photo(colours):
    photos = [encode(plain_picture(colour, (40, 60)), "PNG") for colour in ("red", "lime", "blue")]

    figures = views.measure(colours, photos, np.array([0, 1, 2]), say=lambda line: None)

    assert [row["top1"] for row in figures.values()] == [1.0] * 8


@pytest.mark.slow
def test_it_measures_one_network_at_several_sizes(colours, dataset, capsys):
    checkpoint = str(colours.checkpoint.folder)
    figures = pixels.main(
        [
            "--dataset",
            str(dataset),
            "--checkpoint",
            checkpoint,
            "--split",
            "all",
            "--sizes",
            "32",
            "48",
            "--rounds",
            "1",
        ]
    )

    assert figures.keys() == {32, 48}
    assert "| 48 |" in capsys.readouterr().out


def test_it_counts_each_api_call_once_and_waits_while_the_server_is_busy(capsys):
    calls = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            calls.append(self.path)
            self.send_response(500 if len(calls) % 10 == 0 else 429 if len(calls) % 3 == 0 else 200)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        cell = api.Load(api.Server("Flair", server.server_port), False, api.photos(64, 48), 30).run(4)
        server.shutdown()
    api.print_table("predict/", 4, {"Flair": cell, "LitServe": replace(cell)})

    assert len(cell.latencies) + cell.failed == 30
    assert len(calls) == 30 + cell.busy
    assert capsys.readouterr().out.splitlines()[-1].count("1.00×") == 2


def test_it_times_bare_decoding_beside_the_whole_pipeline(tmp_path, capsys):
    photos = pipeline.write_photos(tmp_path / "photos", range(1))
    rate, cost = pipeline.bare("decode", list(photos.iterdir()), processes=1)
    figures = {"network": [rate / 2], "whole": [rate / 4], "import alone": [rate], "workers alone": [rate / 3]}

    pipeline.say({"decode": [rate], "processor": [cost]} | figures, 2)

    assert "whole / bound                      75%" in capsys.readouterr().out
