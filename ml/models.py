"""Networks: a pretrained backbone with a linear head, and the form of it that is shipped.

Every network takes pixels as they are, (N, H, W, 3) in [0, 255], and gives logits; scaling to the backbone's own
range is its first layer, softmax is not a part of it. Backend-neutral Keras: nothing here is TensorFlow's.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

from ml import MLError

EMBEDDING_LAYER = "embedding"
LOGITS_LAYER = "logits"


@dataclass(frozen=True)
class Backbone:
    """A network of `keras.applications`, with the pixel range it was trained on: x -> x * scale + offset."""

    constructor: str
    scale: float = 1.0
    offset: float = 0.0
    last_layer: str | None = None


BACKBONES = {
    "mobilenetv2": Backbone("MobileNetV2", scale=1 / 127.5, offset=-1.0),
    "efficientnetb4-to-block7a": Backbone("EfficientNetB4", last_layer="block7a_project_bn"),
}


def build_classifier(backbone_name: str, num_classes: int, *, weights: Path | None = None, dropout=0.2) -> keras.Model:
    """Backbone -> average pooling (the embedding) -> dropout -> linear head. Input (N, H, W, 3), any H and W.

    `weights` is a Keras weights file of the bare backbone; without one it starts from random numbers.
    """
    if backbone_name not in BACKBONES:
        raise MLError(f"Expected a backbone among {', '.join(BACKBONES)}. Received: {backbone_name}.")
    backbone = BACKBONES[backbone_name]
    pixels = keras.Input((None, None, 3), name="pixels")
    x = layers.Rescaling(backbone.scale, backbone.offset)(pixels)
    body = _body(backbone, input_tensor=x)
    if weights:
        bare = _body(backbone, input_shape=(224, 224, 3))
        bare.load_weights(weights)
        body.set_weights(bare.get_weights())
    embedding = layers.GlobalAveragePooling2D(name=EMBEDDING_LAYER)(body.output)
    logits = layers.Dense(num_classes, name=LOGITS_LAYER)(layers.Dropout(dropout)(embedding))
    return keras.Model(pixels, logits, name=backbone_name.replace("-", "_"))


def _body(backbone: Backbone, **input_spec) -> keras.Model:
    constructor = getattr(keras.applications, backbone.constructor)
    body = constructor(weights=None, include_top=False, **input_spec)
    if backbone.last_layer:
        return keras.Model(body.input, body.get_layer(backbone.last_layer).output)
    return body


def freeze_batch_norm(model: keras.Model) -> None:
    """Train with the statistics that came with the backbone: small batches and sizes would only blur them."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def with_embedding(model: keras.Model, image_size: int) -> keras.Model:
    """The same network with a fixed input size and two outputs, `logits` and `embedding`."""
    fixed = _copy(model, image_size=image_size)
    return keras.Model(
        fixed.input,
        {"logits": fixed.get_layer(LOGITS_LAYER).output, "embedding": fixed.get_layer(EMBEDDING_LAYER).output},
    )


def fold_batch_norm(model: keras.Model, image_size: int) -> keras.Model:
    """An equal network in which each convolution has absorbed the batch normalisation behind it.

    (Jacob et al. 2018, section 3.2.) This is the form that is shipped: rounding its weights to float16 commutes with
    the export, so that the Keras file and the runtime file stay the same function.
    """
    folds = {}  # name of a batch normalisation -> the convolution that feeds it alone
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            source = layer.input._keras_history.operation
            if type(source) in (layers.Conv2D, layers.DepthwiseConv2D) and len(source._outbound_nodes) == 1:
                folds[layer.name] = source
    absorbed = {source.name: model.get_layer(name) for name, source in folds.items()}

    def plan(layer):
        if layer.name in folds:
            return layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        if layer.name in absorbed:
            config["use_bias"] = True
        return type(layer).from_config(config)

    folded = _copy(model, image_size=image_size, clone_function=plan, copy_weights=False)
    for layer in folded.layers:
        source = model.get_layer(layer.name) if layer.name != folded.layers[0].name else None
        if source is None or layer.name in folds:
            continue
        if layer.name in absorbed:
            layer.set_weights(_folded_weights(source, absorbed[layer.name]))
        else:
            layer.set_weights(source.get_weights())
    return folded


def _folded_weights(convolution, batch_norm) -> list[np.ndarray]:
    kernel, *bias = convolution.get_weights()
    mean, variance = np.asarray(batch_norm.moving_mean), np.asarray(batch_norm.moving_variance)
    gamma = np.asarray(batch_norm.gamma) if batch_norm.scale else np.ones_like(mean)
    beta = np.asarray(batch_norm.beta) if batch_norm.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + batch_norm.epsilon)
    depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    shape = (kernel.shape[2], kernel.shape[3]) if depthwise else (1, -1)
    return [kernel * factor.reshape(shape), beta + ((bias[0] if bias else 0.0) - mean) * factor]


def _copy(model, *, image_size, clone_function=None, copy_weights=True) -> keras.Model:
    """Clone a functional network with the fixed input (image_size, image_size, 3)."""

    def call(layer, *args, **kwargs):
        kwargs.pop("mask", None)  # recorded for batch normalisation, unknown to what stands in for it
        return layer(*args, **kwargs)

    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    clone_function = clone_function or (lambda layer: type(layer).from_config(layer.get_config()))
    copy = keras.models.clone_model(model, input_tensors=pixels, clone_function=clone_function, call_function=call)
    copy = keras.Model(pixels, copy.output, name=model.name)  # a clone would carry loss and optimizer with it
    if copy_weights:
        copy.set_weights(model.get_weights())
    return copy


def round_to_float16(model: keras.Model) -> None:
    """Give every weight the nearest value that float16 can hold."""
    model.set_weights([weight.astype(np.float16).astype(np.float32) for weight in model.get_weights()])


def save_as_float16(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file whose weights are stored as float16; `keras.saving.load_model` reads it as it is."""
    import zipfile

    whole = path.with_suffix(".float32.keras")
    model.save(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
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
    """Rewrite a weights file with float16 in place of float32."""
    halved = h5_path.with_suffix(".half")

    def copy(source, target):
        target.attrs.update(source.attrs)
        for name, child in source.items():
            if isinstance(child, h5py.Dataset):
                data = child[()]
                half = data.astype(np.float16) if getattr(data, "dtype", None) == np.float32 else data
                target.create_dataset(name, data=half).attrs.update(child.attrs)
            else:
                copy(child, target.create_group(name))

    with h5py.File(h5_path) as source, h5py.File(halved, "w") as target:
        copy(source, target)
    halved.replace(h5_path)
