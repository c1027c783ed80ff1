"""What decides a training, and the ways to train: a network of our own, or a pretrained backbone."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from ml import MLError
from ml.data.datasets import Dataset
from ml.data.views import centre_images, prepared_square
from ml.files import whole_file
from ml.images.preprocessing import decode_image, prepare_image, to_pixels
from ml.progress import Track, no_track
from ml.serving.calibration import fit_temperature, log_loss, softmax
from ml.serving.checkpoint import load_checkpoint
from ml.serving.inference import SessionPool
from ml.training.batches import TrainingBatches, random_affine, random_crop
from ml.training.epochs import EpochLoop, predict_logits, validate
from ml.training.export import export_litert
from ml.training.features import backbone_file, embed
from ml.training.folding import fold_batch_norm
from ml.training.heads import fit_head, fit_hidden_head
from ml.training.losses import SmoothedCrossentropy
from ml.training.networks import (
    HIDDEN_LAYER,
    LOGITS_LAYER,
    OWN_FILTERS,
    build_classifier,
    build_cnn,
    freeze_all_but_last,
    freeze_batch_norm,
)

SOFTENING = 2  # of a teacher's temperature: what it finds similar shows
PHOTOS_TO_AVERAGE_BY = 700  # about so many of val: a large network takes minutes for each share that is tried


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of a run.

    `recipe`: `cnn`, `cnn-extra` (own networks), `transfer` (new head, then every layer at each of `stages`) or
    `fine-tune` (new head, then the last `layers` of the backbone). `stages`: (image size in pixels, epochs).
    `image_size`: pixels of the features for the head and of val while training; `serve_size`: those that what ships is
    run at, calibrated and measured, the same if 0.
    `breeds`: labels to keep, all if empty. `head`: settings that the search of heads found; if empty, a linear head
    whose strength is chosen on val. `average`: mix the tuned weights with those before, as val likes it. `teacher`:
    version of the checkpoint whose answers are half of what tuning aims at.
    """

    name: str
    recipe: str = "transfer"
    backbone: str = "mobilenetv2"
    image_size: int = 224
    serve_size: int = 0
    breeds: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    head: dict = field(default_factory=dict)
    stages: tuple[tuple[int, int], ...] = ()
    layers: int | None = None
    average: bool = True
    augment: bool = True
    filters: tuple[int, ...] = ()
    units: int = 256
    dropout: float = 0.2
    learning_rate: float = 1e-4
    batch_size: int = 32
    label_smoothing: float = 0.05
    weight_decay: float = 0.01
    patience: int | None = None
    seed: int = 0
    teacher: str = ""

    @property
    def is_own(self) -> bool:
        return self.recipe in OWN_FILTERS


@dataclass(frozen=True)
class Workplace:
    """Where a recipe finds and leaves its files; `say` receives lines for people, `track` shows progress."""

    folder: Path
    cache_dir: Path
    weights: Path | str | None
    say: Callable[[str], None]
    teacher: Path | None = None
    track: Track = no_track


@dataclass(frozen=True)
class Trained:
    """A network with the steps its pixels need, a sentence on how it came about, and the seconds that took."""

    model: keras.Model
    steps: tuple[str, ...]
    recipe: str
    seconds: float
    history: list[dict]


def build_network(config: TrainingConfig, num_classes: int, weights: Path | str | None = None) -> keras.Model:
    """The network that `config` trains, with pretrained weights where it has a backbone."""
    if config.is_own:
        return build_cnn(
            num_classes,
            image_size=config.image_size,
            channels=1 if "greyscale" in config.steps else 3,
            filters=config.filters or OWN_FILTERS[config.recipe],
            units=config.units,
            dropout=config.dropout,
        )
    return build_classifier(
        config.backbone, num_classes, weights=weights, dropout=config.dropout, hidden_units=config.head.get("units", 0)
    )


def train_network(config: TrainingConfig, dataset: Dataset, place: Workplace) -> Trained:
    """Train on the train split, choose on val. Raises `MLError` where data and settings do not fit each other."""
    if config.is_own:
        return _train_own(config, dataset, place)
    if dataset.steps:
        steps = ", ".join(dataset.steps)
        raise MLError(f"Expected photos in colour for a pretrained backbone. Received: a folder prepared by {steps}.")
    return _train_on_backbone(config, dataset, place)


# -- a network of our own ------------------------------------------------------------------------------------------


