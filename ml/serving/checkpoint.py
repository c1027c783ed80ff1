"""A classifier on disk: a folder whose parts are checked against each other before anything is served from it.

`model.tflite.xz` what is served; `model.keras` the same function, for training on; `labels.json` ordered;
`calibration.json`, `decision.json`, where it has one `familiarity.npz`; `metrics-val.json`, `metrics-test.json`,
`card.md` for people; and `info.json`, written last, with the SHA-256 of every other part that changes an answer. Its
`version` is the hash of those hashes.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ml import BadCheckpoint, MLError
from ml.files import sha256_of, write_json
from ml.images.preprocessing import preprocessing_id
from ml.serving.calibration import Calibration
from ml.serving.decision import Label, Thresholds
from ml.serving.familiarity import Familiarity

REQUIRED_PARTS = ("model.tflite.xz", "labels.json", "calibration.json", "decision.json")
HASHED_PARTS = (*REQUIRED_PARTS, "familiarity.npz")


@dataclass(frozen=True)
class Checkpoint:
    """The small parts of a checkpoint folder, verified. `model_path` is the file the runtime opens."""

    folder: Path
    name: str
    version: str
    backbone: str
    image_size: int
    steps: tuple[str, ...]
    labels: tuple[Label, ...]
    calibration: Calibration
    thresholds: Thresholds
    created: str
    familiarity: Familiarity | None = None

    @property
    def model_path(self) -> Path:
        return self.folder / "model.tflite.xz"

    @property
    def preprocessing(self) -> str:
        """Name of the whole way from bytes to pixels (`ml.images.preprocessing.preprocessing_id`)."""
        return preprocessing_id(self.steps)


def checkpoint_in(folder: Path) -> Path:
    """That of the run in `folder`, or else `folder` itself."""
    return folder / "checkpoint" if (folder / "checkpoint").is_dir() else folder


def write_labels(folder: Path, labels: list[Label]) -> None:
    write_json(folder / "labels.json", [asdict(label) for label in labels])


def seal_checkpoint(folder: Path, *, steps: tuple[str, ...] = (), **info) -> str:
    """Write `info.json` over the finished parts of `folder` and return the version.

    `steps`: those of `ml.images.preprocessing` that follow the centre crop.
    """
    files = {name: sha256_of(folder / name) for name in HASHED_PARTS if (folder / name).exists()}
    version = _version_of(files)
    way_in = {"preprocessing": preprocessing_id(steps), "steps": steps}
    write_json(folder / "info.json", {"version": version, **way_in, **info, "files": files})
    return version


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Raises `BadCheckpoint` with one line that says what is wrong."""
    try:
        return _verified(folder)
    except BadCheckpoint:
        raise
    except (MLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadCheckpoint(f"Expected the parts of a checkpoint in {folder}. Received: {error!r} in them.") from error


def _verified(folder: Path) -> Checkpoint:
    info = _read_json(folder, "info.json")
    for name, expected in info.get("files", {}).items():
        if not (folder / name).is_file():
            raise BadCheckpoint(f"Expected the file {name} in the checkpoint {folder}. Received: nothing there.")
        if sha256_of(folder / name) != expected:
            raise BadCheckpoint(
                f"Expected {name} of {folder} to have SHA-256 {expected[:12]}…. Received: another file."
            )
    if not set(REQUIRED_PARTS) <= set(info.get("files", {})) <= set(HASHED_PARTS) or info["version"] != _version_of(
        info["files"]
    ):
        raise BadCheckpoint(f"Expected info.json of {folder} to list {', '.join(HASHED_PARTS)} and their version.")
    steps = tuple(info.get("steps", ()))
    if info["preprocessing"] != (expected := preprocessing_id(steps)):
        raise BadCheckpoint(f"Expected preprocessing {expected}. Received: {info['preprocessing']} in {folder}.")
    labels = tuple(Label(**label) for label in _read_json(folder, "labels.json"))
    calibration = _read_json(folder, "calibration.json")
    calibration = Calibration(calibration["temperature"], calibration.get("doubt", 0.0))
    thresholds = Thresholds(**_read_json(folder, "decision.json")["thresholds"])
    levels = (thresholds.energy, thresholds.breed, thresholds.group, thresholds.agreement, thresholds.distance)
    if not all(isinstance(number, int | float) for number in levels) or not labels:
        raise BadCheckpoint(f"Expected labels and thresholds in {folder}. Received: {levels}.")
    return Checkpoint(
        folder=folder,
        name=info["name"],
        version=info["version"],
        backbone=info["backbone"],
        image_size=info["image_size"],
        steps=steps,
        labels=labels,
        calibration=calibration,
        thresholds=thresholds,
        created=info["created"],
        familiarity=Familiarity.load(folder / "familiarity.npz") if "familiarity.npz" in info["files"] else None,
    )


def _read_json(folder: Path, name: str):
    try:
        return json.loads((folder / name).read_text())
    except FileNotFoundError:
        raise BadCheckpoint(f"Expected a checkpoint folder with {name}. Received: {folder} without it.") from None
    except ValueError as error:
        raise BadCheckpoint(f"Expected JSON in {folder / name}. Received: {error}.") from None


def _version_of(files: dict[str, str]) -> str:
    return hashlib.sha256("".join(files[name] for name in HASHED_PARTS if name in files).encode()).hexdigest()[:12]
