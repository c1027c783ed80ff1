"""A checkpoint that answers."""

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest
from PIL import Image

from ml import BadCheckpoint, UnreadableImage
from ml.images.preprocessing import prepare_image
from ml.serving import inference
from ml.serving.calibration import softmax
from ml.serving.inference import Classifier, Session, SessionPool
from tests.support.ml import (
    BUNDLED,
    LABELS,
    REPOSITORY,
    colour_network,
    drawn_dog,
    encode,
    encode_turned,
    plain_picture,
    run_fresh,
    write_checkpoint,
)

FULL_FRAME_DOGS = REPOSITORY.parent / "shared" / "data" / "full-frame-dogs.tar"


@pytest.fixture(scope="module")
def bundled():
    return Classifier.load(BUNDLED)


@pytest.fixture(scope="module")
def photos():
    return [encode(drawn_dog(breed, seed, (320, 240))) for breed in range(3) for seed in range(2)]


def load_made(folder, **parts) -> Classifier:
    return Classifier.load(write_checkpoint(folder / "checkpoint", **{"network": colour_network(), **parts}))


# -- the classifier that comes with the project -----------------------------------------------------------------------


def test_it_answers_with_the_bundled_classifier(bundled, photos):
    found = bundled.classify(photos[0])

    assert found.version == json.loads((BUNDLED / "info.json").read_text())["version"]
    assert found.decision in ("breed", "group", "unsure", "not_a_dog")
    probabilities = [found.probability] + [candidate.probability for candidate in found.candidates]
    assert all(0 <= probability <= 1 for probability in probabilities)
    assert {candidate.label for candidate in found.candidates} <= {label.slug for label in bundled.checkpoint.labels}
    assert found.milliseconds > 0


def test_it_says_what_its_decision_was_made_from(bundled, photos):
    found = bundled.classify(photos[0])

    logits = bundled.logits(photos[0])
    np.testing.assert_allclose(found.probs, bundled.checkpoint.calibration(logits), rtol=1e-5)
    assert found.energy == pytest.approx(bundled.energy(logits, found.embedding), rel=1e-5)
    assert found.embedding.shape == bundled.checkpoint.familiarity.mean.shape
    assert found.reasons == bundled.decide(logits, found.embedding).reasons != ()


def test_it_gives_every_label_of_the_bundled_classifier_a_probability(bundled, photos):
    probs = bundled.checkpoint.calibration(bundled.logits(photos[0]))

    assert probs.shape == (len(bundled.checkpoint.labels),)
    assert probs.sum() == pytest.approx(1)


def test_it_answers_several_threads_as_it_answers_one(bundled, photos):
    alone = [bundled.logits(photo) for photo in photos]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(bundled.logits, photos * 4))

    for number, logits in enumerate(together):
        np.testing.assert_array_equal(logits, alone[number % len(photos)])


def test_it_shows_what_it_saw(bundled):
    found = bundled.classify(encode_turned(drawn_dog(0, 1, (600, 400)), 6))

    with Image.open(io.BytesIO(found.preview)) as preview:
        assert (preview.format, preview.size) == ("JPEG", (600, 400))


def test_it_answers_the_same_without_a_preview_that_nobody_keeps(bundled, photos):
    kept, found = bundled.classify(photos[0]), bundled.classify(photos[0], keeps_look=False)
    assert (found.candidates, found.reasons, found.preview, found.dhash) == (kept.candidates, kept.reasons, b"", 0)


@pytest.mark.parametrize("image_bytes", [b"", b"no photo", encode(plain_picture("red"))[:-9]])
def test_it_raises_its_own_error_for_what_is_no_photo(bundled, image_bytes):
    with pytest.raises(UnreadableImage):
        bundled.classify(image_bytes)


@pytest.mark.slow
@pytest.mark.real_photos
def test_it_is_the_same_function_as_the_network_it_was_exported_from(bundled):
    if not FULL_FRAME_DOGS.exists():
        pytest.skip("full-frame-dogs.tar, the archive of real photos, is not here")
    import keras

    from ml.training.export import parity

    with tarfile.open(FULL_FRAME_DOGS) as archive:
        members = [member for member in archive if member.name.endswith(".jpg")][:16]
        size = bundled.checkpoint.image_size
        images = np.stack([prepare_image(archive.extractfile(member).read(), size) for member in members])

    difference = parity(keras.saving.load_model(BUNDLED / "model.keras", compile=False), bundled.session, images)

    assert len(images) == 16
    assert difference < 1e-4