def _train_own(config: TrainingConfig, dataset: Dataset, place: Workplace) -> Trained:
    """Adam at a constant rate, cross-entropy (to which the KL divergence from one-hot targets is equal)."""
    if dataset.steps and dataset.steps != config.steps:
        raise MLError(f"Expected a folder prepared by {config.steps}. Received: one by {dataset.steps}.")
    epochs = sum(epochs for _, epochs in config.stages)

    def pixels_of(item, rng):
        square = prepared_square(dataset, item, config.image_size, config.steps)
        return to_pixels(random_affine(square, rng) if config.augment else square)

    model = build_network(config, len(dataset.labels))
    model.compile(keras.optimizers.Adam(config.learning_rate), SmoothedCrossentropy(), metrics=["accuracy"])
    loop = _epoch_loop(config, dataset, place, lambda epoch: pixels_of)
    model, history = loop.run(model, epochs)
    chance = "random rotation, stretch and flip" if config.augment else "no augmentation"
    recipe = f"Own network, {model.count_params():,} parameters, after {', '.join(config.steps) or 'no steps'}; Adam, "
    recipe += f"{len(history) - 1} of up to {epochs} epochs, {chance}."
    return Trained(model, config.steps, recipe, _seconds(history), history)


# -- a pretrained backbone -----------------------------------------------------------------------------------------


def _train_on_backbone(config: TrainingConfig, dataset: Dataset, place: Workplace) -> Trained:
    start = time.monotonic()
    model = _with_head(config, dataset, place)
    kind = "Head with a hidden layer, by Adam," if "units" in config.head else "Linear head by L-BFGS"
    seconds, recipe = time.monotonic() - start, f"{kind} on features of the frozen backbone"
    if not config.stages:
        return Trained(model, (), recipe + ".", seconds, [])
    model = fold_batch_norm(model, None)  # its statistics stay anyway, and there is less to compute
    before = model.get_weights()
    model, history = _fine_tune(config, model, dataset, place)
    which = f"the last {config.layers} layers" if config.layers else "every layer"
    stages = ", ".join(f"({size}, {epochs})" for size, epochs in config.stages)
    recipe += f"; then {which} but the batch statistics, with AdamW, a cosine schedule, label smoothing and random\n"
    recipe += f"crops, flips and light, at (image size, epochs) {stages}"
    if config.teacher:
        recipe += f", aiming half at the answers of classifier {config.teacher} (distillation)"
    if config.average:
        share = _average(config, model, before, dataset, place)
        recipe += f"; then {share:.0%} of the way from the first to the second, chosen on val (WiSE-FT)"
    return Trained(model, (), recipe + ".", seconds + _seconds(history), history)


def _with_head(config: TrainingConfig, dataset: Dataset, place: Workplace) -> keras.Model:
    path = place.folder / "head.weights.h5"
    weights = None if path.exists() else place.weights
    model = build_network(config, len(dataset.labels), weights)
    if not path.exists():
        start = time.monotonic()
        runtime_file = backbone_file(model, config.image_size, place.cache_dir)
        parts = [dataset.part(split) for split in ("train", "val")]
        features = [
            embed(runtime_file, dataset, part, place.cache_dir, config.image_size, place.track) for part in parts
        ]
        place.say(f"features of {sum(map(len, parts))} photos in {time.monotonic() - start:.0f} s")
        _fit_head(config.head, model, [*features, *map(dataset.label_index, parts)], len(dataset.labels), place.say)
        with whole_file(path) as partial:
            model.save_weights(partial)
    model.load_weights(path)
    return model


def _fit_head(
    settings: dict, model: keras.Model, examples: list[np.ndarray], num_classes: int, say: Callable[[str], None]
) -> None:
    """Give `model` a head for `examples`: features of train and val, label indices of train and val."""
    if "units" in settings:
        (*hidden, kernel, bias), figures = fit_hidden_head(*examples, num_classes, settings)
        say(f"hidden head: val top-1 {figures['val_accuracy']:.3f} after {figures['best_epoch']} epochs")
        model.get_layer(HIDDEN_LAYER).set_weights(hidden)
    elif settings:
        kernel, bias = fit_head(*examples, strengths=(settings["strength"],), say=say)
    else:
        kernel, bias = fit_head(*examples, say=say)
    model.get_layer(LOGITS_LAYER).set_weights([kernel, bias])


