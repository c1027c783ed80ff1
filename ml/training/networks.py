"""Networks: our own convolutional one, and pretrained backbones with a linear head.

Every network takes pixels as they are, (N, H, W, C) in [0, 255], and gives logits; scaling to its own range is its
first layer, softmax is not a part of it. Backend-neutral Keras: nothing here is TensorFlow's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from ml import MLError
from ml.training.folding import copy_network, float16_exact, set_weights, source_of

EMBEDDING_LAYER = "embedding"
HIDDEN_LAYER = "hidden"
LOGITS_LAYER = "logits"

# The filters of the own networks: `cnn` as in the first system, `cnn-extra` with one more convolution.
OWN_FILTERS = {"cnn": (32, 64, 128, 256), "cnn-extra": (32, 64, 128, 256, 512)}


def build_cnn(
    num_classes: int,
    *,
    image_size: int = 224,
    channels: int = 1,
    filters: Sequence[int] = OWN_FILTERS["cnn"],
    units: int = 256,
    dropout: float = 0.0,
) -> keras.Model:
    """Convolutions (3 x 3, same, ReLU), each with a pooling of 2, then a hidden layer of `units` (the embedding).

    Input (N, image_size, image_size, channels). 13,233,923 parameters for 3 classes as it stands.
    """
    pixels = keras.Input((image_size, image_size, channels), name="pixels")
    x = scaled(pixels, 1 / 255, 0.0)
    for number in filters:
        x = layers.MaxPooling2D(2)(layers.Conv2D(number, 3, padding="same", activation="relu")(x))
    embedding = layers.Dense(units, activation="relu", name=EMBEDDING_LAYER)(layers.Flatten()(x))
    logits = layers.Dense(num_classes, name=LOGITS_LAYER)(layers.Dropout(dropout)(embedding) if dropout else embedding)
    return keras.Model(pixels, logits, name="cnn")


def scaled(pixels, scale: float | list[float], offset: float | list[float]):
    """pixels * scale + offset, with constants that float16 holds exactly: the exporter rounds them like weights.

    The clip changes nothing, but keeps the scaling out of the convolution behind it: the exporter would fuse the two
    and round the product, which is another function than the one trained.
    """
    return keras.ops.clip(layers.Rescaling(float16_exact(scale), float16_exact(offset))(pixels), -1000.0, 1000.0)


@dataclass(frozen=True)
class Backbone:
    """A network of `keras.applications` and the pixels it was trained on: x -> x * scale + offset, RGB or BGR.

    `last_layer` cuts the network after that layer.
    """

    constructor: str
    scale: float | list[float] = 1.0
    offset: float | list[float] = 0.0
    reversed_channels: bool = False
    last_layer: str | None = None


# The three ways in which `keras.applications` scales pixels (its `imagenet_utils.preprocess_input`); families that
# are not named here scale by a layer of their own.
_CAFFE = {"offset": [-103.939, -116.779, -123.68], "reversed_channels": True}
_TF = {"scale": 1 / 127.5, "offset": -1.0}
_TORCH = {
    "scale": [1 / (255 * deviation) for deviation in (0.229, 0.224, 0.225)],
    "offset": [-mean / deviation for mean, deviation in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))],
}
_FAMILIES = {
    "VGG16": _CAFFE, "VGG19": _CAFFE, "ResNet50": _CAFFE, "ResNet101": _CAFFE, "ResNet152": _CAFFE,
    "ResNet50V2": _TF, "ResNet101V2": _TF, "ResNet152V2": _TF, "Xception": _TF, "InceptionV3": _TF,
    "InceptionResNetV2": _TF, "MobileNet": _TF, "MobileNetV2": _TF, "NASNetMobile": _TF, "NASNetLarge": _TF,
    "DenseNet121": _TORCH, "DenseNet169": _TORCH, "DenseNet201": _TORCH,
    **{f"EfficientNetB{size}": {} for size in range(8)},
    **{f"EfficientNetV2{size}": {} for size in ("B0", "B1", "B2", "B3", "S", "M", "L")},
    **{f"ConvNeXt{size}": {} for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
    "MobileNetV3Small": {}, "MobileNetV3Large": {},
}  # fmt: skip
BACKBONES = {name.lower(): Backbone(name, **scaling) for name, scaling in _FAMILIES.items()} | {
    "efficientnetb4-to-block7a": Backbone("EfficientNetB4", last_layer="block7a_project_bn")
}

IMAGENET = "imagenet"


def build_classifier(
    backbone_name: str,
    num_classes: int,
    *,
    weights: Path | str | None = None,
    dropout: float = 0.2,
    hidden_units: int = 0,
) -> keras.Model:
    """Backbone -> average pooling (the embedding) -> dropout -> linear head. Input (N, H, W, 3), any H and W.

    With `hidden_units`, a layer of so many units (ReLU) stands before the dropout.

    `weights`: a Keras weights file of the bare backbone, `"imagenet"` to fetch them from the web, None for random
    numbers. Raises `MLError` for an unknown backbone and for weights that cannot be had or do not fit.
    """
    if backbone_name not in BACKBONES:
        raise MLError(f"Expected a backbone among {', '.join(BACKBONES)}. Received: {backbone_name}.")
    backbone = BACKBONES[backbone_name]
    pixels = keras.Input((None, None, 3), name="pixels")
    x = keras.ops.flip(pixels, axis=-1) if backbone.reversed_channels else pixels  # RGB -> BGR
    x = scaled(x, backbone.scale, backbone.offset)
    body = _body(backbone, input_tensor=x)
    if weights:
        set_weights(body, _pretrained(backbone, weights))
    embedding = layers.GlobalAveragePooling2D(name=EMBEDDING_LAYER)(body.output)
    x = layers.Dense(hidden_units, activation="relu", name=HIDDEN_LAYER)(embedding) if hidden_units else embedding
    logits = layers.Dense(num_classes, name=LOGITS_LAYER)(layers.Dropout(dropout)(x))
    return keras.Model(pixels, logits, name=backbone_name.replace("-", "_"))


def _pretrained(backbone: Backbone, weights: Path | str) -> list[np.ndarray]:
    try:
        if weights == IMAGENET:
            return _with_last_rescaling(_body(backbone, weights=IMAGENET, input_shape=(224, 224, 3))).get_weights()
        bare = _body(backbone, input_shape=(224, 224, 3))
        bare.load_weights(weights)
        return bare.get_weights()
    except Exception as error:  # urllib's, h5py's, Keras' own …
        hint = " Give --weights FILE where there is no internet." if weights == IMAGENET else ""
        raise MLError(
            f"Expected the weights of {backbone.constructor} in {weights}. Received: {error}.{hint}"
        ) from error


def _with_last_rescaling(body: keras.Model) -> keras.Model:
    """Put into the variance what Keras appends to the normalisation of an EfficientNet with its weights of the web.

    Only with those it divides once more, by a layer without weights: (x - mean) / sqrt(variance) * scale.
    """
    for layer in body.layers:
        if isinstance(layer, layers.Rescaling) and isinstance(source_of(layer), layers.Normalization):
            *others, mean, variance, count = source_of(layer).get_weights()
            set_weights(source_of(layer), [*others, mean, variance / np.square(layer.scale), count])
    return body


def _body(backbone: Backbone, weights: str | None = None, **input_spec) -> keras.Model:
    constructor = getattr(keras.applications, backbone.constructor)
    body = constructor(weights=weights, include_top=False, **input_spec)
    if backbone.last_layer:
        return keras.Model(body.input, body.get_layer(backbone.last_layer).output)
    return body


def freeze_all_but_last(model: keras.Model, number: int) -> None:
    """Leave the last `number` layers of the backbone trainable, and all that comes after it."""
    names = [layer.name for layer in model.layers]
    for layer in model.layers[: names.index(EMBEDDING_LAYER) - number]:
        layer.trainable = False


def freeze_batch_norm(model: keras.Model) -> None:
    """Train with the statistics that came with the backbone: small batches and sizes would only blur them."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def with_embedding(model: keras.Model, image_size: int) -> keras.Model:
    """The same network with a fixed input size and two outputs, `logits` and `embedding`."""
    fixed = copy_network(model, image_size=image_size)
    return keras.Model(
        fixed.input,
        {"logits": fixed.get_layer(LOGITS_LAYER).output, "embedding": fixed.get_layer(EMBEDDING_LAYER).output},
    )
