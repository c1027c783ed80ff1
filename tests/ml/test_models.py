"""Networks, and the form of them that is shipped."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers

from ml import MLError
from ml.serving.inference import Session
from ml.training.export import export_litert
from ml.training.folding import fold_batch_norm, round_weights, save_as_float16
from ml.training.networks import (
    EMBEDDING_LAYER,
    LOGITS_LAYER,
    build_classifier,
    build_cnn,
    freeze_batch_norm,
    scaled,
    with_embedding,
)

SIZE = 32


def tiny_network() -> keras.Model:
    """Every kind of convolution and batch normalisation that folding has to get right, or to leave alone."""
    pixels = keras.Input((None, None, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, -1.0)(pixels)
    x = layers.Conv2D(6, 3, strides=2, use_bias=False, name="plain")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-2)(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise_doubled")(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.Conv2D(8, 1, name="biased")(x)
    x = layers.BatchNormalization()(x)
    shared = layers.Conv2D(8, 1, name="feeds_two")(x)
    x = layers.Add()([layers.BatchNormalization(name="must_stay")(shared), shared])
    x = layers.BatchNormalization(name="behind_no_convolution")(layers.ReLU()(x))
    embedding = layers.GlobalAveragePooling2D(name=EMBEDDING_LAYER)(x)
    return keras.Model(pixels, layers.Dense(4, name=LOGITS_LAYER)(layers.Dropout(0.5)(embedding)))


def scramble(network: keras.Model) -> keras.Model:
    """Give every weight that training could change a random value; the batch statistics above all."""
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                low, high = (0.3, 2.0) if weight.name in ("gamma", "moving_variance") else (-0.5, 0.5)
                weight.assign(rng.uniform(low, high, weight.shape))
        elif layer.get_weights() and getattr(layer, "use_bias", False):
            layer.bias.assign(rng.uniform(-0.5, 0.5, layer.bias.shape))
    return network


def pictures(number: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (number, SIZE, SIZE, 3)).astype(np.float32)


def answers(network: keras.Model) -> np.ndarray:
    return np.asarray(network.predict_on_batch(pictures()))


@pytest.fixture(scope="module")
def mobilenet():
    return scramble(build_classifier("mobilenetv2", 5))


def batch_norms(network) -> list[str]:
    return [layer.name for layer in network.layers if isinstance(layer, layers.BatchNormalization)]


def test_it_builds_mobilenet_with_the_known_number_of_parameters():
    assert build_classifier("mobilenetv2", 120).count_params() == 2_411_704


def test_it_gives_one_logit_per_class_at_any_image_size(mobilenet):
    assert mobilenet.predict_on_batch(np.zeros((2, 64, 96, 3), np.float32)).shape == (2, 5)


def test_it_gives_logits_and_no_probabilities(mobilenet):
    assert mobilenet.get_layer(LOGITS_LAYER).activation is keras.activations.linear


def test_it_refuses_an_unknown_backbone():
    with pytest.raises(MLError, match=r"Expected a backbone among .*mobilenetv2.*Received: resnet9000"):
        build_classifier("resnet9000", 3)


@pytest.mark.slow
def test_it_starts_from_the_weights_of_a_backbone(tmp_path):
    bare = scramble(keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3)))
    bare.save_weights(tmp_path / "bare.weights.h5")

    network = build_classifier("mobilenetv2", 3, weights=tmp_path / "bare.weights.h5")

    embedding = with_embedding(network, SIZE).predict_on_batch(pictures())["embedding"]
    expected = bare.predict_on_batch(pictures() / 127.5 - 1).mean(axis=(1, 2))
    np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-3)


def bare_efficientnet(**options) -> keras.Model:
    """As Keras builds it, with the normalisation of pixels that its weights of the web bring."""
    keras.utils.set_random_seed(1)
    bare = keras.applications.EfficientNetB0(include_top=False, input_shape=(SIZE, SIZE, 3), **options)
    normalisation = next(layer for layer in bare.layers if isinstance(layer, layers.Normalization))
    normalisation.adapt_mean.assign([0.485, 0.456, 0.406])
    normalisation.adapt_variance.assign([0.229, 0.224, 0.225])
    normalisation.finalize_state()
    return bare


def assert_same_features(network: keras.Model, bare: keras.Model) -> None:
    embedding = with_embedding(network, SIZE).predict_on_batch(pictures())["embedding"]
    expected = bare.predict_on_batch(pictures()).mean(axis=(1, 2))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_it_scales_pixels_as_the_weights_of_a_backbone_say(tmp_path):
    bare = bare_efficientnet(weights=None)
    bare.save_weights(tmp_path / "bare.weights.h5")

    network = build_classifier("efficientnetb0", 3, weights=tmp_path / "bare.weights.h5")

    assert_same_features(network, bare)


@pytest.mark.slow
def test_it_scales_pixels_as_keras_does_with_weights_of_the_web(tmp_path, monkeypatch):
    """Which differ: Keras appends a rescaling to them."""
    bare_efficientnet(weights=None).save_weights(tmp_path / "web.weights.h5")
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *args, **kwargs: tmp_path / "web.weights.h5")

    network = build_classifier("efficientnetb0", 3, weights="imagenet")

    assert_same_features(network, keras.applications.EfficientNetB0(include_top=False, input_shape=(SIZE, SIZE, 3)))


def test_it_freezes_the_batch_normalisations_alone():
    network = tiny_network()

    freeze_batch_norm(network)

    assert batch_norms(network)
    for layer in network.layers:
        assert layer.trainable != isinstance(layer, layers.BatchNormalization)


def test_it_gives_the_embedding_that_the_logits_are_made_from(mobilenet):
    outputs = with_embedding(mobilenet, SIZE).predict_on_batch(pictures())

    kernel, bias = mobilenet.get_layer(LOGITS_LAYER).get_weights()
    np.testing.assert_allclose(outputs["logits"], answers(mobilenet), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["embedding"] @ kernel + bias, outputs["logits"], rtol=1e-3, atol=1e-3)


def test_it_folds_every_batch_normalisation_it_can_and_stays_the_same_function():
    network = scramble(tiny_network())

    folded = fold_batch_norm(network, SIZE)

    assert batch_norms(folded) == ["must_stay", "behind_no_convolution"]
    np.testing.assert_allclose(answers(folded), answers(network), rtol=1e-4, atol=1e-4)
    assert np.ptp(answers(network)) > 0.1  # the pictures do make a difference


def test_it_leaves_the_network_it_folds_as_it_was():
    network = scramble(tiny_network())
    before = network.get_weights()

    fold_batch_norm(network, SIZE)

    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.slow
def test_it_folds_mobilenet_to_the_same_function(mobilenet):
    folded = fold_batch_norm(mobilenet, SIZE)

    assert batch_norms(folded) == []
    scale = np.abs(answers(mobilenet)).max()
    assert np.ptp(answers(mobilenet)) > 0.01 * scale
    np.testing.assert_allclose(answers(folded), answers(mobilenet), atol=2e-4 * scale)


def test_it_rounds_every_weight_to_what_float16_can_hold():
    network = scramble(tiny_network())
    before = network.get_weights()

    round_weights(network)

    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old.astype(np.float16))


@given(hnp.arrays(np.float32, 20, elements=st.floats(-60000, 60000, width=32)), st.integers(3, 10))
def test_it_rounds_weights_to_the_nearest_of_few_bits(values, bits):
    network = keras.Sequential([keras.Input((20,)), layers.Dense(1, use_bias=False)])
    network.set_weights([values[:, None]])

    round_weights(network, bits)

    rounded = network.get_weights()[0][:, 0]
    halves = values.astype(np.float16).astype(np.float32)
    normal = (np.abs(halves) >= 2.0**-14) & (np.abs(halves) < 60000)
    assert (np.abs(rounded - halves)[normal] <= np.abs(halves[normal]) * 2.0 ** -(bits + 1)).all()
    assert (rounded.astype(np.float16).view(np.uint16) % (1 << (10 - bits)) == 0).all()
    assert np.isfinite(rounded[normal]).all()


def test_it_stores_few_bits_in_few_bytes(tmp_path):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((400,)), layers.Dense(400)])
    sizes = []
    for bits in (10, 5):
        round_weights(network, bits)
        save_as_float16(network, tmp_path / "model.keras")
        sizes.append((tmp_path / "model.keras").stat().st_size)

    assert sizes[1] < 0.75 * sizes[0]


def test_it_stores_float16_and_reads_the_same_function_back(tmp_path):
    network = fold_batch_norm(scramble(tiny_network()), SIZE)
    round_weights(network)

    save_as_float16(network, tmp_path / "model.keras")

    np.testing.assert_array_equal(answers(keras.saving.load_model(tmp_path / "model.keras")), answers(network))
    kinds = set()
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored) as file:
        file.visititems(lambda name, child: kinds.add(child.dtype) if isinstance(child, h5py.Dataset) else None)
    assert np.dtype(np.float16) in kinds
    assert np.dtype(np.float32) not in kinds


def test_it_leaves_no_other_file_beside_the_stored_one(tmp_path):
    save_as_float16(tiny_network(), tmp_path / "model.keras")

    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


# -- the exported file is the same function ---------------------------------------------------------------------------


def odd_scaling() -> keras.Model:
    """Scaling by what float16 cannot hold, straight into a convolution without padding: an exporter's temptation."""
    pixels = keras.Input((None, None, 3), name="pixels")
    x = scaled(pixels, [1 / 127.5, 1 / 58.4, 1 / 57.1], [-103.939, -116.779, -123.68])
    x = layers.ReLU()(layers.Conv2D(8, 3, strides=2, use_bias=False)(x))
    embedding = layers.GlobalAveragePooling2D(name=EMBEDDING_LAYER)(x)
    return keras.Model(pixels, layers.Dense(3, name=LOGITS_LAYER)(embedding))


def efficientnet() -> keras.Model:
    network = bare_efficientnet(weights=None)
    embedding = layers.GlobalAveragePooling2D(name=EMBEDDING_LAYER)(network.output)
    return keras.Model(network.input, layers.Dense(3, name=LOGITS_LAYER)(embedding))


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [odd_scaling, lambda: build_cnn(3, image_size=32, channels=3), lambda: build_classifier("vgg16", 3), efficientnet],
)
def test_it_exports_the_same_function(tmp_path, caplog, build):
    keras.utils.set_random_seed(0)
    network = fold_batch_norm(build(), 32)
    round_weights(network)
    caplog.clear()
    export_litert(network, 32, tmp_path / "model.tflite")
    assert not caplog.records  # maintainers read what training says: nothing but that
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)

    exported = np.stack([Session(tmp_path / "model.tflite")(image)["logits"] for image in images])

    logits = np.asarray(network.predict_on_batch(images.astype(np.float32)))
    np.testing.assert_allclose(exported, logits, rtol=1e-4, atol=2e-5 * np.abs(logits).max())
