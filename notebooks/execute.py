"""Execute the notebooks on the drawn dogs and write them back: `python notebooks/execute.py [FILE …]`.

What is kept is what anyone gets: no dataset of this machine, no times and no versions in the metadata.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path, **environment: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run where it lies. Raises `CellExecutionError` for the first error in a cell."""
    notebook = nbformat.read(path, as_version=4)
    kept = {name: value for name, value in os.environ.items() if name not in ("FLAIR_DATASET", "FLAIR_WEIGHTS")}
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        # Killed after the usual 5 s, the kernel of a busy machine leaves its temporary folder behind.
        config=Config(KernelManager={"shutdown_wait_time": 120}),
    )
    client.execute(env={**kept, **environment})
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or NOTEBOOKS):
        nbformat.write(executed(path), path)
        print(path.name)
