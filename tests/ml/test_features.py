"""Features of photos are computed once, by whoever comes first, and never again."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import train as benchmark
from ml import BadCheckpoint, BadDataset, MLError
from ml.data.loading import load_dataset
from ml.images.preprocessing import prepare_image
from ml.progress import track
from ml.serving.inference import Session, SessionPool
from ml.training import features
from ml.training.features import FeatureCache, backbone_file, cache_key, embed
from tests.support.ml import REPOSITORY, colour_network, encode, plain_picture, write_dataset, write_photo


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(write_dataset(tmp_path_factory.mktemp("dogs"), photos=10))


@pytest.fixture
def runtime_file(tmp_path):
    """A network whose embedding is the mean red, green and blue of a photo."""
    path = tmp_path / "network.tflite"
    path.write_bytes(colour_network())
    return path


@pytest.fixture
def computed(monkeypatch):
    """How many photos were given to a network."""
    calls = []

    class CountingPool(SessionPool):
        def __call__(self, image):
            calls.append(image)
            return super().__call__(image)

    monkeypatch.setattr(features, "SessionPool", CountingPool)
    return calls


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(features, "PHOTOS_PER_FILE", 4)


def test_it_embeds_photos_as_the_runtime_does_in_their_order(dataset, runtime_file, tmp_path, small_files):
    session = Session(runtime_file)
    items = dataset.items[::-1]

    found = embed(runtime_file, dataset, items, tmp_path / "cache", 32)

    expected = [session(prepare_image(dataset.read(item), 32))["embedding"] for item in items]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_it_computes_nothing_twice(dataset, runtime_file, tmp_path, computed):
    first = embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)
    assert len(computed) == 30
    computed.clear()

    again = embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)

    assert not computed
    np.testing.assert_array_equal(again, first)


def test_it_knows_the_photos_of_another_split_and_a_subset(dataset, runtime_file, tmp_path, computed):
    embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)
    computed.clear()
    other = load_dataset(dataset.root, seed=7, labels=["pug", "whippet"])
    assert [item.split for item in other.items] != [item.split for item in dataset.items if item.label != "bolognese"]

    found = embed(runtime_file, other, other.part("train"), tmp_path / "cache", 32)

    assert len(found) == len(other.part("train"))
    assert not computed


def test_it_knows_the_same_photos_under_other_names(dataset, runtime_file, tmp_path, computed):
    embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)
    computed.clear()
    for breed in ("bolognese", "pug", "whippet"):
        shutil.copytree(dataset.root / breed, tmp_path / "copy" / f"n00000000-{breed}-kept")
    write_dataset(tmp_path / "copy", ["akita", "beagle"], photos=10, first=50)

    other = load_dataset(tmp_path / "copy")
    embed(runtime_file, other, other.items, tmp_path / "cache", 32)

    assert len(computed) == 20


def test_it_takes_a_prepared_photo_for_what_it_is_and_not_for_its_source(dataset, runtime_file, tmp_path):
    embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)
    item = dataset.items[0]  # its hash stays that of the source, as in the manifest of a prepared folder
    write_photo(tmp_path / "prepared" / item.path, plain_picture((255, 0, 0), (32, 32)))
    prepared = replace(dataset, root=tmp_path / "prepared", items=[item], image_size=32)

    found = embed(runtime_file, prepared, [item], tmp_path / "cache", 32)

    np.testing.assert_allclose(found, [[1, 0, 0]], atol=0.02)


def test_it_computes_a_photo_that_is_there_twice_once(dataset, runtime_file, tmp_path, computed):
    twice = [dataset.items[0], dataset.items[1], dataset.items[0]]

    found = embed(runtime_file, dataset, twice, tmp_path / "cache", 32)

    assert len(computed) == 2
    np.testing.assert_array_equal(found[0], found[2])


def test_it_does_not_mistake_one_network_for_another(dataset, runtime_file, tmp_path, computed):
    embed(runtime_file, dataset, dataset.items[:3], tmp_path / "cache", 32)
    other = tmp_path / "other.tflite"
    other.write_bytes(colour_network(strength=3.0))

    embed(other, dataset, dataset.items[:3], tmp_path / "cache", 32)

    assert len(computed) == 6


def test_it_names_a_cache_by_network_preprocessing_and_size(runtime_file, tmp_path, monkeypatch):
    other = tmp_path / "other.tflite"
    other.write_bytes(colour_network(strength=3.0))
    keys = [cache_key(runtime_file, 32), cache_key(runtime_file, 64), cache_key(other, 32)]
    monkeypatch.setattr(features, "PREPROCESSING_ID", "another")
    keys.append(cache_key(runtime_file, 32))

    assert len(set(keys)) == 4


def test_it_tells_how_far_it_is(dataset, runtime_file, tmp_path, small_files):
    embed(runtime_file, dataset, dataset.items[:5], tmp_path / "cache", 32)
    lines = []

    embed(runtime_file, dataset, dataset.items[:9], tmp_path / "cache", 32, lambda *of: track(*of, say=lines.append))

    assert lines == ["features of photos: 4 of 4 in 0 s"]


# -- the network ------------------------------------------------------------------------------------------------------


def tiny_classifier(num_classes: int, seed: int = 0) -> keras.Model:
    """One convolution with seeded weights, and a head that is another one every time."""
    pixels = keras.Input((None, None, 3), name="pixels")
    convolution = layers.Conv2D(4, 3, strides=2, kernel_initializer=keras.initializers.GlorotUniform(seed))
    embedding = layers.GlobalAveragePooling2D(name="embedding")(convolution(pixels))
    return keras.Model(pixels, layers.Dense(num_classes, name="logits")(embedding), name="tiny")


def test_it_exports_a_backbone_that_gives_the_features_of_the_network(dataset, tmp_path):
    model = tiny_classifier(3)

    found = embed(backbone_file(model, 32, tmp_path), dataset, dataset.items[:4], tmp_path / "cache", 32)

    images = np.stack([prepare_image(dataset.read(item), 32) for item in dataset.items[:4]])
    expected = keras.Model(model.input, model.get_layer("embedding").output).predict_on_batch(images)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_it_exports_a_backbone_once_whatever_its_head(tmp_path, monkeypatch):
    first = backbone_file(tiny_classifier(3), 32, tmp_path)
    monkeypatch.setattr(features, "export_litert", None)

    assert backbone_file(tiny_classifier(5), 32, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_it_exports_another_backbone_under_another_name(tmp_path):
    names = {backbone_file(tiny_classifier(3, seed), size, tmp_path).name for seed, size in [(0, 32), (1, 32), (0, 24)]}

    assert len(names) == 3


# -- killed, damaged, refused -----------------------------------------------------------------------------------------


def test_it_keeps_what_was_computed_before_it_was_killed(dataset, runtime_file, tmp_path, computed, small_files):
    def kill_at_ten(items, _description, _total):
        for done, item in enumerate(items, 1):
            if done == 10:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32, kill_at_ten)
    computed.clear()

    embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)

    assert len(computed) == 30 - 8


@pytest.mark.parametrize("damage", [b"", b"half a file", "cut"])
def test_it_computes_again_what_a_damaged_file_held(dataset, runtime_file, tmp_path, computed, small_files, damage):
    whole = embed(runtime_file, dataset, dataset.items[:8], tmp_path / "cache", 32)
    victim = next((tmp_path / "cache").rglob("*.npz"))
    victim.write_bytes(victim.read_bytes()[:-40] if damage == "cut" else damage)
    computed.clear()

    found = embed(runtime_file, dataset, dataset.items[:8], tmp_path / "cache", 32)

    assert len(computed) == 4
    np.testing.assert_array_equal(found, whole)


def test_it_leaves_no_half_file_behind(tmp_path, monkeypatch):
    def write_half(file, **_arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", write_half)

    with pytest.raises(OSError, match="no space"):
        FeatureCache(tmp_path / "cache").write({"0" * 64: np.zeros(3, np.float32)})

    assert not list((tmp_path / "cache").iterdir())


def test_it_refuses_a_photo_that_changed_since_the_scan(dataset, runtime_file, tmp_path):
    shutil.copytree(dataset.root, tmp_path / "dogs")
    changed = replace(dataset, root=tmp_path / "dogs")
    (tmp_path / "dogs" / dataset.items[0].path).write_bytes(encode(plain_picture("red")))

    with pytest.raises(BadDataset, match="as it was when the dataset was scanned"):
        embed(runtime_file, changed, changed.items, tmp_path / "cache", 32)


def test_it_refuses_a_network_of_another_size(dataset, runtime_file, tmp_path):
    with pytest.raises(MLError, match="64-pixel images"):
        embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 64)


def test_it_refuses_what_is_no_network(dataset, tmp_path):
    (tmp_path / "network.tflite").write_bytes(b"none")

    with pytest.raises(BadCheckpoint):
        embed(tmp_path / "network.tflite", dataset, dataset.items, tmp_path / "cache", 32)


def test_it_refuses_to_embed_nothing(dataset, runtime_file, tmp_path):
    with pytest.raises(BadDataset, match="Expected photos"):
        embed(runtime_file, dataset, [], tmp_path / "cache", 32)


def test_it_refuses_features_that_are_no_numbers(dataset, runtime_file, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "__call__", lambda self, image: {"embedding": np.full(3, np.nan, np.float32)})

    with pytest.raises(MLError, match="NaN"):
        embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)

    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.slow
def test_it_lets_two_processes_fill_one_cache(dataset, runtime_file, tmp_path, computed):
    code = (
        "import sys; from pathlib import Path; from ml.training import features; "
        "from ml.data.loading import load_dataset; "
        "features.PHOTOS_PER_FILE = 2; runtime, dogs, cache = map(Path, sys.argv[1:]); "
        "dataset = load_dataset(dogs); print(features.embed(runtime, dataset, dataset.items, cache, 32).shape)"
    )
    command = [sys.executable, "-c", code, runtime_file, dataset.root, tmp_path / "cache"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}

    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].strip() for process in processes]

    assert printed == ["(30, 3)"] * 2
    embed(runtime_file, dataset, dataset.items, tmp_path / "cache", 32)
    assert not computed


# -- the benchmark ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_compared_with_the_plain_way_on_the_same_photos(dataset, capsys):
    figures = benchmark.main(["--dataset", str(dataset.root), "--photos", "9", "--val-photos", "3", "--epochs", "1"])

    printed = capsys.readouterr().out
    assert "3 breeds, 9 photos to train on, 3 of val" in printed
    assert "warm: " in printed
    for name, parts in {
        "plain Keras": ["network", "decode", "fit", "validate"],
        "Flair, cold": ["network", "export", "features", "head"],
        "Flair, warm": ["network", "export", "features", "head"],
    }.items():
        assert list(figures[name]["clock"]) == parts
        assert 0 <= figures[name]["accuracy"] <= 1
    assert figures["Flair, warm"]["accuracy"] == figures["Flair, cold"]["accuracy"]
    assert all(ratio > 0 for kind in figures["ratios"].values() for ratio in kind.values())


def test_it_samples_evenly_and_never_of_test(dataset):
    chosen = benchmark.sample(dataset, 9, 3, seed=0)

    assert [sum(item.label == label for item in chosen.part("train")) for label in chosen.labels] == [3, 3, 3]
    assert [sum(item.label == label for item in chosen.part("val")) for label in chosen.labels] == [1, 1, 1]
    assert not chosen.part("test")
    assert chosen.items == benchmark.sample(dataset, 9, 3, seed=0).items
    assert chosen.items != benchmark.sample(dataset, 9, 3, seed=1).items
