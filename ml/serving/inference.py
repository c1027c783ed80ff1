"""Serving: the LiteRT runtime around a checkpoint. Imports neither Keras nor TensorFlow."""

import lzma
import os
import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ml import BadCheckpoint
from ml.images.duplicates import difference_hash
from ml.images.preprocessing import (
    apply_steps,
    decode_image,
    decoded_side,
    prepare_image,
    render_preview,
    to_pixels,
    to_square_image,
)
from ml.serving.checkpoint import Checkpoint, load_checkpoint
from ml.serving.decision import Candidate, Decision, Reason, decide, energy_of


class Session:
    """One loaded network. Safe to share between threads, which then take turns.

    `content`: the bytes of the network in `model_path`, where they have been read already.
    """

    def __init__(self, model_path: Path, num_threads: int = 1, content: bytes | None = None):
        try:
            self.content = content or _read_network(model_path)
            self._interpreter = Interpreter(model_content=self.content, num_threads=num_threads)
            self._run = self._interpreter.get_signature_runner()
            self.image_size = int(self._run.get_input_details()["pixels"]["shape"][1])
        except (ValueError, RuntimeError, OSError, EOFError, KeyError, lzma.LZMAError) as error:
            raise BadCheckpoint(f"Expected a LiteRT network in {model_path}. Received: {error}.") from error
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, C) uint8 -> {"logits": (C,), "embedding": (D,)} float32."""
        with self._lock:
            outputs = self._run(pixels=image[None].astype(np.float32))
            return {name: np.array(value[0]) for name, value in outputs.items()}


def _read_network(model_path: Path) -> bytes:
    """A `.xz` file is unpacked: weights that were rounded for it take half the room on disk."""
    with lzma.open(model_path) if model_path.suffix == ".xz" else model_path.open("rb") as file:
        return file.read()


class SessionPool:
    """A network for many photos at once, up to one per core: this beat one network with all threads.

    The runtime lets go of the interpreter lock, so that threads suffice. It is loaded again only when a photo comes
    while all that are there are at work: whoever sends one photo after the other pays for one network. All are of the
    bytes that were read first, whatever is in the file meanwhile.
    """

    def __init__(self, model_path: Path, num_threads: int = 1):
        self.model_path, self.num_threads, self.size = model_path, num_threads, os.cpu_count() or 1
        session = Session(model_path, num_threads)
        self.image_size, self._content = session.image_size, session.content
        self._idle: queue.SimpleQueue[Session] = queue.SimpleQueue()
        self._idle.put(session)
        self._to_load = threading.Semaphore(self.size - 1)

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """As a `Session` answers, once one is idle."""
        session = self._idle_session()
        try:
            return session(image)
        finally:
            self._idle.put(session)

    def _idle_session(self) -> Session:
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        if self._to_load.acquire(blocking=False):
            return Session(self.model_path, self.num_threads, self._content)
        return self._idle.get()

    def answer_all(self, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """N uint8 images (H, W, C) -> {"logits": (N, C), "embedding": (N, D)} float32, in their order."""
        answers: list[dict[str, np.ndarray]] = []
        images = iter(images)
        with ThreadPoolExecutor(self.size) as pool:
            while some := list(islice(images, 256)):  # or the pool would hold all of them at once
                answers += pool.map(self, some)
        return {name: np.stack([answer[name] for answer in answers]) for name in ("logits", "embedding")}


@dataclass(frozen=True)
class Classification:
    """What a photo looks like, by which version, and a preview of it (JPEG bytes, upright, without metadata).

    Beside the decision, what it was made from: (C,) calibrated `probs`, the `energy` (`Classifier.energy`), the
    `familiarity` of the features, and these (D,) float32 features themselves (`embedding`), for fusing the photos of
    one animal and for finding look-alikes.
    `dhash` are the 64 bits of its difference hash: photos whose bits hardly differ look alike.
    """

    decision: str
    label: str
    group: str
    probability: float
    candidates: tuple[Candidate, ...]
    version: str
    milliseconds: float
    preview: bytes
    dhash: int
    reasons: tuple[Reason, ...] = ()
    energy: float | None = None
    familiarity: float | None = None
    probs: np.ndarray | None = field(default=None, compare=False, repr=False)
    embedding: np.ndarray | None = field(default=None, compare=False, repr=False)


class Classifier:
    """A checkpoint, ready to answer. Load one per process, after any fork."""

    def __init__(self, checkpoint: Checkpoint, num_threads: int = 1):
        self.checkpoint = checkpoint
        self.session = SessionPool(checkpoint.model_path, num_threads)
        size, network = checkpoint.image_size, self.session.image_size
        if network != size:
            raise BadCheckpoint(f"Expected {size}-pixel images in {checkpoint.model_path}. Received: {network}.")
        channels = 1 if "greyscale" in checkpoint.steps else 3
        answer = self.session(np.full((size, size, channels), 128, np.uint8))
        logits, features = answer["logits"], answer["embedding"].size
        if not np.isfinite(logits).all():
            raise BadCheckpoint(f"Expected finite logits of {checkpoint.model_path}. Received: NaN or infinity.")
        if (num_classes := logits.size) != len(checkpoint.labels):
            raise BadCheckpoint(
                f"Expected {len(checkpoint.labels)} logits of {checkpoint.folder}. Received: {num_classes}."
            )

        if checkpoint.familiarity and (known := checkpoint.familiarity.mean.size) != features:
            raise BadCheckpoint(f"Expected {known} features of {checkpoint.folder}. Received: {features}.")

    @classmethod
    def load(cls, folder: Path, num_threads: int = 1) -> "Classifier":
        """Raises `BadCheckpoint`."""
        return cls(load_checkpoint(folder), num_threads)

    def logits(self, image_bytes: bytes) -> np.ndarray:
        """(C,) logits of one photo. Raises `UnreadableImage`."""
        return self.session(prepare_image(image_bytes, self.checkpoint.image_size, self.checkpoint.steps))["logits"]

    def familiarity(self, embedding: np.ndarray) -> float | None:
        """Of (D,) features (`ml.serving.familiarity`); none where the checkpoint does not know it."""
        known = self.checkpoint.familiarity
        return float(known(embedding[None])[0]) if known else None

    def energy(self, logits: np.ndarray, embedding: np.ndarray) -> float:
        """How much a photo of (C,) logits and (D,) features is one of a dog, in nats
        (`ml.serving.decision.Thresholds`)."""
        energy, weight = float(energy_of(logits)), self.checkpoint.thresholds.distance
        if weight and self.checkpoint.familiarity:
            energy -= weight * float(self.checkpoint.familiarity.distance(embedding[None])[0])
        return energy

    def decide(self, logits: np.ndarray, embedding: np.ndarray, top_k: int = 5) -> Decision:
        """One photo's (C,) logits and (D,) features -> its decision."""
        checkpoint, probs = self.checkpoint, self.checkpoint.calibration(logits)
        energy, familiarity = self.energy(logits, embedding), self.familiarity(embedding)
        return decide(probs, energy, checkpoint.labels, checkpoint.thresholds, top_k, familiarity)

    def classify(self, image_bytes: bytes, top_k: int = 5, *, keeps_look: bool = True) -> Classification:
        """Without `keeps_look`, no `preview` (empty) and no `dhash` (0) are made. Raises `UnreadableImage`."""
        start = time.perf_counter()
        image = decode_image(image_bytes, decoded_side(self.checkpoint.image_size))
        square = to_square_image(image, self.checkpoint.image_size)
        outputs = self.session(to_pixels(apply_steps(square, self.checkpoint.steps)))
        logits = outputs["logits"]
        found = self.decide(logits, outputs["embedding"], top_k)
        milliseconds = (time.perf_counter() - start) * 1000
        return Classification(
            decision=str(found.decision),
            label=found.label,
            group=found.group,
            probability=found.probability,
            candidates=found.candidates,
            version=self.checkpoint.version,
            milliseconds=milliseconds,
            preview=render_preview(image) if keeps_look else b"",
            dhash=difference_hash(image) if keeps_look else 0,
            reasons=found.reasons,
            energy=self.energy(logits, outputs["embedding"]),
            familiarity=self.familiarity(outputs["embedding"]),
            probs=self.checkpoint.calibration(logits),
            embedding=outputs["embedding"],
        )