@pytest.mark.slow
def test_it_comes_with_a_network_that_keras_alone_can_read(tmp_path):
    path = BUNDLED / "model.keras"

    assert run_fresh(f"import keras; print(keras.saving.load_model({str(path)!r}).input_shape[3])", tmp_path) == "3"


# -- a made network whose logits are ten times the mean red, green and blue -------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("colour", "decision", "label", "group"),
    [
        ((255, 0, 0), "breed", "red_setter", "setters"),
        ((0, 255, 0), "breed", "green_setter", "setters"),
        ((150, 150, 0), "group", "", "setters"),
        ((0, 0, 255), "unsure", "", ""),
        ((0, 0, 0), "not_a_dog", "", ""),
    ],
)
def test_it_sees_colours_as_they_are(tmp_path, colour, decision, label, group):
    classifier = load_made(tmp_path, thresholds={"energy": 2.0, "breed": 0.7, "group": 0.8})

    found = classifier.classify(encode(plain_picture(colour), "PNG"))

    assert (found.decision, found.label, found.group) == (decision, label, group)
    assert "blue_dingo" not in [candidate.label for candidate in found.candidates]


@pytest.mark.slow
def test_it_applies_the_temperature_of_its_checkpoint(tmp_path):
    found = load_made(tmp_path, temperature=4.0).classify(encode(plain_picture((255, 0, 0)), "PNG"))

    assert found.candidates[0].probability == pytest.approx(softmax(np.array([10.0, 0, 0]), 4.0)[0], abs=1e-4)


@pytest.mark.slow
def test_it_gives_the_embedding_beside_the_logits(tmp_path):
    classifier = load_made(tmp_path)

    outputs = classifier.session(np.full((32, 32, 3), (255, 51, 0), np.uint8))

    np.testing.assert_allclose(outputs["embedding"], [1.0, 0.2, 0.0], atol=1e-3)
    np.testing.assert_allclose(outputs["logits"], [10.0, 2.0, 0.0], atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [LABELS[:2], [*LABELS, LABELS[0]]], ids=["fewer", "more"])
def test_it_refuses_a_network_of_other_labels(tmp_path, labels):
    with pytest.raises(BadCheckpoint, match=rf"Expected {len(labels)} logits .* Received: 3"):
        load_made(tmp_path, labels=labels)


@pytest.mark.slow
def test_it_refuses_a_network_whose_weights_are_no_numbers(tmp_path):
    with pytest.raises(BadCheckpoint):
        load_made(tmp_path, network=colour_network(float("nan")))


@pytest.mark.slow
def test_it_refuses_a_network_of_another_image_size(tmp_path):
    with pytest.raises(BadCheckpoint):
        load_made(tmp_path, image_size=48)


@pytest.mark.parametrize("network", [b"", b"no network at all"])
def test_it_refuses_a_file_that_is_no_network(tmp_path, network):
    with pytest.raises(BadCheckpoint, match="Expected a LiteRT network"):
        load_made(tmp_path, network=network)


def test_it_refuses_a_network_that_is_not_there(tmp_path):
    with pytest.raises(BadCheckpoint):
        Session(tmp_path / "nowhere.tflite")


# -- several at once --------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(monkeypatch):
    """A pool on two cores; a photo is answered when as many are at work at once as `pool.together` waits for."""

    class Meeting:
        image_size, content, loaded = 32, b"a network", 0

        def __init__(self, model_path, num_threads, content=b""):
            assert content == (b"a network" if Meeting.loaded else b"")  # of what was read first, whatever comes later
            Meeting.loaded += 1

        def __call__(self, image):
            pool.together.wait(timeout=10)
            return {"logits": image}

    monkeypatch.setattr(inference, "Session", Meeting)
    monkeypatch.setattr(inference.os, "cpu_count", lambda: 2)
    pool = SessionPool("a network")
    pool.loaded = lambda: Meeting.loaded
    return pool


def test_one_photo_after_the_other_needs_one_network(pool):
    pool.together = Barrier(1)
    for photo in range(3):
        assert pool(photo) == {"logits": photo}
    assert pool.loaded() == 1


def test_photos_at_once_need_a_network_for_each_core_and_no_more(pool):
    pool.together = Barrier(2)
    with ThreadPoolExecutor(8) as threads:
        assert [answer["logits"] for answer in threads.map(pool, range(8))] == list(range(8))
    assert pool.loaded() == 2


def test_a_network_that_fails_is_there_for_the_next_photo(pool):
    pool.together = Barrier(1)
    pool.together.abort()
    with pytest.raises(BrokenBarrierError):
        pool(1)
    pool.together.reset()
    assert pool(2) == {"logits": 2}
    assert pool.loaded() == 1
