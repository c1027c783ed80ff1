"""A dog of a breed that the classifier never saw resembles none of its breeds, however sure the softmax is."""

import numpy as np
import pytest

from ml import BadCheckpoint, BadDataset
from ml.serving.decision import NEVER, Because, Label, Level, Thresholds, choose_breed, choose_thresholds, decide
from ml.serving.familiarity import Familiarity, fit_familiarity
from ml.serving.inference import Classifier
from ml.training.unseen import Trial, energies_without_dog, leave_breeds_out
from tests.support.ml import colour_network, plain_picture, write_checkpoint, write_photo

LABELS = [Label("red_setter", "setters"), Label("green_setter", "setters"), Label("grey_hound", "hounds")]
THRESHOLDS = Thresholds(energy=2.0, breed=0.7, group=0.8, familiarity=10.0)


def features(breed: int, n: int, seed: int = 0) -> np.ndarray:
    """(n, 12) features of dogs of one breed, spread around a centre of its own."""
    centre = np.random.default_rng([7, breed]).normal(0, 4, 12)
    return (centre + np.random.default_rng([seed, breed]).normal(0, 1, (n, 12))).astype(np.float32)


def photos(breeds, n: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([features(breed, n, seed) for breed in breeds]), np.repeat(np.arange(len(breeds)), n)


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    return fit_familiarity(*photos(range(10)))


def test_it_finds_known_breeds_more_familiar_than_others(familiarity):
    known, other = familiarity(photos(range(10), seed=1)[0]), familiarity(photos(range(10, 20), seed=1)[0])

    assert np.median(known) > np.quantile(other, 0.95)


def test_it_is_the_difference_of_two_mahalanobis_distances():
    """Ren et al., 2021, computed the long way, in all directions."""
    embeddings, label_index = photos(range(10))
    centres = np.stack([embeddings[label_index == i].mean(axis=0) for i in range(10)]).astype(float)
    own = np.linalg.inv(np.cov((embeddings - centres[label_index]).T, bias=True))
    everyone = np.linalg.inv(np.cov(embeddings.T, bias=True))
    photo = features(3, 1, seed=5)[0].astype(float)

    def distance(centre, precision):
        return (photo - centre) @ precision @ (photo - centre)

    of_dogs, of_breeds = distance(embeddings.mean(axis=0), everyone), min(distance(centre, own) for centre in centres)
    found = fit_familiarity(embeddings, label_index)(photo[None])[0]
    assert found == pytest.approx(of_dogs - of_breeds, abs=0.02 * of_dogs)  # its covariances are shrunk a little


def test_it_measures_how_far_the_nearest_breed_is(familiarity):
    known, nothing = photos(range(10), seed=1)[0], np.zeros((1, 12), np.float32)

    assert (familiarity.distance(familiarity.mean + 0 * nothing) > np.median(familiarity.distance(known))).all()
    assert np.median(familiarity.distance(photos(range(10, 20), seed=1)[0])) > familiarity.distance(known).max()


def test_it_comes_back_from_its_file_as_it_was(familiarity, tmp_path):
    familiarity.save(tmp_path / "familiarity.npz")

    embeddings = photos(range(12), seed=2)[0]
    np.testing.assert_array_equal(Familiarity.load(tmp_path / "familiarity.npz")(embeddings), familiarity(embeddings))


def test_it_finds_all_photos_alike_where_the_features_have_died():
    dead = np.zeros((30, 12), np.float32)

    np.testing.assert_array_equal(fit_familiarity(dead, np.arange(30) % 3)(dead), np.zeros(30))


@pytest.mark.parametrize("damage", ["cut", "missing", "other shape", "nan"])
def test_it_refuses_a_damaged_file(familiarity, tmp_path, damage):
    path = tmp_path / "familiarity.npz"
    arrays = {name: getattr(familiarity, name) for name in Familiarity.__dataclass_fields__}
    if damage == "missing":
        del arrays["centres"]
    elif damage == "other shape":
        arrays["spread"] = arrays["spread"][1:]
    elif damage == "nan":
        arrays["mean"] = arrays["mean"] * np.nan
    np.savez(path, **arrays)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(BadCheckpoint, match=r"Expected .*familiarity\.npz\. Received: "):
        Familiarity.load(path)


# -- in the decision --------------------------------------------------------------------------------------------------


def test_it_names_no_breed_for_an_unfamiliar_dog_and_says_why():
    found = decide(np.array([0.9, 0.05, 0.05]), 9.0, LABELS, THRESHOLDS, familiarity=3.0)

    assert (found.decision, found.group) == (Level.GROUP, "setters")
    assert [(r.code, r.value, r.threshold) for r in found.reasons[:1]] == [(Because.UNFAMILIAR, 3.0, 10.0)]


@pytest.mark.parametrize("familiarity", [10.0, 99.0, None])
def test_it_names_the_breed_of_a_familiar_dog(familiarity):
    found = decide(np.array([0.9, 0.05, 0.05]), 9.0, LABELS, THRESHOLDS, familiarity=familiarity)

    assert (found.decision, found.label) == (Level.BREED, "red_setter")


def test_it_does_without_where_the_checkpoint_knows_no_familiarity():
    found = decide(np.array([0.9, 0.05, 0.05]), 9.0, LABELS, Thresholds(2.0, 0.7, 0.8), familiarity=-99.0)

    assert found.decision == Level.BREED


def test_it_judges_breeds_among_the_familiar_photos_alone():
    """Those that are wrong are unfamiliar here: without them, every breed may be named."""
    probs = np.tile([0.9, 0.05, 0.05], (100, 1))
    truth = np.where(np.arange(100) < 20, 1, 0)
    familiarity = np.where(np.arange(100) < 20, 0.0, 5.0)

    strict = choose_thresholds(probs, np.full(100, 9.0), truth, LABELS)
    chosen = choose_thresholds(probs, np.full(100, 9.0), truth, LABELS, familiarity=familiarity)

    assert strict.breed == NEVER
    assert chosen.breed == pytest.approx(0.9)
    assert chosen.familiarity == pytest.approx(5.0)


def test_it_turns_down_as_many_unfamiliar_dogs_as_the_promise_allows():
    confidence, familiarity = np.full(1000, 0.9), np.random.default_rng(0).permutation(1000)

    _breed, least = choose_breed(confidence, np.ones(1000, bool), familiarity, named=0.8)

    assert (familiarity >= least).mean() == pytest.approx(0.8)


def test_it_turns_more_of_them_down_before_it_asks_for_more_than_the_precision():
    """One in ten is wrong, and those are the least probable: dogs are given up by familiarity, not by probability."""
    rng = np.random.default_rng(0)
    right, familiarity = np.arange(1000) >= 100, rng.permutation(1000)
    confidence = np.where(right, 0.9, 0.3) + rng.uniform(0, 0.05, 1000)

    breed, least = choose_breed(confidence, right, familiarity, precision=0.95, named=0.6)

    named = (confidence >= breed) & (familiarity >= least)
    assert named.mean() == pytest.approx(0.6, abs=0.01)
    assert right[named].mean() == pytest.approx(0.95, abs=0.005)


def test_it_keeps_most_of_what_a_weak_classifier_could_name():
    right = np.arange(1000) < 300
    confidence = np.where(right, 0.9, 0.3)

    breed, least = choose_breed(confidence, right, np.random.default_rng(0).permutation(1000))

    assert 0.27 < ((confidence >= breed) & (np.random.default_rng(0).permutation(1000) >= least)).mean() < 0.31


def test_it_turns_nobody_down_where_no_breed_can_be_named_anyway():
    breed, least = choose_breed(np.full(100, 0.9), np.zeros(100, bool), np.arange(100.0))

    assert (breed, least) == (NEVER, 0.0)


# -- a dog at all? --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Classifier:
    """Three colours by their mean; grey ones among them take nine nats off the energy for each unit of distance."""
    rng, truth = np.random.default_rng(0), np.repeat([0, 1, 2], 50)
    familiarity = fit_familiarity(np.eye(3)[truth] * 0.9 + rng.normal(0, 0.05, (150, 3)), truth)
    thresholds = {"energy": 0.0, "breed": 0.7, "group": 0.8, "distance": 9.0}
    folder = tmp_path_factory.mktemp("colours")
    return Classifier.load(write_checkpoint(folder, colour_network(), thresholds=thresholds, familiarity=familiarity))


def test_it_takes_the_distance_off_the_energy(colours):
    red, grey = np.array([0.9, 0, 0], np.float32), np.array([0.9, 0.9, 0.9], np.float32)

    distance = float(colours.checkpoint.familiarity.distance(red[None])[0])
    assert colours.energy(red * 10, red) == pytest.approx(np.log(np.exp(9) + 2) - 9 * distance, rel=1e-4)
    assert colours.decide(grey * 10, grey).decision == Level.NOT_A_DOG
    assert colours.decide(red * 10, red).decision != Level.NOT_A_DOG


def test_it_answers_each_half_of_the_photos_without_a_dog_once(colours, tmp_path):
    for level in range(30):
        write_photo(tmp_path / "lamps" / f"{level}.png", plain_picture((8 * level,) * 3))
    (tmp_path / "lamps" / ".hidden").write_text("no photo")

    every, val, test = (energies_without_dog(colours, tmp_path, half) for half in (None, "val", "test"))

    assert len(val) > 5
    assert len(test) > 5
    assert sorted([*val, *test]) == sorted(every)
    assert (every < 0).all()


def test_it_refuses_a_folder_without_photos(colours, tmp_path):
    with pytest.raises(BadDataset, match="Expected photos without a dog below"):
        energies_without_dog(colours, tmp_path)


# -- breeds left out --------------------------------------------------------------------------------------------------


def test_it_leaves_each_breed_out_once():
    (train, index), (val, val_index), (test, test_index) = (photos(range(10), seed=seed) for seed in range(3))

    trials = leave_breeds_out((train, index), (val, val_index), (test, test_index))

    for split in (0, 1):
        assert (np.sum([trial[split].outside for trial in trials], axis=0) == 1).all()
    assert all(on_val.right[~on_val.outside].mean() > 0.9 for on_val, _ in trials)
    assert not any(on_val.right[on_val.outside].any() for on_val, _ in trials)


def test_it_leaves_nothing_out_of_two_breeds():
    examples = photos(range(2))

    assert leave_breeds_out(examples, examples, examples) == []


def test_it_counts_how_many_photos_of_unseen_breeds_get_a_breed():
    rng = np.random.default_rng(0)
    outside = np.arange(1000) >= 500
    trial = Trial(np.full(1000, 0.9), ~outside, rng.normal(np.where(outside, 0, 2), 1), outside)

    breed, least = trial.thresholds()

    assert (trial.familiarity[~outside] >= least).mean() == pytest.approx(0.77, abs=0.01)
    assert trial.called_breed(breed, least) == pytest.approx((trial.familiarity[outside] >= least).mean())
