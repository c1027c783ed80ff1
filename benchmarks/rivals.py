"""What the services that `benchmarks.api` compares Flair with have in common."""

import os
import tempfile
from pathlib import Path

BUNDLED = Path(__file__).resolve().parent.parent / "ml" / "bundled"


def keep(content: bytes) -> None:
    """Write, fsync, and forget: as surely as Flair keeps a photo, without filling the disk."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
