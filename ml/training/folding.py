"""Networks in other forms: copied, and as they are shipped, with batch normalisation folded and float16 weights.

The only module that uses private parts of Keras.
"""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

FOLDABLE = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


def fold_batch_norm(model: keras.Model, image_size: int | None) -> keras.Model:
    """An equal network in which each convolution has absorbed the batch normalisation behind it.

    Its input has the fixed size `image_size`, or any.

    (Jacob et al. 2018, section 3.2.) This is the form that is shipped: rounding its weights to float16 commutes with
    the export, so that the Keras file and the runtime file stay the same function.
    """
    folds = {}  # name of a batch normalisation -> the convolution that feeds it alone
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            source = source_of(layer)
            consumers = source._outbound_nodes  # private: tried with Keras 3.15
            if type(source) in FOLDABLE and len(consumers) == 1:
                folds[layer.name] = source
    absorbed = {source.name: model.get_layer(name) for name, source in folds.items()}
    scalings = _scalings(model)

    def plan(layer):
        if layer.name in folds:
            return layers.Activation("linear", name=layer.name)
        if layer.name in scalings:
            scale, offset = scalings[layer.name]
            return layers.Rescaling(float16_exact(scale), float16_exact(offset), name=layer.name)
        config = layer.get_config()
        if layer.name in absorbed:
            config["use_bias"] = True
        return type(layer).from_config(config)

    folded = copy_network(model, image_size=image_size, clone_function=plan, copy_weights=False)
    for layer in folded.layers:
        source = model.get_layer(layer.name) if layer.name != folded.layers[0].name else None
        if source is None or layer.name in folds or layer.name in scalings:
            continue
        if layer.name in absorbed:
            set_weights(layer, _folded_weights(source, absorbed[layer.name]))
        else:
            set_weights(layer, source.get_weights())
    return folded


def _scalings(model: keras.Model) -> dict[str, tuple]:
    """{name: (scale, offset)} of the layers that scale pixels; a normalisation takes in the rescaling before it."""
    scalings = {}
    for layer in model.layers:
        if isinstance(layer, layers.Rescaling):
            scalings[layer.name] = np.asarray(layer.scale), np.asarray(layer.offset)
        elif isinstance(layer, layers.Normalization):
            deviation = np.sqrt(np.ravel(layer.variance))
            scale, offset = scalings.pop(source_of(layer).name, (1.0, 0.0))
            scalings[source_of(layer).name] = np.float64(1.0), np.float64(0.0)
            scalings[layer.name] = scale / deviation, (offset - np.ravel(layer.mean)) / deviation
    return scalings


def _folded_weights(convolution, batch_norm) -> list[np.ndarray]:
    *kernels, kernel = convolution.get_weights()
    bias = 0.0
    if convolution.use_bias:
        bias, kernel = kernel, kernels.pop()
    mean, variance = np.asarray(batch_norm.moving_mean), np.asarray(batch_norm.moving_variance)
    gamma = np.asarray(batch_norm.gamma) if batch_norm.scale else np.ones_like(mean)
    beta = np.asarray(batch_norm.beta) if batch_norm.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + batch_norm.epsilon)
    depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    shape = (kernel.shape[2], kernel.shape[3]) if depthwise else (1, -1)
    return [*kernels, kernel * factor.reshape(shape), beta + (bias - mean) * factor]


def copy_network(model, *, image_size: int | None, clone_function=None, copy_weights=True) -> keras.Model:
    """Clone a functional network with the input (image_size, image_size, C)."""

    def call(layer, *args, **kwargs):
        kwargs.pop("mask", None)  # recorded for batch normalisation, unknown to what stands in for it
        return layer(*args, **kwargs)

    pixels = keras.Input((image_size, image_size, model.input.shape[-1]), name="pixels")
    clone_function = clone_function or (lambda layer: type(layer).from_config(layer.get_config()))
    copy = keras.models.clone_model(model, input_tensors=pixels, clone_function=clone_function, call_function=call)
    copy = keras.Model(pixels, copy.output, name=model.name)  # a clone would carry loss and optimizer with it
    if copy_weights:
        set_weights(copy, model.get_weights())
    return copy


def source_of(layer):
    return layer.input._keras_history.operation  # private: tried with Keras 3.15


def set_weights(model, weights: list[np.ndarray]) -> None:
    """As `set_weights`; normalisations, which compute with copies of their weights, learn of it."""
    model.set_weights(weights)
    for layer in getattr(model, "layers", [model]):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def float16_exact(value) -> float | list[float]:
    """The nearest that float16 can hold."""
    return np.float16(value).astype(float).tolist()


FLOAT16_MANTISSA_BITS = 10


def round_weights(model: keras.Model, mantissa_bits: int = FLOAT16_MANTISSA_BITS) -> None:
    """Give every weight the nearest float16 with so many bits after the leading one (10 are all that it has).

    Each bit less doubles the error, at most 2 ** -(mantissa_bits + 1) of the weight, and lets compressed files shrink.
    """
    set_weights(model, [_rounded(weight, mantissa_bits) for weight in model.get_weights()])


def _rounded(weight: np.ndarray, mantissa_bits: int) -> np.ndarray:
    dropped = FLOAT16_MANTISSA_BITS - mantissa_bits
    bits = np.asarray(weight).astype(np.float16).view(np.uint16).astype(np.uint32)
    if dropped:
        to_even = (1 << (dropped - 1)) - 1 + (bits >> dropped & 1)
        bits = bits + to_even >> dropped << dropped
    return bits.astype(np.uint16).view(np.float16).astype(np.float32)


def save_as_float16(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file whose weights are stored as float16; `keras.saving.load_model` reads it as it is."""
    whole = path.with_suffix(".float32.keras")
    model.save(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as target:
        for name in source.namelist():
            if name.endswith(".weights.h5"):
                half = path.with_suffix(".h5")
                half.write_bytes(source.read(name))
                _halve(half)
                target.write(half, name)
                half.unlink()
            else:
                target.writestr(name, source.read(name))
    whole.unlink()


def _halve(h5_path: Path) -> None:
    """Rewrite a weights file with float16 in place of float32, high and low bytes apart: the zip around it packs them.

    (HDF5 calls that a shuffle, and packs worse itself: each chunk anew.)
    """
    halved = h5_path.with_suffix(".half")

    def copy(source, target):
        target.attrs.update(source.attrs)
        for name, child in source.items():
            if isinstance(child, h5py.Dataset):
                data = child[()]
                half = data.astype(np.float16) if getattr(data, "dtype", None) == np.float32 else data
                apart = {"shuffle": True, "chunks": half.shape} if np.size(data) > 64 else {}
                target.create_dataset(name, data=half, **apart).attrs.update(child.attrs)
            else:
                copy(child, target.create_group(name))

    with h5py.File(h5_path) as source, h5py.File(halved, "w", libver="latest") as target:
        copy(source, target)
    halved.replace(h5_path)
