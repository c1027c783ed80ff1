"""What the notebooks show with: tables, pictures in rows, plots that stay small in the file."""

import io
import logging
import os
import warnings
from collections.abc import Iterable

from IPython.display import Image, Markdown
from matplotlib.figure import Figure

from ml.reports import subplots


def silence() -> None:
    """No log of TensorFlow and LiteRT reaches a notebook. Call it before they load."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def table(headers: list[str], rows: Iterable[Iterable]) -> Markdown:
    """Columns of numbers are set flush right; `None` is shown as a dash."""
    rows = [list(row) for row in rows]
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(headers))]
    lines = [headers, ["---:" if flush_right else "---" for flush_right in numeric]]
    lines += [[_cell(value) for value in row] for row in rows]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def show(figure: Figure, alt: str, *, photos: bool = False) -> Image:
    """A plot as PNG; one with `photos` in it as JPEG, a fifth of the size."""
    stream = io.BytesIO()
    if photos:
        figure.savefig(stream, format="jpeg", dpi=130, pil_kwargs={"quality": 78})
    else:
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    width = round(figure.get_figwidth() * 95)
    return Image(stream.getvalue(), format="jpeg" if photos else "png", width=width, alt=alt)


def pictures(images: Iterable, titles: Iterable[str], alt: str, columns: int = 6) -> Image:
    """Pillow images in rows, each under its title."""
    titled = list(zip(images, titles, strict=True))
    lines = max(1, -(-len(titled) // columns))
    figure, axes = subplots(lines, columns, size=(1.6 * columns, 1.75 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (image, title) in zip(axes.flat, titled, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8, fontweight="normal")
    return show(figure, alt, photos=True)
