"""Figures of a classifier, its examination before photos, and runs beside each other."""

import json

import numpy as np
import pytest
from django.core.management import CommandError

from ml import MLError
from ml.data.loading import scan_dataset
from ml.evaluation.comparison import DECK, deck_key, read_run, table
from ml.evaluation.examination import examine
from ml.evaluation.metrics import (
    bootstrap_interval,
    confusion_matrix,
    coverage_accuracy,
    measure_decisions,
    measure_few_breeds,
    measure_without_dog,
    per_label,
    reliability,
    worst_pairs,
)
from ml.serving.inference import Classifier
from tests.support.commands import run
from tests.support.ml import LABELS, colour_network, plain_picture, write_checkpoint, write_photo

TRUTH, CALLED = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
SLUGS = ["pug", "whippet", "boxer"]


def test_it_counts_per_label_what_was_found_and_what_was_rightly_called():
    pug, whippet, boxer = per_label(CALLED, TRUTH, SLUGS)
    assert (pug["n"], pug["recall"], pug["precision"]) == (3, 2 / 3, 2 / 4)
    assert (whippet["recall"], whippet["precision"]) == (1 / 2, 1 / 2)
    assert (boxer["recall"], boxer["precision"]) == (0, None)


def test_it_counts_what_is_taken_for_what():
    matrix = confusion_matrix(CALLED, TRUTH, 3)
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert worst_pairs(matrix) == [(0, 1, 1), (1, 0, 1), (2, 0, 1)]


def test_it_compares_what_was_said_with_what_was_right():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    sure, less = reliability(probs, np.array([0, 1, 1, 1]))[::-1]
    assert (sure["n"], sure["confidence"], sure["accuracy"]) == (2, pytest.approx(0.9), 0.5)
    assert (less["n"], less["accuracy"]) == (2, 1.0)


def test_it_answers_the_surest_photos_first():
    probs = np.array([[0.6, 0.4], [0.99, 0.01], [0.2, 0.8]])
    coverage, accuracy = coverage_accuracy(probs, np.array([1, 0, 1]))
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert accuracy.tolist() == pytest.approx([1, 1, 2 / 3])


def test_it_measures_among_a_few_breeds_by_hiding_the_others():
    """Each photo is called by the next breed; that counts only where the next breed is among the few."""
    truth = np.repeat(np.arange(30), 10)
    logits = np.eye(30)[truth] + 2 * np.eye(30)[(truth + 1) % 30]

    few = measure_few_breeds(logits, truth, breeds=5, draws=20)

    assert (logits.argmax(axis=1) == truth).mean() == 0
    assert few["lowest"] < few["top1"] < 1
    assert few["top1"] == pytest.approx(1 - 4 / 29, abs=0.08)  # the next breed is one of four others of 29
    low, high = few["interval"]
    assert low < few["top1"] < high
    assert measure_few_breeds(logits, truth, breeds=30) is None


def test_it_gives_an_interval_that_holds_the_truth_as_often_as_it_says():
    """Shares of coins: 95 % of the intervals of samples hold the true share, give or take what 200 samples allow."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        coins = rng.random(300) < 0.3
        low, high = bootstrap_interval(lambda some, coins=coins: coins[some].mean(), 300, resamples=200, seed=seed)
        held += low <= 0.3 <= high
    assert 180 <= held <= 199


def test_it_counts_photos_without_a_dog_that_pass_for_one():
    energies, of_dogs = np.array([0.0, 1.0, 2.0, 9.0]), np.linspace(5, 10, 101)

    found = measure_without_dog(energies, of_dogs, threshold=2.0)

    assert (found["n"], found["accepted"], found["accepted_at_95"]) == (4, 0.5, 0.25)
    assert found["accepted_interval"][0] < 0.5 < found["accepted_interval"][1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Three colours, told apart by their mean."""
    folder = write_checkpoint(
        tmp_path_factory.mktemp("colours") / "checkpoint",
        colour_network(),
        config={"recipe": "transfer", "backbone": "mobilenetv2", "augment": True},
    )
    (folder / "metrics-test.json").write_text(
        json.dumps({"n": 10, "top1": 0.9, "top1_interval": [0.6, 0.98], "loss": 0.3, "training_seconds": 12.0})
    )
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for label, colour in (("red_setter", "red"), ("green_setter", "lime"), ("blue_dingo", "blue")):
        for number in range(10):
            write_photo(folder / label / f"{number}.png", plain_picture(colour, (40 + number, 40)))
    return folder


def test_it_examines_a_classifier_as_it_serves(checkpoint, colours):
    classifier, photos = Classifier.load(checkpoint), scan_dataset(colours)
    found = examine(classifier, photos, photos.items)
    assert [found.slugs[i] for i in found.label_index] == [item.label for item in photos.items]
    np.testing.assert_allclose(found.logits[0], classifier.logits(photos.read(photos.items[0])), rtol=1e-5)
    figures = found.figures()
    assert (figures["n"], figures["top1"]) == (30, 1.0)


