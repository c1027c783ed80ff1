"""From calibrated probabilities to an answer one may act on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from ml.serving.calibration import softmax
from ml.serving.decision import (
    Because,
    Label,
    Level,
    Reason,
    Thresholds,
    choose_thresholds,
    decide,
    energy_of,
    group_probabilities,
)

LABELS = [
    Label("beagle", "scenthounds"),
    Label("basset", "scenthounds"),
    Label("pug", "toys"),
    Label("dingo", "wild_canids", wild=True),
]
THRESHOLDS = Thresholds(energy=2.0, breed=0.7, group=0.8)
SURE_DOG = 9.0


def precision_of(level, probs, label_index, labels, thresholds) -> float | None:
    """Share of right answers among those of one level on photos that all are dogs; None where there are none."""
    decisions = [decide(row, np.inf, labels, thresholds) for row in probs]
    right = [
        (found.label == labels[truth].slug) if level == Level.BREED else (found.group == labels[truth].group)
        for found, truth in zip(decisions, label_index, strict=True)
        if found.decision == level
    ]
    return sum(right) / len(right) if right else None


@pytest.mark.parametrize(
    ("probs", "energy", "level", "label", "group", "probability"),
    [
        ([0.9, 0.05, 0.03, 0.02], SURE_DOG, Level.BREED, "beagle", "scenthounds", 0.9),
        ([0.7, 0.1, 0.1, 0.1], SURE_DOG, Level.BREED, "beagle", "scenthounds", 0.7),
        ([0.1, 0.1, 0.7, 0.1], SURE_DOG, Level.BREED, "pug", "toys", 0.7),
        ([0.6999, 0.15, 0.1, 0.0501], SURE_DOG, Level.GROUP, "", "scenthounds", 0.8499),
        ([0.5, 0.3, 0.1, 0.1], SURE_DOG, Level.GROUP, "", "scenthounds", 0.8),
        ([0.3, 0.5, 0.2, 0.0], SURE_DOG, Level.GROUP, "", "scenthounds", 0.8),
        ([0.5, 0.2999, 0.1, 0.1001], SURE_DOG, Level.UNSURE, "", "", 0.5),
        ([0.35, 0.35, 0.2, 0.1], SURE_DOG, Level.UNSURE, "", "", 0.35),
        ([0.9, 0.05, 0.03, 0.02], 2.0, Level.BREED, "beagle", "scenthounds", 0.9),
        ([0.9, 0.05, 0.03, 0.02], 1.999, Level.NOT_A_DOG, "", "", 0.9),
        ([0.5, 0.3, 0.1, 0.1], 1.999, Level.NOT_A_DOG, "", "", 0.5),
        ([0.04, 0.03, 0.03, 0.9], SURE_DOG, Level.UNSURE, "", "", 0.04),
        ([0.71, 0.0, 0.0, 0.29], SURE_DOG, Level.BREED, "beagle", "scenthounds", 0.71),
    ],
)
def test_it_takes_the_first_level_that_fits(probs, energy, level, label, group, probability):
    found = decide(np.array(probs), energy, LABELS, THRESHOLDS)

    assert (found.decision, found.label, found.group) == (level, label, group)
    assert found.probability == pytest.approx(probability)


def test_it_offers_the_best_candidates_first_and_never_a_wild_canid():
    found = decide(np.array([0.1, 0.2, 0.15, 0.55]), SURE_DOG, LABELS, THRESHOLDS)

    assert [(c.label, c.probability) for c in found.candidates] == [("basset", 0.2), ("pug", 0.15), ("beagle", 0.1)]


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_it_offers_as_many_candidates_as_asked_for(top_k):
    assert len(decide(np.array([0.4, 0.3, 0.2, 0.1]), SURE_DOG, LABELS, THRESHOLDS, top_k=top_k).candidates) == top_k


@given(st.lists(st.floats(-30, 30), min_size=4, max_size=4), st.floats(-5, 5))
def test_it_names_only_what_its_candidates_and_groups_support(logits, energy):
    probs = softmax(np.array(logits))

    found = decide(probs, energy, LABELS, THRESHOLDS)

    probabilities = [candidate.probability for candidate in found.candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1 - probs[3])
    assert (found.decision == Level.NOT_A_DOG) == (energy < THRESHOLDS.energy)
    assert bool(found.label) == (found.decision == Level.BREED)
    assert bool(found.group) == (found.decision in (Level.BREED, Level.GROUP))
    assert found.label in ("", found.candidates[0].label)


# -- wild canids ------------------------------------------------------------------------------------------------------


@given(wild=st.floats(0.501, 1), first=st.floats(0, 1), second=st.floats(0, 1), threshold=st.floats(0, 1.1))
def test_it_names_nothing_where_most_of_the_probability_is_on_a_wild_canid(wild, first, second, threshold):
    rest = (1 - wild) * np.array([first, (1 - first) * second, (1 - first) * (1 - second)])

    found = decide(np.array([*rest, wild]), SURE_DOG, LABELS, Thresholds(2.0, threshold, threshold))

    assert (found.decision, found.label, found.group) == (Level.UNSURE, "", "")
    assert found.probability == pytest.approx(rest.max())
    assert found.reasons[-1] == Reason(Because.WILD_CANID_MASKED, wild, names=("dingo",))


def test_it_does_not_share_out_what_a_wild_canid_holds():
    found = decide(np.array([0.6, 0.05, 0.05, 0.3]), SURE_DOG, LABELS, THRESHOLDS)

    assert found.decision == Level.UNSURE  # 0.6 / 0.7 would have been a breed
    assert found.candidates[0].probability == 0.6


def test_it_names_no_group_that_is_less_likely_than_the_wild_canids():
    found = decide(np.array([0.25, 0.2, 0.05, 0.5]), SURE_DOG, LABELS, Thresholds(energy=2.0, breed=0.4, group=0.4))

    assert found.decision == Level.UNSURE
    assert found.reasons[1] == Reason(Because.GROUP_NOT_SURE, 0.45, 0.5, ("scenthounds",))


# -- reasons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probs", "energy", "reasons"),
    [
        ([0.9, 0.05, 0.03, 0.02], 1.5, [Reason(Because.NO_DOG, 1.5, 2.0)]),
        ([0.9, 0.05, 0.03, 0.02], 9.0, [Reason(Because.BREED_SURE, 0.9, 0.7, ("beagle",), 0.05)]),
        (
            [0.45, 0.05, 0.4, 0.1],
            9.0,
            [
                Reason(Because.BREEDS_CLOSE, 0.45, 0.7, ("beagle", "pug"), 0.4),
                Reason(Because.GROUP_NOT_SURE, 0.5, 0.8, ("scenthounds",)),
            ],
        ),
        (
            [0.5, 0.375, 0.1, 0.025],
            9.0,
            [
                Reason(Because.BREEDS_CLOSE, 0.5, 0.7, ("beagle", "basset"), 0.375),
                Reason(Because.GROUP_SURE, 0.875, 0.8, ("scenthounds",)),
            ],
        ),
        (
            [0.25, 0.125, 0.125, 0.5],
            9.0,
            [
                Reason(Because.BREED_NOT_SURE, 0.25, 0.7, ("beagle",), 0.125),
                Reason(Because.GROUP_NOT_SURE, 0.375, 0.8, ("scenthounds",)),
                Reason(Because.WILD_CANID_MASKED, 0.5, names=("dingo",)),
            ],
        ),
    ],
    ids=["no dog", "breed", "two close", "group", "wild"],
)
def test_it_says_why(probs, energy, reasons):
    assert list(decide(np.array(probs), energy, LABELS, THRESHOLDS).reasons) == reasons


def test_it_says_why_where_there_is_one_breed_only():
    labels = [LABELS[0], LABELS[3]]

    found = decide(np.array([0.4, 0.6]), SURE_DOG, labels, THRESHOLDS)

    assert found.reasons[0] == Reason(Because.BREED_NOT_SURE, 0.4, 0.7, ("beagle",))


@given(st.lists(st.floats(-30, 30), min_size=4, max_size=4), st.floats(-5, 5), st.floats(0, 1.1), st.floats(0, 1.1))
def test_its_reasons_hold_and_lead_to_its_decision(logits, energy, breed, group):
    found = decide(softmax(np.array(logits)), energy, LABELS, Thresholds(2.0, breed, group))

    codes = [reason.code for reason in found.reasons]
    reached = {
        reason.code: reason.value >= reason.threshold for reason in found.reasons if reason.threshold is not None
    }
    for sure in (Because.BREED_SURE, Because.GROUP_SURE):
        assert reached.get(sure, True)
    for unsure in (Because.NO_DOG, Because.BREEDS_CLOSE, Because.BREED_NOT_SURE, Because.GROUP_NOT_SURE):
        assert not reached.get(unsure, False)
    assert (found.decision == Level.NOT_A_DOG) == (codes == [Because.NO_DOG])
    assert (found.decision == Level.BREED) == (codes == [Because.BREED_SURE])
    assert (found.decision == Level.GROUP) == (Because.GROUP_SURE in codes)
    assert (found.decision == Level.UNSURE) == (Because.GROUP_NOT_SURE in codes)
    assert all("dingo" not in reason.names or reason.code == Because.WILD_CANID_MASKED for reason in found.reasons)


# -- groups -----------------------------------------------------------------------------------------------------------


def test_it_sums_the_probabilities_of_each_group_without_the_wild_ones():
    groups = group_probabilities(np.array([0.5, 0.25, 0.125, 0.125]), LABELS)

    assert groups == {"scenthounds": 0.75, "toys": 0.125}


@pytest.mark.parametrize(
    "probs",
    [
        [np.nan, 0.5, 0.25, 0.25],
        [np.inf, 0.0, 0.0, 0.0],
        [0.5, 0.25, 0.25],
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.5, 0.2, 0.1, 0.1],
        [0.5, 0.5, 0.1, 0.1],
        [[0.25, 0.25, 0.25, 0.25]],
        [1.5, -0.5, 0.0, 0.0],
        [],
    ],
    ids=str,
)
def test_it_refuses_what_is_no_distribution_over_its_labels(probs):
    with pytest.raises(ValueError, match="Expected 4 probabilities"):
        decide(np.array(probs), SURE_DOG, LABELS, THRESHOLDS)


# -- energy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 1, 50, 1e4])
def test_it_measures_energy_as_the_log_sum_exp_of_the_logits(scale):
    logits = np.random.default_rng(0).normal(size=(20, 7)) * scale

    np.testing.assert_allclose(energy_of(logits), logsumexp(logits, axis=1), rtol=1e-12)


def test_it_measures_the_energy_of_one_photo_like_that_of_many():
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)

    np.testing.assert_allclose([energy_of(row) for row in logits], energy_of(logits), rtol=1e-6)


# -- thresholds -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), sharpness=st.floats(0.3, 4))
@settings(max_examples=100, deadline=None)
def test_it_keeps_the_promised_precision_on_the_photos_it_chose_by(seed, sharpness):
    labels = [*LABELS, Label("whippet", "sighthounds"), Label("saluki", "sighthounds")]
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(120, len(labels))) * sharpness
    probs = softmax(logits)
    label_index = np.array([rng.choice(len(labels), p=row) for row in probs])

    thresholds = choose_thresholds(probs, energy_of(logits), label_index, labels)

    for level, threshold in ((Level.BREED, thresholds.breed), (Level.GROUP, thresholds.group)):
        precision = precision_of(level, probs, label_index, labels, thresholds)
        assert (precision is None) == (threshold > 1)
        assert (precision or 1) >= 0.9625


@pytest.mark.parametrize(("right", "is_named"), [(77, True), (76, False)])
def test_a_breed_is_named_where_it_is_right_on_77_photos_of_80_and_on_no_fewer(right, is_named):
    probs, label_index = np.array([[0.9, 0.1, 0, 0]] * 80), np.array([0] * right + [2] * (80 - right))

    thresholds = choose_thresholds(probs, np.ones(80), label_index, LABELS)

    assert thresholds.breed == (0.9 if is_named else 1.1)


@pytest.mark.parametrize(("right", "is_named"), [(77, True), (76, False)])
def test_a_group_is_named_where_it_is_right_on_77_photos_of_80_and_on_no_fewer(right, is_named):
    probs, label_index = np.array([[0.5, 0.375, 0.125, 0]] * 80), np.array([1] * right + [2] * (80 - right))

    thresholds = choose_thresholds(probs, np.ones(80), label_index, LABELS)

    assert (thresholds.breed, thresholds.group) == (1.1, 0.875 if is_named else 1.1)


@pytest.mark.parametrize("wanted", [0.6, 0.9])
def test_it_chooses_the_lowest_threshold_that_keeps_precision(wanted):
    tops = np.array([0.95, 0.9, 0.85, 0.8, 0.75])
    probs = np.stack([tops, 1 - tops, np.zeros(5), np.zeros(5)], axis=1)
    label_index = np.array([0, 0, 2, 0, 2])  # running precision: 1, 1, 2/3, 3/4, 3/5

    thresholds = choose_thresholds(probs, np.ones(5), label_index, LABELS, breed_precision=wanted)

    assert thresholds.breed == pytest.approx({0.6: 0.75, 0.9: 0.9}[wanted])


def test_it_answers_every_photo_of_a_network_that_is_always_right():
    probs = np.array([[0.6, 0.4, 0, 0], [0.3, 0.7, 0, 0], [0.1, 0.1, 0.8, 0]])

    thresholds = choose_thresholds(probs, np.ones(3), np.array([0, 1, 2]), LABELS)

    assert precision_of(Level.BREED, probs, [0, 1, 2], LABELS, thresholds) == 1
    assert all(decide(row, np.inf, LABELS, thresholds).decision == Level.BREED for row in probs)


def test_it_never_names_a_breed_where_the_network_is_always_wrong():
    probs = np.array([[0.6, 0.4, 0, 0], [0.3, 0.7, 0, 0], [0.1, 0.1, 0.8, 0]])

    thresholds = choose_thresholds(probs, np.ones(3), np.array([2, 2, 0]), LABELS)

    assert not [row for row in probs if decide(row, np.inf, LABELS, thresholds).decision == Level.BREED]


def test_it_names_no_breed_where_equal_scores_are_half_wrong():
    probs = np.array([[0.9, 0.1, 0, 0]] * 10)
    label_index = np.array([0] * 5 + [2] * 5)

    thresholds = choose_thresholds(probs, np.ones(10), label_index, LABELS)

    assert precision_of(Level.BREED, probs, label_index, LABELS, thresholds) is None


def test_it_names_no_breed_where_a_network_is_certain_and_wrong():
    probs = np.array([[1.0, 0, 0, 0]] * 4)
    label_index = np.array([2, 2, 2, 2])

    thresholds = choose_thresholds(probs, np.ones(4), label_index, LABELS)

    assert precision_of(Level.BREED, probs, label_index, LABELS, thresholds) is None


def test_it_does_not_count_wild_canids_as_breeds_it_named():
    dingos, mistakes = [[0.03, 0.01, 0.01, 0.95]] * 80, [[0.8, 0.2, 0, 0], [0.81, 0.19, 0, 0]]
    probs, label_index = np.array(dingos + mistakes), np.array([3] * 80 + [2] * 2)  # counted as right: 97.6 %

    thresholds = choose_thresholds(probs, np.ones(82), label_index, LABELS)

    assert precision_of(Level.BREED, probs, label_index, LABELS, thresholds) is None


def test_it_takes_the_promised_share_of_dogs_for_dogs():
    energy = np.random.default_rng(0).permutation(1000) / 100.0
    probs = np.tile([0.4, 0.3, 0.2, 0.1], (1000, 1))

    thresholds = choose_thresholds(probs, energy, np.zeros(1000, int), LABELS, dogs_accepted=0.98)

    assert (energy >= thresholds.energy).mean() == pytest.approx(0.98, abs=0.002)
