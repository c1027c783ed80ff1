"""Reports: one page, with its data beside it."""

import base64
import dataclasses
import io
import math
from collections.abc import Iterable
from html import escape
from numbers import Integral, Real
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ml.files import write_json, write_whole

COLOURS = ("#9c4221", "#2b6777", "#c58b2a", "#5d7a3a", "#7b5aa6", "#8a8178")

# Of the whole process, so that what callers draw later (legends, notes) has the same face as the axes.
matplotlib.rcParams.update(
    {
        "axes.axisbelow": True,
        "axes.edgecolor": "#8f7d6f",
        "axes.grid": True,
        "axes.labelcolor": "#685a50",
        "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "figure.dpi": 100,
        "font.size": 9.5,
        "grid.color": "#8f7d6f",
        "grid.alpha": 0.25,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "text.color": "#2d2420",
        "xtick.color": "#685a50",
        "ytick.color": "#685a50",
    }
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #faf5ee; --card: #fffdfa; --ink: #2d2420; --quiet: #685a50;
  --line: #e5d9ca; --accent: #9c4221; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #1b1714; --card: #27211d; --ink: #f3eae1; --quiet: #bfae9f; --line: #40362f; --accent: #f2a780; }}
  .plot {{ filter: invert(1) hue-rotate(180deg); }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "Noto Sans", sans-serif; }}
