"""A checkpoint folder is served only where its parts fit each other."""

import json
import lzma

import numpy as np
import pytest

from ml import BadCheckpoint
from ml.serving.calibration import Calibration
from ml.serving.checkpoint import HASHED_PARTS, load_checkpoint
from ml.serving.decision import Thresholds
from ml.serving.familiarity import Familiarity
from ml.training.shipping import mantissa_bits
from tests.support.ml import LABELS, seal, write_checkpoint

FAMILIARITY = Familiarity(np.zeros(3), np.eye(3), np.full(3, 2.0), np.eye(3))


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "checkpoint", temperature=1.5, familiarity=FAMILIARITY)


def test_it_may_know_no_familiarity(tmp_path):
    assert load_checkpoint(write_checkpoint(tmp_path)).familiarity is None


def change_info(folder, **changes):
    path = folder / "info.json"
    info = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in info.items() if value is not None}))


def refusal_of(folder) -> str:
    with pytest.raises(BadCheckpoint) as raised:
        load_checkpoint(folder)
    message = str(raised.value)
    assert message.startswith("Expected ")
    assert "\n" not in message
    return message


def test_it_loads_a_sealed_folder(folder):
    checkpoint = load_checkpoint(folder)

    assert checkpoint.labels == tuple(LABELS)
    assert checkpoint.calibration == Calibration(1.5)
    assert checkpoint.familiarity(np.eye(3)[:1])[0] == pytest.approx(0.5)  # 1 / 2 of all dogs, 0 of its breed
    assert checkpoint.thresholds == Thresholds(energy=0.0, breed=0.7, group=0.8)
    assert (checkpoint.name, checkpoint.image_size, checkpoint.created) == ("made", 32, "2026-01-01")
    assert checkpoint.version == json.loads((folder / "info.json").read_text())["version"]
    assert lzma.decompress(checkpoint.model_path.read_bytes()) == b"a network"


@pytest.mark.parametrize("name", [*HASHED_PARTS, "info.json"])
def test_it_misses_a_part(folder, name):
    (folder / name).unlink()

    assert name in refusal_of(folder)


def test_it_misses_the_whole_folder(tmp_path):
    assert "nowhere" in refusal_of(tmp_path / "nowhere")


@pytest.mark.parametrize("name", HASHED_PARTS)
def test_it_notices_a_changed_part(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b"\n")

    assert name in refusal_of(folder)


def test_it_notices_the_labels_of_another_checkpoint(folder, tmp_path):
    other = write_checkpoint(tmp_path / "other", labels=LABELS[::-1])
    (folder / "labels.json").write_bytes((other / "labels.json").read_bytes())

    assert "labels.json" in refusal_of(folder)


def test_it_refuses_photos_prepared_in_another_way(folder):
    change_info(folder, preprocessing="squeezed-bgr-7")

    assert "squeezed-bgr-7" in refusal_of(folder)


def test_it_refuses_a_version_that_is_not_that_of_the_parts(folder):
    change_info(folder, version="0123456789ab")

    assert "version" in refusal_of(folder)


@pytest.mark.parametrize("name", HASHED_PARTS)
def test_it_refuses_an_info_that_leaves_a_part_unverified(folder, name):
    files = json.loads((folder / "info.json").read_text())["files"]
    del files[name]
    change_info(folder, files=files)

    assert name in refusal_of(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null"])
def test_it_refuses_an_info_that_is_none(folder, content):
    (folder / "info.json").write_text(content)

    refusal_of(folder)


@pytest.mark.parametrize("key", ["name", "version", "backbone", "image_size", "created", "preprocessing", "files"])
def test_it_refuses_an_info_without_its(folder, key):
    change_info(folder, **{key: None})

    refusal_of(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calibration.json", "{}"),
        ("calibration.json", '{"temperature": 0}'),
        ("calibration.json", '{"temperature": "warm"}'),
        ("calibration.json", '{"temperature": 1, "doubt": 0.6}'),
        ("calibration.json", '{"temperature": 1, "doubt": "some"}'),
        ("decision.json", "{}"),
        ("decision.json", '{"thresholds": {"energy": 0}}'),
        ("labels.json", "[]"),
        ("labels.json", '[{"slug": "pug"}]'),
        ("labels.json", '["pug", "whippet"]'),
    ],
)
def test_it_refuses_a_part_without_the_content_it_needs(folder, name, content):
    (folder / name).write_text(content)
    seal(folder)

    refusal_of(folder)


@pytest.mark.parametrize("name", HASHED_PARTS)
def test_it_gets_another_version_with_another_part(folder, name):
    before = load_checkpoint(folder).version
    with (folder / name).open("ab") as file:
        file.write(b"\n")

    assert seal(folder) != before


def test_it_keeps_its_version_where_nothing_that_answers_has_changed(folder, tmp_path):
    other = write_checkpoint(
        tmp_path / "other", temperature=1.5, familiarity=FAMILIARITY, name="another name", created="2027-01-01"
    )
    (other / "card.md").write_text("for people")

    assert load_checkpoint(other).version == load_checkpoint(folder).version


@pytest.mark.parametrize(("parameters", "bits"), [(2_400_000, 10), (13_900_000, 5)])
def test_a_small_network_keeps_all_bits_of_its_weights(parameters, bits):
    """Rounded as EfficientNet-B4's are, MobileNetV2's would cost it answers."""
    assert mantissa_bits(parameters) == bits
