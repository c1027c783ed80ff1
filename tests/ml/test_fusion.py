"""From several photos of one dog to one decision, and to the photo that seems to show another."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks import fusion as benchmark
from ml.serving.calibration import softmax
from ml.serving.decision import Because, Label, Level, Thresholds, decide, energy_of
from ml.serving.fusion import agreement, choose_agreement, draw_groups, fuse, fuse_probabilities

LABELS = [
    Label("beagle", "scenthounds"),
    Label("basset", "scenthounds"),
    Label("pug", "toys"),
    Label("dingo", "wild_canids", wild=True),
]
THRESHOLDS = Thresholds(energy=2.0, breed=0.7, group=0.8, agreement=0.0)
BEAGLE, MAYBE_BEAGLE, PUG, NOTHING = (
    [0.94, 0.02, 0.02, 0.02],
    [0.4, 0.3, 0.2, 0.1],
    [0.02, 0.02, 0.94, 0.02],
    [0.25, 0.25, 0.25, 0.25],
)
DOG, NO_DOG = 9.0, 1.0

photos = arrays(float, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-20, 20)).map(softmax)


def fused(*rows, energy=None):
    return fuse(np.array(rows), np.array(energy or [DOG] * len(rows)), LABELS, THRESHOLDS)


def drawn(seed: int, sharpness: float, breeds: int = 20, photos: int = 6):
    """Photos whose probabilities are calibrated by construction: (N, C) and the (N,) breeds drawn from them."""
    rng = np.random.default_rng(seed)
    probs = softmax(rng.normal(size=(breeds * photos, breeds)) * sharpness)
    return probs, np.array([rng.choice(breeds, p=row) for row in probs])


@given(photos)
def test_it_decides_on_one_photo_as_on_any_single_photo(probs):
    found = fuse(probs[:1], np.array([DOG]), LABELS, THRESHOLDS)

    assert found.decision == decide(probs[0], DOG, LABELS, THRESHOLDS)
    assert (found.used, found.odd, found.agreements) == ((0,), (), (0.0,))


@given(photos, st.integers(2, 4))
def test_it_decides_on_the_same_photo_several_times_as_on_one(probs, times):
    again = np.repeat(probs[:1], times, axis=0)

    np.testing.assert_allclose(fuse_probabilities(again), np.maximum(probs[0], 1e-7), rtol=1e-5, atol=1e-6)


@given(photos, st.randoms())
def test_it_does_not_depend_on_the_order_of_the_photos(probs, random):
    order = random.sample(range(len(probs)), len(probs))

    np.testing.assert_allclose(fuse_probabilities(probs), fuse_probabilities(probs[order]), rtol=1e-9)
    np.testing.assert_allclose(agreement(probs)[order], agreement(probs[order]), rtol=1e-6, atol=1e-9)


@given(photos)
def test_it_gives_one_distribution_that_lies_within_what_the_photos_say(probs):
    one = fuse_probabilities(probs)

    assert one.sum() == pytest.approx(1)
    for a in range(4):
        for b in range(4):
            if (probs[:, a] > probs[:, b]).all():  # what every photo finds likelier is likelier
                assert one[a] >= one[b]


def test_it_is_sure_of_a_breed_that_no_single_photo_is_sure_of():
    rows = [0.65, 0.3, 0.03, 0.02], [0.65, 0.03, 0.3, 0.02]

    assert fused(*rows).decision.label == "beagle"
    assert [fused(row).decision.label for row in rows] == ["", ""]


def test_it_leaves_out_photos_without_a_dog():
    found = fused(BEAGLE, PUG, BEAGLE, energy=[DOG, NO_DOG, DOG])

    assert (found.decision.label, found.used, found.odd) == ("beagle", (0, 2), ())


def test_it_sees_no_dog_where_no_photo_shows_one():
    found = fused(BEAGLE, PUG, energy=[NO_DOG, 0.5])

    assert (found.decision.decision, found.used, found.odd) == (Level.NOT_A_DOG, (0, 1), ())
    assert [(r.code, r.value) for r in found.decision.reasons] == [(Because.NO_DOG, NO_DOG)]


def test_it_warns_of_the_one_photo_that_shows_another_breed():
    found = fused(BEAGLE, MAYBE_BEAGLE, PUG, BEAGLE)

    assert found.odd == (2,)
    assert min(found.agreements) == found.agreements[2] < 0


def test_it_counts_positions_over_all_photos_it_was_given():
    assert fused(NOTHING, BEAGLE, PUG, BEAGLE, energy=[NO_DOG, DOG, DOG, DOG]).odd == (2,)


def test_it_warns_of_both_of_two_photos_that_disagree():
    assert fused(BEAGLE, PUG).odd == (0, 1)


@pytest.mark.parametrize("others", [[BEAGLE], [MAYBE_BEAGLE], [NOTHING], [BEAGLE, NOTHING, MAYBE_BEAGLE]])
def test_it_does_not_warn_of_photos_that_agree_or_say_little(others):
    assert fused(BEAGLE, *others).odd == ()


def test_it_takes_a_photo_that_says_nothing_for_no_evidence():
    np.testing.assert_allclose(agreement(np.array([BEAGLE, NOTHING])), [0, 0], atol=1e-12)


def test_it_counts_evidence_up_to_the_number_of_breeds():
    certain = np.eye(4)[[1, 1, 1]]

    np.testing.assert_allclose(agreement(certain), np.log(4), atol=1e-5)


def test_a_photo_that_is_certain_and_wrong_does_not_forbid_a_breed_for_ever():
    certain = np.eye(4)[[0, 0, 0, 0, 2]]

    found = fuse(certain, np.full(5, DOG), LABELS, THRESHOLDS)

    assert (found.decision.label, found.odd) == ("beagle", (4,))
    assert np.isfinite(found.agreements).all()


@given(photos)
def test_it_never_names_a_wild_canid(probs):
    found = fuse(probs, np.full(len(probs), DOG), LABELS, THRESHOLDS).decision

    assert "dingo" not in [found.label, *(c.label for c in found.candidates)]
    assert found.group != "wild_canids"


@pytest.mark.parametrize(
    ("probs", "energy"),
    [
        (np.empty((0, 4)), []),
        ([0.25] * 4, [DOG]),
        ([[0.5, 0.5]], [DOG]),
        ([[0.25] * 4], [DOG, DOG]),
        ([[0.5] * 4], [DOG]),
        ([[np.nan, 0.5, 0.25, 0.25]], [DOG]),
        ([[1.5, -0.5, 0, 0]], [DOG]),
    ],
    ids=["none", "one row", "labels", "energies", "sum", "nan", "negative"],
)
def test_it_refuses_what_are_no_photos_of_its_labels(probs, energy):
    with pytest.raises(ValueError, match="Expected"):
        fuse(np.array(probs), np.array(energy), LABELS, THRESHOLDS)


# -- the threshold of the warning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_it_warns_of_no_more_dogs_than_promised(share):
    probs, label_index = drawn(0, sharpness=4.0)

    threshold = choose_agreement(probs, label_index, false_warnings=share, groups=500)

    rng = np.random.default_rng(1)
    groups = [members for size in (2, 3, 4) for members in draw_groups(label_index, size, 500, rng)]
    warned = np.mean([agreement(probs[members]).min() < threshold for members in groups])
    assert warned <= share + 0.02
    assert threshold <= 0


def test_it_never_warns_of_photos_that_speak_for_one_breed():
    certain, label_index = np.eye(5)[np.repeat(np.arange(5), 4)], np.repeat(np.arange(5), 4)

    assert choose_agreement(certain, label_index, groups=50) == 0


def test_it_keeps_the_default_where_no_breed_has_two_photos():
    assert choose_agreement(np.eye(3), np.arange(3)) == Thresholds.agreement


def test_it_draws_different_photos_of_one_breed():
    label_index = np.array([0, 1, 0, 1, 2, 0])

    groups = draw_groups(label_index, 2, 40, np.random.default_rng(0))

    assert groups.shape == (40, 2)
    assert all(label_index[a] == label_index[b] != 2 and a != b for a, b in groups)


# -- the measurement --------------------------------------------------------------------------------------------------


class DrawnExamination:
    """What `ml.evaluation.examination` would have found, of photos that are drawn instead of taken."""

    def __init__(self, seed: int = 0):
        self.probs, self.label_index = drawn(seed, sharpness=5.0)
        self.logits = np.log(np.maximum(self.probs, 1e-9)) + 9
        self.energies = energy_of(self.logits)
        labels = tuple(Label(f"breed_{i}", f"group_{i // 4}") for i in range(20))
        thresholds = Thresholds(energy=2.0, breed=0.8, group=0.8)
        self.classifier = SimpleNamespace(checkpoint=SimpleNamespace(labels=labels, thresholds=thresholds))
        self.items = [SimpleNamespace(group=str(i // 2 * 2 if i < 20 else i)) for i in range(len(self.probs))]


def test_it_measures_what_several_photos_gain_and_how_well_an_intruder_is_noticed():
    figures = benchmark.measure_fusion(DrawnExamination(), groups=200, seed=0, say=lambda line: None)

    assert figures["photos"] == 110  # ten of twenty had a near-duplicate
    for size in (2, 3, 4):
        rules, warnings = figures[size]["rules"], figures[size]["warnings"]
        assert rules["geometric mean"]["top1"]["share"] > rules["one photo"]["top1"]["share"]
        assert warnings["true groups"]["share"] < 0.15 < warnings["another breed"]["share"]
        assert warnings["another breed, the right photo"]["share"] <= warnings["another breed"]["share"]


def test_it_slips_in_a_photo_of_another_breed_and_of_the_same_family_if_wanted():
    label_index, families = np.array([0, 0, 1, 1, 2, 2]), np.array(list("aaaabb"))
    members = np.array([[0, 1], [2, 3], [4, 5]])
    rng = np.random.default_rng(0)

    anyone = benchmark.intruders(members, label_index, None, rng)
    relative = benchmark.intruders(members, label_index, families, rng)

    assert (anyone[:, 0] == [0, 2, 4]).all()
    assert (label_index[anyone[:, 1]] != label_index[anyone[:, 0]]).all()
    assert relative[:, 0].tolist() == [0, 2]  # the third breed has no other in its family
    assert (families[relative[:, 1]] == "a").all()