def test_it_refuses_photos_of_other_labels(checkpoint, tmp_path):
    for label in ("pug", "whippet"):
        write_photo(tmp_path / label / "1.png", plain_picture("red"))
    photos = scan_dataset(tmp_path)
    with pytest.raises(MLError, match=r"Expected photos of the 3 labels of made\. Received: pug, whippet"):
        examine(Classifier.load(checkpoint), photos, photos.items)


def test_it_shares_decisions_and_their_precision(checkpoint, colours):
    classifier, photos = Classifier.load(checkpoint), scan_dataset(colours)
    found = examine(classifier, photos, photos.items)
    decisions = [classifier.decide(*row) for row in zip(found.logits, found.embeddings, strict=True)]
    figures = measure_decisions(decisions, found.label_index, LABELS)
    assert sum(level["share"] for level in figures.values()) == pytest.approx(1)
    assert figures["breed"]["precision"] == 1


def test_the_command_writes_a_report_and_says_the_figures(checkpoint, colours, tmp_path):
    said = run("evaluate", checkpoint, colours, "--split", "all", "--out", tmp_path / "a report")
    assert "top-1 100.0%" in said
    report = json.loads((tmp_path / "a report" / "report.json").read_text())
    assert report["command"] == f"manage.py evaluate {checkpoint.name} {colours.name} --split all --out 'a report'"
    assert report["figures"]["n"] == 30
    assert np.trace(report["confusion_matrix"]) == 30
    assert "Confusion matrix" in (tmp_path / "a report" / "index.html").read_text()


def test_the_command_leaves_out_breeds_that_the_classifier_lacks_and_says_so(checkpoint, colours, tmp_path):
    photos = tmp_path / "photos"
    write_photo(photos / "pug" / "1.png", plain_picture("red"))
    write_photo(photos / "red_setter" / "1.png", plain_picture("red", (50, 50)))
    said = run("evaluate", checkpoint, photos, "--split", "all", "--out", tmp_path / "report")
    assert "left out: pug" in said
    assert "of 1 photos" in said


@pytest.mark.parametrize("wrong", ["checkpoint", "dataset", "labels"])
def test_the_command_says_in_one_line_what_is_wrong(checkpoint, colours, tmp_path, wrong):
    other = tmp_path / "other"
    write_photo(other / "pug" / "1.png", plain_picture("red"))
    write_photo(other / "whippet" / "1.png", plain_picture("blue"))
    arguments = {
        "checkpoint": (tmp_path, colours),
        "dataset": (checkpoint, tmp_path / "nothing"),
        "labels": (checkpoint, other),
    }[wrong]
    with pytest.raises(CommandError, match=r"^Expected .* Received: ") as caught:
        run("evaluate", *arguments, "--split", "all", "--out", tmp_path / "report")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("config", "breeds", "model"),
    [
        ({"recipe": "cnn", "augment": False}, 3, "CNN_model"),
        ({"recipe": "cnn", "augment": False, "filters": [32, 64, 128]}, 3, "best_model"),
        ({"recipe": "cnn", "augment": True, "filters": [32, 64, 128]}, 3, "best_model_aug"),
        ({"recipe": "cnn-extra", "augment": True}, 3, "CNN_model_aug"),
        ({"recipe": "cnn", "augment": False}, 120, "CNN on 120 breeds"),
        ({"recipe": "transfer", "backbone": "vgg16", "augment": True}, 3, "model_vgg16"),
        ({"recipe": "transfer", "backbone": "mobilenetv2", "augment": True}, 50, "Xception, tuned"),
        ({"recipe": "fine-tune", "backbone": "mobilenetv2", "augment": True}, 20, "Xception, last 15 layers"),
    ],
)
def test_it_knows_which_of_the_decks_systems_a_run_is_like(config, breeds, model):
    assert DECK[deck_key(config, breeds)].model == model


def test_it_puts_a_run_beside_the_decks_figures(checkpoint):
    run_of = read_run(checkpoint)
    rows = table([run_of])
    assert rows[0][:6] == ["made", 3, "90.0%", "60.0% – 98.0%", "0.300", "12"]
    assert rows[0][6:] == ["Xception, tuned", "95.6%", "0.192", None]


def test_the_compare_command_prints_the_table_and_writes_a_report(checkpoint, tmp_path):
    assert "Xception, tuned" in run("compare", checkpoint, "--out", tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0][0] == "made"


def test_the_compare_command_refuses_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(CommandError, match="Expected a finished run"):
        run("compare", tmp_path)