def _fine_tune(config: TrainingConfig, model: keras.Model, dataset: Dataset, place: Workplace):
    """AdamW with a warm-up over the first tenth, then a cosine to zero; batch statistics stay as they came."""
    if config.layers:
        freeze_all_but_last(model, config.layers)
    freeze_batch_norm(model)
    sizes = [size for size, epochs in config.stages for _ in range(epochs)]
    steps = -(-len(dataset.part("train")) // config.batch_size) * len(sizes)
    warmup = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=max(steps - warmup, 1), warmup_target=config.learning_rate, warmup_steps=warmup
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, clipnorm=1.0),
        SmoothedCrossentropy(config.label_smoothing),
        metrics=["accuracy"],
    )

    def pixels_of(epoch):
        size = sizes[epoch - 1]

        def crop(item, rng):
            if not config.augment:
                return to_pixels(prepared_square(dataset, item, size, ()))
            return np.asarray(random_crop(decode_image(dataset.read(item), 2 * size), size, rng))

        return crop

    return _epoch_loop(config, dataset, place, pixels_of).run(model, len(sizes))


def _average(config: TrainingConfig, tuned: keras.Model, before: list, dataset: Dataset, place: Workplace) -> float:
    """Go back a part of the way to the weights `before`, as far as val likes it (WiSE-FT, Wortsman et al., 2022).

    The share of the tuned weights with the lowest log loss on val, after its own temperature, wins; it is returned.
    """
    val = dataset.part("val")
    val = val[:: max(1, len(val) // PHOTOS_TO_AVERAGE_BY)]
    images, label_index = centre_images(dataset, val, config.image_size), dataset.label_index(val)
    after = tuned.get_weights()
    best_loss, best_share = np.inf, 1.0
    for share in (0.4, 0.7, 1.0):
        tuned.set_weights(_mixed(after, before, share))
        logits = _exported_logits(tuned, images, place)
        loss = log_loss(softmax(logits, fit_temperature(logits, label_index)), label_index)
        top1 = (logits.argmax(axis=1) == label_index).mean()
        place.say(f"{share:.0%} of the tuned weights: val top-1 {top1:.4f}, loss {loss:.4f}")
        if loss < best_loss:
            best_loss, best_share = loss, share
    tuned.set_weights(_mixed(after, before, best_share))
    return best_share


def _exported_logits(model: keras.Model, images: np.ndarray, place: Workplace) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, num_classes) by the exported runtime, quicker than Keras for a large one."""
    runtime_file = place.folder / "val.tflite"
    export_litert(model, images.shape[1], runtime_file)
    return SessionPool(runtime_file).answer_all(images)["logits"]


def _mixed(after: list, before: list, share: float) -> list:
    return [a * share + b * (1 - share) for a, b in zip(after, before, strict=True)]


# -- what both share -----------------------------------------------------------------------------------------------


def _epoch_loop(config: TrainingConfig, dataset: Dataset, place: Workplace, pixels_of) -> EpochLoop:
    train, val = dataset.part("train"), dataset.part("val")
    targets, val_index = dataset.label_index(train), dataset.label_index(val)
    if config.teacher:
        targets = _half_taught(dataset, train, place)
    val_images = centre_images(dataset, val, config.image_size, config.steps)

    def batches_of(epoch: int) -> TrainingBatches:
        return TrainingBatches(
            train, targets, pixels_of(epoch), batch_size=config.batch_size, seed=config.seed, epoch=epoch
        )

    def figures_of(model: keras.Model) -> dict:
        own = config.is_own
        return validate(
            predict_logits(model, val_images) if own else _exported_logits(model, val_images, place), val_index
        )

    return EpochLoop(place.folder, batches_of, figures_of, place.say, config.patience)


def _half_taught(dataset: Dataset, items: list, place: Workplace) -> np.ndarray:
    """(N, num_classes) targets: half the true label, half what the teacher says of the photo's centre view.

    Its probabilities are softened (Hinton et al., 2015), and kept in the run's folder.
    """
    teacher, path = load_checkpoint(place.teacher), place.folder / "taught.npy"
    if [label.slug for label in teacher.labels] != dataset.labels:
        raise MLError(f"Expected a teacher of these {len(dataset.labels)} breeds. Received: {teacher.name} of others.")
    if not path.exists():
        place.say(f"{teacher.name} answers {len(items)} photos")
        views = (prepare_image(dataset.read(item), teacher.image_size, teacher.steps) for item in items)
        logits = SessionPool(teacher.model_path).answer_all(views)["logits"]
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, softmax(logits, SOFTENING * teacher.calibration.temperature))
    true = np.eye(len(dataset.labels), dtype=np.float32)[dataset.label_index(items)]
    return (true + np.load(path).astype(np.float32)) / 2


def _seconds(history: list[dict]) -> float:
    return sum(row["seconds"] for row in history)
