"""Images and numbers in, decisions and checkpoints out. Plain Python: no Django below this folder.

Only the errors live here, so that a caller can name them without importing a framework.
"""

import os

# TensorFlow takes oneDNN's convolutions by itself only on processors with AVX512. On those with AVX2 alone they train
# EfficientNet-B4 half as fast again. Here, since it is read when TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


class MLError(Exception):
    """What every error raised on purpose by this package derives from."""


class UnreadableImage(MLError):
    """The bytes are not a photo that can be classified.

    `reason` is a stable code, one of `REASONS`; the message says what was expected and what came.
    """

    REASONS = ("empty", "not_an_image", "truncated", "too_many_pixels", "too_many_scans", "undecodable")

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class BadDataset(MLError):
    """A folder or archive of training photos is not what training expects."""


class BadCheckpoint(MLError):
    """A checkpoint folder is missing a part, or its parts do not fit each other."""
