"""Does a photo resemble a breed that the classifier learned, or a dog of none of them?

A softmax over known breeds must put its certainty somewhere: a dachshund's photo gets the breed that looks least
unlike it. The relative Mahalanobis distance (Ren et al., 2021, "A simple fix to Mahalanobis distance for improving
near-OOD detection") sees what the softmax cannot: how much nearer the features lie to the centre of a breed than to
what dogs have in common. Directions in which breeds do not differ cancel out of it, so that it is computed in the
few in which they differ most (linear discriminant analysis).

The plain distance to the nearest breed (Lee et al., 2018, "A simple unified framework for detecting out-of-distribution
samples and adversarial attacks"), in the same directions, helps the energy to tell photos without a dog.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg

from ml import BadCheckpoint

DIRECTIONS = 64  # on Stanford Dogs, 64 to all 448 of EfficientNet-B4's told outside breeds apart equally well
LEAST_VARIANCE = 1e-8  # a network whose features have died gives covariances of zeros
SHRINKAGE = 1e-3  # of the mean variance, added to each: covariances of few photos stay invertible


@dataclass(frozen=True)
class Familiarity:
    """`mean` (D,), `projection` (D, K), `spread` (K,) of all dogs along it, and the `centres` (C, K) of the breeds."""

    mean: np.ndarray
    projection: np.ndarray
    spread: np.ndarray
    centres: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) features -> (N,) familiarity: the higher, the more like one of the breeds."""
        projected = self._projected(embeddings)
        return (projected**2 / self.spread).sum(axis=1) - self._to_nearest(projected)

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) features -> (N,) squared Mahalanobis distance to the nearest breed."""
        return self._to_nearest(self._projected(embeddings))

    def _projected(self, embeddings: np.ndarray) -> np.ndarray:
        return (np.asarray(embeddings, np.float32) - self.mean) @ self.projection

    def _to_nearest(self, projected: np.ndarray) -> np.ndarray:
        crossed = projected @ self.centres.T
        of_breeds = (projected**2).sum(axis=1)[:, None] - 2 * crossed + (self.centres**2).sum(axis=1)
        return of_breeds.min(axis=1)

    def save(self, path: Path) -> None:
        """As `numpy.savez` would, but the same bytes for the same numbers: a checkpoint's version is their hash."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.__dataclass_fields__:
                stream = io.BytesIO()
                np.save(stream, getattr(self, name).astype(np.float32))
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), stream.getvalue(), zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, path: Path) -> "Familiarity":
        """Raises `BadCheckpoint` for a file that holds something else."""
        try:
            with np.load(path) as stored:
                found = cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadCheckpoint(f"Expected the familiarity of features in {path}. Received: {error}.") from error
        sizes = found.mean.shape[0], found.spread.shape[0]
        if found.projection.shape != sizes or found.centres.shape[1:] != sizes[1:]:
            raise BadCheckpoint(f"Expected arrays that fit each other in {path}. Received: {found.projection.shape}.")
        if not all(np.isfinite(getattr(found, name)).all() for name in cls.__dataclass_fields__):
            raise BadCheckpoint(f"Expected finite numbers in {path}. Received: NaN or infinity.")
        return found


def fit_familiarity(embeddings: np.ndarray, label_index: np.ndarray) -> Familiarity:
    """From (N, D) features of training photos and their (N,) label indices, all of 0 … C - 1 among them."""
    embeddings = np.asarray(embeddings, np.float64)
    mean = embeddings.mean(axis=0)
    centres = np.stack([embeddings[label_index == index].mean(axis=0) for index in range(label_index.max() + 1)])
    within = _covariance(embeddings - centres[label_index])
    spread, directions = scipy.linalg.eigh(_covariance(embeddings - mean), within)
    spread, directions = spread[-DIRECTIONS:], directions[:, -DIRECTIONS:]
    return Familiarity(*(a.astype(np.float32) for a in (mean, directions, spread, (centres - mean) @ directions)))


def _covariance(deviations: np.ndarray) -> np.ndarray:
    covariance = deviations.T @ deviations / len(deviations)
    floor = SHRINKAGE * np.trace(covariance) / len(covariance) + LEAST_VARIANCE
    return covariance + floor * np.eye(len(covariance))
