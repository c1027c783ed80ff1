"""Serving: the LiteRT runtime around a checkpoint. Imports neither Keras nor TensorFlow."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ml import BadCheckpoint
from ml.calibration import softmax
from ml.checkpoint import Checkpoint, load_checkpoint
from ml.decision import Candidate, Decision, Reason, decide, energy_of
from ml.preprocessing import apply_steps, decode_image, prepare_image, render_preview, to_pixels, to_square_image


class Session:
    """One loaded network. Safe to share between threads, which then take turns."""

    def __init__(self, model_path: Path, num_threads: int = 1):
        try:
            self._interpreter = Interpreter(str(model_path), num_threads=num_threads)
            self._run = self._interpreter.get_signature_runner()
            self.image_size = int(self._run.get_input_details()["pixels"]["shape"][1])
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            raise BadCheckpoint(f"Expected a LiteRT network in {model_path}. Received: {error}.") from error
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, C) uint8 -> {"logits": (C,), "embedding": (D,)} float32."""
        with self._lock:
            outputs = self._run(pixels=image[None].astype(np.float32))
            return {name: np.array(value[0]) for name, value in outputs.items()}


@dataclass(frozen=True)
class Classification:
    """What a photo looks like, by which version, and a preview of it (JPEG bytes, upright, without metadata).

    Beside the decision, what it was made from: (C,) calibrated `probs`, the `energy` of the logits, and the (D,)
    float32 `embedding`, for fusing the photos of one animal and for finding look-alikes.
    """

    decision: str
    label: str
    group: str
    probability: float
    candidates: tuple[Candidate, ...]
    version: str
    milliseconds: float
    preview: bytes
    reasons: tuple[Reason, ...] = ()
    energy: float | None = None
    probs: np.ndarray | None = field(default=None, compare=False, repr=False)
    embedding: np.ndarray | None = field(default=None, compare=False, repr=False)


class Classifier:
    """A checkpoint, ready to answer. Load one per process, after any fork."""

    def __init__(self, checkpoint: Checkpoint, num_threads: int = 1):
        self.checkpoint = checkpoint
        self.session = Session(checkpoint.model_path, num_threads)
        size, network = checkpoint.image_size, self.session.image_size
        if network != size:
            raise BadCheckpoint(f"Expected {size}-pixel images in {checkpoint.model_path}. Received: {network}.")
        channels = 1 if "greyscale" in checkpoint.steps else 3
        logits = self.session(np.full((size, size, channels), 128, np.uint8))["logits"]
        if not np.isfinite(logits).all():
            raise BadCheckpoint(f"Expected finite logits of {checkpoint.model_path}. Received: NaN or infinity.")
        if (num_classes := logits.size) != len(checkpoint.labels):
            raise BadCheckpoint(
                f"Expected {len(checkpoint.labels)} logits of {checkpoint.folder}. Received: {num_classes}."
            )

    @classmethod
    def load(cls, folder: Path, num_threads: int = 1) -> "Classifier":
        """Raises `BadCheckpoint`."""
        return cls(load_checkpoint(folder), num_threads)

    def logits(self, image_bytes: bytes) -> np.ndarray:
        """(C,) logits of one photo. Raises `UnreadableImage`."""
        return self.session(prepare_image(image_bytes, self.checkpoint.image_size, self.checkpoint.steps))["logits"]

    def decide(self, logits: np.ndarray, top_k: int = 5) -> Decision:
        probs = softmax(logits, self.checkpoint.temperature)
        return decide(probs, float(energy_of(logits)), self.checkpoint.labels, self.checkpoint.thresholds, top_k)

    def classify(self, image_bytes: bytes, top_k: int = 5) -> Classification:
        """Raises `UnreadableImage`."""
        start = time.perf_counter()
        image = decode_image(image_bytes, 2 * self.checkpoint.image_size)
        square = to_square_image(image, self.checkpoint.image_size)
        outputs = self.session(to_pixels(apply_steps(square, self.checkpoint.steps)))
        logits = outputs["logits"]
        found = self.decide(logits, top_k)
        milliseconds = (time.perf_counter() - start) * 1000
        return Classification(
            decision=str(found.decision),
            label=found.label,
            group=found.group,
            probability=found.probability,
            candidates=found.candidates,
            version=self.checkpoint.version,
            milliseconds=milliseconds,
            preview=render_preview(image),
            reasons=found.reasons,
            energy=float(energy_of(logits)),
            probs=softmax(logits, self.checkpoint.temperature),
            embedding=outputs["embedding"],
        )