h1, h2 {{ font-family: Palatino, "URW Palladio L", Georgia, serif; line-height: 1.2; text-wrap: balance; }}
h1 {{ margin: 0 0 .75rem; font-size: 2rem; }}
h2 {{ margin: 0 0 1rem; font-size: 1.35rem; }}
code {{ display: block; padding: .6rem .9rem; border: 1px solid var(--line); border-radius: 8px; color: var(--quiet);
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }}
code::before {{ content: "$ "; color: var(--accent); }}
nav {{ display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; margin: 1rem 0 0; font-size: .92rem; }}
a {{ color: var(--accent); }}
section {{ margin-top: 1.5rem; padding: 1.4rem 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; }}
section > :last-child {{ margin-bottom: 0; }}
p {{ max-width: 48rem; margin: 0 0 1rem; }}
.scroll {{ max-height: 34rem; margin: 0 0 1rem; overflow: auto; }}
table {{ border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .38rem 1.1rem .38rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }}
th {{ position: sticky; top: 0; background: var(--card); color: var(--quiet); font-weight: 600; white-space: nowrap; }}
.number {{ text-align: right; white-space: nowrap; }}
figure {{ margin: 0 0 1.2rem; }}
figcaption {{ margin-top: .3rem; color: var(--quiet); font-size: .86rem; overflow-wrap: anywhere; }}
figure img {{ display: block; max-width: 100%; height: auto; }}
.photos {{ padding: .5rem; background: #fffdfa; border-radius: 8px; }}
.grid {{ display: flex; flex-wrap: wrap; gap: 1rem 1.1rem; margin: 0 0 1.2rem; }}
.grid figure {{ flex: 0 1 auto; min-width: 6.5rem; margin: 0; }}
.grid img {{ display: inline-block; margin: 0 5px 5px 0; border-radius: 6px; vertical-align: bottom; }}
.grid figcaption {{ contain: inline-size; margin: 0; font-size: .8rem; line-height: 1.35; }}
@media print {{ section {{ break-inside: avoid; }} .scroll {{ max-height: none; }} }}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
{command}
{contents}
</header>
{sections}
</body>
</html>
"""

PICTURE_SIDE = 150  # height on the page in pixels; stored at twice that for dense screens


class Report:
    """One self-contained page, readable offline, by day and by night: `write` puts `index.html` and `report.json`.

    `command` is the line that makes it again, with the bare names of its files.
    """

    def __init__(self, title: str, command: str = ""):
        self.title, self.command = title, command
        self._sections: list[tuple[str, list[str]]] = []

    def section(self, title: str) -> None:
        """Everything after this belongs to it."""
        self._sections.append((title, []))

    def text(self, text: str) -> None:
        self._add(f"<p>{escape(text)}</p>")

    def table(self, headers: list[str], rows: Iterable[Iterable]) -> None:
        """Cells are text or numbers; columns of numbers are set flush right. `None` is shown as a dash."""
        rows = [[_cell(value) for value in row] for row in rows]
        numeric = [bool(rows) and all(_is_numeric(row[i]) for row in rows) for i in range(len(headers))]

        def line(cells, tag):
            marks = (' class="number"' if is_number else "" for is_number in numeric)
            cells = zip(cells, marks, strict=True)
            return "<tr>" + "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for cell, mark in cells) + "</tr>"

        body = "\n".join(line(row, "td") for row in rows)
        self._add(
            f'<div class="scroll"><table><thead>{line(headers, "th")}</thead>\n<tbody>{body}</tbody></table></div>'
        )

    def figure(self, figure: Figure, caption: str = "", *, photos: bool = False) -> None:
        """A plot, turned light on dark at night; with `photos` in it, it stays as it is, on a light card."""
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, transparent=True, metadata={"Software": None})
        width = round(figure.get_figwidth() * 100)
        tag = _image(stream.getvalue(), "png", caption, width, kind="photos" if photos else "plot")
        self._add(_captioned(tag, caption))

    def images(self, images: Iterable[tuple[Image.Image | list[Image.Image], str]]) -> None:
        """Pictures (RGB or L, any size) with their captions, in rows; or several that belong together, with one."""
        figures = []
        for pictures, caption in images:
            pictures = pictures if isinstance(pictures, list) else [pictures]
            tags = "".join(_image(_thumbnail(picture), "jpeg", caption, _width(picture)) for picture in pictures)
            figures.append(_captioned(tags, caption))
        self._add('<div class="grid">' + "\n".join(figures) + "</div>")

    def write(self, folder: Path, data: dict) -> Path:
        """Write `index.html`, and `data` as `report.json` beside it, each whole or not at all; return the page.

        Numbers of numpy become plain ones, NaN and infinity `null`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        data = {"title": self.title, "command": self.command, **data}
        write_json(folder / "report.json", plain(data))
        write_whole(folder / "index.html", self._page().encode())
        return folder / "index.html"

    def _add(self, html: str) -> None:
        if not self._sections:
            self.section("")
        self._sections[-1][1].append(html)

    def _page(self) -> str:
        titles = [(i, escape(title)) for i, (title, _) in enumerate(self._sections) if title]
        links = "\n".join(f'<a href="#s{i}">{title}</a>' for i, title in titles)
        sections = "\n".join(
            f'<section id="s{i}">' + (f"<h2>{escape(title)}</h2>\n" if title else "") + "\n".join(parts) + "</section>"
            for i, (title, parts) in enumerate(self._sections)
        )
        return PAGE.format(
            title=escape(self.title),
            command=f"<code>{escape(self.command)}</code>" if self.command else "",
            contents=f"<nav>{links}</nav>" if len(titles) > 2 else "",
            sections=sections,
        )


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (9, 3.6), **options):
    """A figure of `size` inches (100 pixels each on the page) and its axes: `pyplot.subplots` without its registry."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def plain(value):
    """The same value of what JSON knows: no NaN, no numpy, no path, no dataclass."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.as_posix() if isinstance(value, Path) else value


def _cell(value) -> str:
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return "–"
    if isinstance(value, Integral) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _is_numeric(cell: str) -> bool:
    return cell == "–" or cell.lstrip("+-−<>≤≥~ ")[:1].isdigit()


def _width(image: Image.Image) -> int:
    """On the page, in pixels: `PICTURE_SIDE` high, but a panorama not wider than six of them."""
    return max(1, round(min(image.width * PICTURE_SIDE / image.height, 6 * PICTURE_SIDE)))


def _thumbnail(image: Image.Image) -> bytes:
    image = image.convert("L" if image.mode == "L" else "RGB")
    image.thumbnail((12 * PICTURE_SIDE, 2 * PICTURE_SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _image(content: bytes, image_format: str, alt: str, width: int, kind: str = "") -> str:
    source = f"data:image/{image_format};base64,{base64.b64encode(content).decode()}"
    mark = f' class="{kind}"' if kind else ""
    return f'<img{mark} width="{width}" src="{source}" alt="{escape(alt)}">'


def _captioned(tags: str, caption: str) -> str:
    return (
        f"<figure>{tags}<figcaption>{escape(caption)}</figcaption></figure>" if caption else f"<figure>{tags}</figure>"
    )
