"""Probabilities that mean what they say, and figures that count what they name."""

import numpy as np
import pytest

from ml import MLError
from ml.evaluation.metrics import measure, measure_decisions, wilson_interval
from ml.serving.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    log_loss,
    softmax,
)
from ml.serving.decision import Candidate, Decision, Label, Level


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_it_turns_logits_into_distributions(temperature):
    probs = softmax(np.random.default_rng(0).normal(size=(50, 9)) * 10, temperature)

    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)


def test_it_gives_known_probabilities():
    np.testing.assert_allclose(softmax(np.log([1.0, 2.0, 5.0])), [0.125, 0.25, 0.625])


def test_it_softens_with_the_temperature():
    np.testing.assert_allclose(softmax(np.log([1.0, 4.0]), temperature=2.0), [1 / 3, 2 / 3])


@pytest.mark.parametrize("shift", [-1e6, 0, 1e6])
def test_it_stays_stable_for_huge_logits(shift):
    np.testing.assert_allclose(softmax(np.array([[1.0, 1.0, -2000.0]]) + shift), [[0.5, 0.5, 0.0]])


def test_it_measures_the_log_loss_of_the_true_labels():
    probs = np.array([[0.5, 0.5], [0.25, 0.75]])

    assert log_loss(probs, np.array([0, 0])) == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_it_measures_a_finite_log_loss_where_the_truth_was_excluded():
    assert np.isfinite(log_loss(np.array([[1.0, 0.0]]), np.array([1])))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_it_recovers_the_temperature_that_labels_were_drawn_with(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6000, 5)) * 3
    label_index = (softmax(logits, temperature).cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1)

    assert fit_temperature(logits, label_index) == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize(("temperature", "doubt"), [(0.5, 0.3), (0.7, 0.1)])
def test_it_recovers_the_doubt_that_labels_were_drawn_with(temperature, doubt):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 20)) * 3
    drawn_with = Calibration(temperature, doubt)
    label_index = (drawn_with(logits).cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1)

    found = fit_calibration(logits, label_index)

    assert log_loss(found(logits), label_index) <= log_loss(drawn_with(logits), label_index)
    assert log_loss(found(logits), label_index) < log_loss(
        softmax(logits, fit_temperature(logits, label_index)), label_index
    )
    np.testing.assert_allclose(found(logits), drawn_with(logits), atol=0.03)


def test_it_doubts_without_changing_the_order_or_the_sum():
    logits = np.random.default_rng(0).normal(size=(50, 9)) * 5
    probs = Calibration(0.6, 0.2)(logits)

    np.testing.assert_array_equal(probs.argsort(axis=1), logits.argsort(axis=1))
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    np.testing.assert_array_equal(Calibration(0.6)(logits), softmax(logits, 0.6))


def test_it_keeps_the_temperature_within_its_bounds():
    always_right, never_right = np.array([0, 1, 0]), np.array([1, 0, 1])
    logits = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])

    assert fit_temperature(logits, always_right) == pytest.approx(0.2, rel=0.05)
    assert fit_temperature(logits, never_right) == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize(
    ("probs", "label_index", "expected"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1], 0.0),
        ([[1.0, 0.0], [0.0, 1.0]], [1, 0], 1.0),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 1], 0.0),
        ([[0.9, 0.1], [0.6, 0.4]], [0, 1], (0.1 + 0.6) / 2),
        ([[0.9, 0.1], [0.92, 0.08], [0.6, 0.4], [0.7, 0.3]], [0, 1, 0, 0], (0.82 + 0.4 + 0.3) / 4),
    ],
)
def test_it_measures_a_known_calibration_error(probs, label_index, expected):
    assert expected_calibration_error(np.array(probs), np.array(label_index)) == pytest.approx(expected)


# -- figures ----------------------------------------------------------------------------------------------------------


def test_it_counts_the_true_label_among_the_first():
    logits = np.log([[0.4, 0.3, 0.2, 0.06, 0.04], [0.3, 0.4, 0.2, 0.06, 0.04], [0.06, 0.4, 0.2, 0.3, 0.04]])

    figures = measure(logits, np.array([0, 0, 0]))

    assert (figures["n"], figures["top1"], figures["top3"], figures["top5"]) == (3, 1 / 3, 2 / 3, 1.0)
    assert figures["loss"] == pytest.approx(-np.log([0.4, 0.3, 0.06]).mean())


def test_it_never_calls_a_network_right_that_tells_nothing_apart():
    assert measure(np.zeros((6, 10)), np.arange(6))["top1"] == 0


def test_it_measures_no_network_that_answers_nan():
    with pytest.raises(MLError, match="finite"):
        measure(np.full((6, 10), np.nan), np.arange(6))


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [(0, 0, (0.0, 1.0)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (0, 10, (0.0, 0.2775))],
)
def test_it_gives_the_interval_of_wilson(successes, n, expected):
    assert wilson_interval(successes, n) == pytest.approx(expected, abs=1e-4)


def test_it_counts_how_often_each_level_was_right():
    labels = [Label("beagle", "hounds"), Label("basset", "hounds"), Label("pug", "toys")]

    def found(level, label="", group=""):
        return Decision(level, label, group, 0.9, (Candidate("beagle", 0.9),))

    decisions = [
        found(Level.BREED, "beagle", "hounds"),
        found(Level.BREED, "beagle", "hounds"),
        found(Level.GROUP, "", "hounds"),
        found(Level.UNSURE),
    ]
    figures = measure_decisions(decisions, np.array([0, 1, 1, 2]), labels)

    assert (figures["breed"]["share"], figures["breed"]["precision"]) == (0.5, 0.5)
    assert (figures["group"]["share"], figures["group"]["precision"]) == (0.25, 1.0)
    assert (figures["unsure"]["share"], figures["not_a_dog"]["share"]) == (0.25, 0.0)
