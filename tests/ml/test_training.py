"""From photos to a checkpoint; a killed run goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from ml import MLError
from ml.data.views import centre_images, prepared_square
from ml.images.preprocessing import CLASSIC_STEPS
from ml.serving.decision import Label
from ml.serving.inference import Classifier
from ml.training import shipping
from ml.training.batches import TrainingBatches, random_affine, random_crop
from ml.training.epochs import predict_logits, validate
from ml.training.heads import fit_head
from ml.training.losses import SmoothedCrossentropy
from ml.training.networks import build_classifier
from ml.training.recipes import TrainingConfig, Workplace, _half_taught, train_network
from ml.training.runs import TrainingRun
from tests.support.ml import (
    BREEDS,
    Killed,
    colour_network,
    drawn_dog,
    encode,
    run_fresh,
    soft_picture,
    write_checkpoint,
    write_dataset,
    write_photo,
)


class Journey:
    """Runs of one training: each is killed at the line that starts with `at`, and what it said is kept."""

    def __init__(self, config, dataset_folder, folder, **others):
        self.config, self.dataset_folder, self.folder, self.others = config, dataset_folder, folder, others
        self.lines, self.figures = [], None

    def go(self, at: str | None = None) -> list[str]:
        self.lines = []

        def say(line):
            self.lines.append(line)
            if at and line.startswith(at):
                raise Killed

        try:
            self.figures = TrainingRun(self.config, self.folder, say=say, **self.others).train(
                self.dataset_folder, lambda slug: ("group_of_" + slug, slug == "whippet")
            )
        except Killed:
            return self.lines
        assert at is None, f"nothing was said that starts with {at!r}"
        return self.lines

    def said(self, start: str) -> list[str]:
        return [line for line in self.lines if line.startswith(start)]


@pytest.fixture
def tiny(tiny_backbone):
    return TrainingConfig(name="tiny", backbone="tiny", image_size=32, stages=((32, 1),), batch_size=16)


@pytest.fixture
def tiny_journey(tiny, dataset_folder, tmp_path):
    return Journey(tiny, dataset_folder, tmp_path / "run")


@pytest.fixture(scope="module")
def journey(dataset_folder, tmp_path_factory):
    """A whole training of MobileNetV2 from random weights."""
    config = TrainingConfig(name="made", image_size=32, stages=((32, 1),), batch_size=16)
    journey = Journey(config, dataset_folder, tmp_path_factory.mktemp("run"))
    journey.go()
    return journey


# -- end to end -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_leaves_a_checkpoint_that_answers(journey):
    classifier = Classifier.load(journey.folder / "checkpoint")

    found = classifier.classify(encode(drawn_dog(0, 99)))

    assert [label.slug for label in classifier.checkpoint.labels] == BREEDS
    assert [label.wild for label in classifier.checkpoint.labels] == [False, False, True]
    assert found.version == classifier.checkpoint.version
    assert 0 <= found.probability <= 1


@pytest.mark.slow
def test_it_writes_what_a_checkpoint_has(journey):
    parts = {path.name for path in (journey.folder / "checkpoint").iterdir()}

    assert parts >= {"model.keras", "model.tflite.xz", "labels.json", "calibration.json", "decision.json", "info.json"}
    assert not [name for name in parts if "float32" in name or name.endswith(".h5")]


@pytest.mark.slow
def test_it_leaves_a_network_that_keras_alone_can_read(journey, tmp_path):
    path = journey.folder / "checkpoint" / "model.keras"

    assert run_fresh(f"import keras; print(keras.saving.load_model({str(path)!r}).output_shape[1])", tmp_path) == "3"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "test"])
def test_it_writes_its_figures(journey, split):
    figures = json.loads((journey.folder / "checkpoint" / f"metrics-{split}.json").read_text())

    assert figures["n"] == 9
    assert figures["top1_interval"][0] <= figures["top1"] <= figures["top1_interval"][1]
    assert sum(figures["decisions"][level]["share"] for level in figures["decisions"]) == pytest.approx(1)


@pytest.mark.slow
def test_it_returns_the_figures_on_test(journey):
    written = json.loads((journey.folder / "checkpoint" / "metrics-test.json").read_text())

    assert json.loads(json.dumps(journey.figures)) == written


@pytest.mark.slow
def test_it_tells_where_a_checkpoint_came_from(journey, dataset):
    info = json.loads((journey.folder / "checkpoint" / "info.json").read_text())

    assert info["dataset_manifest"] == dataset.manifest_hash
    assert info["config"]["stages"] == [[32, 1]]


@pytest.mark.slow
def test_it_refuses_a_folder_of_other_settings(journey):
    config = TrainingConfig(name="made", image_size=32, stages=((32, 1),), batch_size=16, seed=7)

    with pytest.raises(MLError, match="Expected a new folder"):
        TrainingRun(config, journey.folder).train(journey.dataset_folder, lambda slug: ("group", False))


@pytest.mark.slow
def test_it_refuses_a_folder_of_another_dataset(tiny_journey, tmp_path):
    tiny_journey.go(at="before training")
    tiny_journey.dataset_folder = write_dataset(tmp_path / "others", BREEDS, first=100)

    with pytest.raises(MLError, match="Expected a new folder"):
        tiny_journey.go()


@pytest.mark.slow
def test_it_trains_without_fine_tuning(tiny, dataset_folder, tmp_path):
    config = TrainingConfig(name="head", backbone="tiny", image_size=32)
    journey = Journey(config, dataset_folder, tmp_path)

    journey.go()

    assert not journey.said("epoch")
    assert Classifier.load(tmp_path / "checkpoint").checkpoint.name == "head"


@pytest.mark.slow
def test_it_trains_the_head_that_a_search_found(tiny, dataset_folder, tmp_path):
    head = {"head": "hidden", "units": 24, "dropout": 0.1, "learning_rate": 1e-2, "l2": 1e-6}
    config = TrainingConfig(name="head", backbone="tiny", image_size=32, dropout=0.1, head=head)

    Journey(config, dataset_folder, tmp_path).go()

    network = keras.saving.load_model(tmp_path / "checkpoint" / "model.keras")
    assert network.get_layer("hidden").units == 24
    figures = json.loads((tmp_path / "checkpoint" / "metrics-val.json").read_text())
    assert figures["top1"] > 0.5


@pytest.mark.slow
def test_it_trains_on_two_breeds(tiny, tmp_path):
    folder = write_dataset(tmp_path / "dogs", BREEDS[:2])
    journey = Journey(TrainingConfig(name="two", backbone="tiny", image_size=32), folder, tmp_path / "run")

    journey.go()

    assert len(Classifier.load(tmp_path / "run" / "checkpoint").checkpoint.labels) == 2


# -- killed and started again -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_goes_on_after_the_head_without_computing_it_again(tiny_journey):
    first = tiny_journey.go(at="before training")
    assert [line for line in first if line.startswith("features of")]

    tiny_journey.go()

    assert not tiny_journey.said("features of")
    assert not tiny_journey.said("head with")
    assert len(tiny_journey.said("epoch")) == 1
    assert Classifier.load(tiny_journey.folder / "checkpoint")


@pytest.mark.slow
def test_it_goes_on_after_an_epoch_as_if_nothing_had_happened(tiny, dataset_folder, tmp_path):
    config = TrainingConfig(name="long", backbone="tiny", image_size=32, stages=((24, 1), (32, 2)), batch_size=16)
    journeys = {name: Journey(config, dataset_folder, tmp_path / name) for name in ("killed", "whole")}

    journeys["killed"].go(at="epoch 1")
    resumed = journeys["killed"].go()
    journeys["whole"].go()

    history = {name: json.loads((tmp_path / name / "history.json").read_text()) for name in journeys}
    assert [line[:7] for line in resumed if line.startswith("epoch")] == ["epoch 2", "epoch 3"]
    assert [entry["epoch"] for entry in history["killed"]] == [0, 1, 2, 3]
    for killed, whole in zip(history["killed"], history["whole"], strict=True):
        assert killed["val_loss"] == pytest.approx(whole["val_loss"], abs=0.02)


@pytest.mark.slow
def test_it_goes_on_where_it_was_killed_between_the_weights_and_the_history(tiny_journey):
    tiny_journey.go(at="epoch 1")
    (tiny_journey.folder / "history.json").unlink()

    tiny_journey.go()

    assert Classifier.load(tiny_journey.folder / "checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["keras.Model.save_weights", "keras.Model.save"])
def test_it_goes_on_where_it_was_killed_while_it_wrote(tiny_journey, monkeypatch, writer):
    def write_half(*arguments, **_options):
        next(argument for argument in arguments if isinstance(argument, Path)).write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(writer, write_half)
        tiny_journey.go()
    assert tiny_journey.figures is None

    tiny_journey.go()

    assert Classifier.load(tiny_journey.folder / "checkpoint")


@pytest.mark.slow
def test_it_ships_again_without_answering_again(tiny_journey, monkeypatch):
    tiny_journey.go()
    figures = tiny_journey.figures

    monkeypatch.setattr(shipping, "_answer_all", None)
    tiny_journey.go()

    assert tiny_journey.figures | {"training_seconds": 0} == figures | {"training_seconds": 0}


@pytest.mark.slow
def test_it_serves_at_another_size_and_says_what_it_makes_of_breeds_that_were_left_out(tiny, dataset_folder, tmp_path):
    some = replace(tiny, breeds=("bolognese", "pug"))
    Journey(some, dataset_folder, tmp_path / "some").go()
    fewer = tmp_path / "some" / "checkpoint"

    Journey(replace(tiny, serve_size=48), dataset_folder, tmp_path / "all", fewer_breeds=fewer).go()

    checkpoint = tmp_path / "all" / "checkpoint"
    assert Classifier.load(checkpoint).session.image_size == 48
    assert "breeds_left_out" not in json.loads((checkpoint / "metrics-val.json").read_text())
    found = json.loads((checkpoint / "metrics-test.json").read_text())["breeds_left_out"]
    whippets = len(list((dataset_folder / "whippet").iterdir()))
    assert (found["known_breeds"], found["breeds"], found["n"]) == (2, 1, whippets)
    assert found["version"] == Classifier.load(fewer).checkpoint.version
    shares = [found[level] for level in ("not_a_dog", "breed", "group", "unsure")]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    named = sum(
        Classifier.load(fewer).classify(path.read_bytes()).decision == "breed"
        for path in (dataset_folder / "whippet").iterdir()
    )
    assert found["breed"] == pytest.approx(named / whippets, abs=1e-3)
    own = json.loads((fewer / "metrics-test.json").read_text())["decisions"]["breed"]
    assert found["known"]["share"] == own["share"]
    card = (checkpoint / "card.md").read_text()
    assert f"{found['breed']:.1%} of {whippets}" in card
    assert f"Of dogs that it knows it names {own['share']:.1%}" in card


@pytest.mark.slow
def test_it_refuses_to_measure_left_out_breeds_by_a_checkpoint_that_knows_all(journey, tiny, tmp_path):
    known = journey.folder / "checkpoint"
    run = Journey(tiny, journey.dataset_folder, tmp_path / "run", fewer_breeds=known)
    with pytest.raises(MLError, match="lacks some of these breeds"):
        run.go()
    assert not (run.folder / "head.weights.h5").exists()  # said before any work


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_knows_nothing_at_the_start(dataset):
    images = centre_images(dataset, dataset.part("val"), 32)

    logits = predict_logits(build_classifier("mobilenetv2", 3), images)

    figures = validate(logits, dataset.label_index(dataset.part("val")))

    assert figures["val_loss"] == pytest.approx(np.log(3), abs=0.1)


@pytest.mark.slow
def test_it_can_learn_one_batch_by_heart(tiny, dataset):
    keras.utils.set_random_seed(0)
    images, label_index = next(iter(batches_of(dataset, batch_size=12)))
    network = build_classifier("tiny", 3, dropout=0.0)
    network.compile(keras.optimizers.Adam(1e-2), SmoothedCrossentropy(0.0))

    for _ in range(150):
        loss = network.train_on_batch(images, label_index)

    assert loss < 0.1


@pytest.mark.slow
def test_it_learns_from_a_teacher_and_measures_photos_without_a_dog(journey, tiny, tmp_path):
    for number in range(8):
        write_photo(tmp_path / "lamps" / f"{number}.png", soft_picture(number))
    teacher = journey.folder / "checkpoint"
    config = replace(tiny, name="student", teacher=Classifier.load(teacher).checkpoint.version)
    others = {"teacher": teacher, "without_dog": tmp_path / "lamps"}
    student = Journey(config, journey.dataset_folder, tmp_path / "run", **others)

    student.go()

    assert np.load(tmp_path / "run" / "taught.npy").shape == (42, 3)
    counts = [
        json.loads((tmp_path / "run" / "checkpoint" / f"metrics-{split}.json").read_text())["without_dog"]["n"]
        for split in ("val", "test")
    ]
    assert sum(counts) == 8
    assert f"aiming half at the answers of classifier {config.teacher}" in (
        (tmp_path / "run" / "checkpoint" / "card.md").read_text()
    )
    assert student.said("made answers 42 photos")
    student.go()
    assert not student.said("made answers")  # its answers are kept


def test_it_aims_half_at_the_label_and_half_at_the_teacher(dataset, tmp_path):
    labels = [Label(slug, "group") for slug in BREEDS]
    teacher = write_checkpoint(tmp_path / "teacher", colour_network(), labels=labels)
    items = dataset.part("train")

    targets = _half_taught(dataset, items, Workplace(tmp_path, tmp_path, None, print, teacher))

    true = targets[np.arange(len(items)), dataset.label_index(items)]
    assert targets.shape == (42, 3)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    assert (true >= 0.5).all()
    assert (true < 1).all()


def test_it_learns_from_no_teacher_of_other_breeds(dataset, tmp_path):
    teacher = write_checkpoint(tmp_path / "teacher", colour_network())

    with pytest.raises(MLError, match=r"Expected a teacher of these 3 breeds\. Received: made of others"):
        _half_taught(dataset, dataset.part("train"), Workplace(tmp_path, tmp_path, None, print, teacher))


def test_it_takes_probabilities_as_what_to_aim_at():
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]).astype(np.float32)
    index, probabilities = np.array([0, 1]), np.eye(3, dtype=np.float32)[:2]

    of_labels, of_probabilities = (SmoothedCrossentropy(0.3)(targets, logits) for targets in (index, probabilities))

    assert float(of_labels) == pytest.approx(float(of_probabilities), rel=1e-6)


def test_it_softens_the_labels_of_its_loss():
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]).astype(np.float32)

    loss = SmoothedCrossentropy(0.3)(np.array([0, 1]), logits)

    soft = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert float(loss) == pytest.approx(-(soft * logits).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_it_fits_a_head_on_raw_features(num_classes):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(num_classes, 8)) * 4

    def sample(n):
        index = np.arange(n) % num_classes
        return (centres[index] + rng.normal(size=(n, 8))) * 100 + 5000, index  # far from standardised

    (train, train_index), (val, val_index) = sample(200), sample(50)
    kernel, bias = fit_head(train, val, train_index, val_index)

    assert (kernel.shape, bias.shape) == ((8, num_classes), (num_classes,))
    assert ((val @ kernel + bias).argmax(axis=1) == val_index).mean() > 0.95


# -- batches ----------------------------------------------------------------------------------------------------------


def batches_of(dataset, batch_size=16, seed=0, epoch=1):
    part = dataset.part("train")

    def pixels_of(item, rng):
        return np.asarray(random_crop(prepared_square(dataset, item, 64, ()), 32, rng))

    return TrainingBatches(part, dataset.label_index(part), pixels_of, batch_size=batch_size, seed=seed, epoch=epoch)


def test_it_shows_every_photo_once_an_epoch_and_keeps_the_last_batch(dataset):
    batches = batches_of(dataset, batch_size=16)

    shown = [batches[index] for index in range(len(batches))]

    assert [len(images) for images, _ in shown] == [16, 16, 10]
    assert sorted(batches.order) == list(range(42))
    assert np.bincount(np.concatenate([index for _, index in shown])).tolist() == [14, 14, 14]
    assert all(images.shape[1:] == (32, 32, 3) and images.dtype == np.uint8 for images, _ in shown)


def test_it_shows_the_same_in_the_same_epoch(dataset):
    for once, again in zip(batches_of(dataset)[0], batches_of(dataset)[0], strict=True):
        np.testing.assert_array_equal(once, again)


def test_it_shows_a_resumed_epoch_as_an_uninterrupted_one(dataset):
    uninterrupted = batches_of(dataset, epoch=1)
    uninterrupted.on_epoch_end()

    for went_on, resumed in zip(uninterrupted[0], batches_of(dataset, epoch=2)[0], strict=True):
        np.testing.assert_array_equal(went_on, resumed)


@pytest.mark.parametrize("other", [{"epoch": 2}, {"seed": 1}])
def test_it_shows_something_else_in_another_epoch_or_run(dataset, other):
    assert not np.array_equal(batches_of(dataset)[0][0], batches_of(dataset, **other)[0][0])


def test_it_augments_without_ever_showing_something_outside_the_photo():
    rng = np.random.default_rng(0)
    picture = drawn_dog(0, 1, (200, 60))

    shown = [np.asarray(random_crop(picture, 32, rng)) for _ in range(50)]

    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in shown)
    assert len({image.tobytes() for image in shown}) == 50


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_it_turns_and_stretches_without_leaving_the_canvas(mode):
    rng = np.random.default_rng(0)
    picture = drawn_dog(1, 1, (64, 64)).convert(mode)

    shown = [random_affine(picture, rng) for _ in range(20)]

    assert all((image.size, image.mode) == ((64, 64), mode) for image in shown)
    assert len({image.tobytes() for image in shown}) == 20


# -- a network of our own ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("augment", [False, True])
def test_it_trains_a_network_of_our_own_that_answers(dataset_folder, tmp_path, augment):
    config = TrainingConfig(
        name="own", recipe="cnn", image_size=32, steps=CLASSIC_STEPS, stages=((32, 4),), augment=augment,
        filters=(8, 16), units=32, dropout=0.0, learning_rate=3e-3, batch_size=8, patience=3,
    )  # fmt: skip
    journey = Journey(config, dataset_folder, tmp_path)

    journey.go()

    classifier = Classifier.load(tmp_path / "checkpoint")
    assert classifier.checkpoint.steps == CLASSIC_STEPS
    assert classifier.classify(encode(drawn_dog(0, 99))).decision
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.slow
def test_it_stops_early_and_keeps_the_best_epoch(dataset_folder, tmp_path):
    config = TrainingConfig(
        name="own", recipe="cnn", image_size=32, steps=CLASSIC_STEPS, stages=((32, 30),), augment=False,
        filters=(8,), units=32, dropout=0.0, learning_rate=0.3, batch_size=8, patience=2,
    )  # fmt: skip
    journey = Journey(config, dataset_folder, tmp_path)

    journey.go()

    losses = [row["val_loss"] for row in json.loads((tmp_path / "history.json").read_text())]
    assert len(losses) < 31
    assert min(losses) == losses[-3]


def test_it_refuses_colour_networks_on_a_folder_without_colour(tiny, dataset, tmp_path):
    grey = replace(dataset, steps=("greyscale",))
    with pytest.raises(MLError, match="Expected photos in colour"):
        train_network(tiny, grey, Workplace(tmp_path, tmp_path, None, print))
