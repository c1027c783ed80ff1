"""Runs side by side, and beside the figures of the system that Flair grew from."""

import json
from dataclasses import dataclass
from pathlib import Path

from ml import BadCheckpoint
from ml.reports import Report
from ml.serving.checkpoint import checkpoint_in


@dataclass(frozen=True)
class DeckRow:
    """A measured system of the slide deck: accuracy on its test split, log loss (nats), training time (seconds)."""

    model: str
    breeds: int
    accuracy: float
    loss: float
    seconds: float | None = None


# The keys are those of `deck_key`.
DECK = {key: DeckRow(**row) for key, row in json.loads(Path(__file__).with_name("deck.json").read_text()).items()}


@dataclass(frozen=True)
class Run:
    """A finished training: its settings, its figures on test, the number of its breeds."""

    name: str
    config: dict
    figures: dict
    breeds: int
    command: str

    @property
    def deck(self) -> DeckRow | None:
        return DECK.get(deck_key(self.config, self.breeds))


def deck_key(config: dict, breeds: int) -> str:
    """`cnn tuned augmented 3`, `xception 3`, `fine-tune 20` …: which of the deck's systems a run is the like of.

    Where the deck had its tuned Xception, any pretrained backbone stands for `transfer`.
    """
    recipe = config["recipe"]
    if recipe in ("cnn", "cnn-extra"):
        tuned = "tuned" if config.get("filters") else ""
        return " ".join(filter(None, [recipe, tuned, "augmented" if config["augment"] else "", str(breeds)]))
    own_row = f"{config['backbone']} {breeds}"
    return own_row if recipe == "transfer" and own_row in DECK else f"{recipe} {breeds}"


def read_run(folder: Path) -> Run:
    """A run folder or a checkpoint folder. Raises `BadCheckpoint` for anything else."""
    checkpoint = checkpoint_in(folder)
    try:
        info = json.loads((checkpoint / "info.json").read_text())
        figures = json.loads((checkpoint / "metrics-test.json").read_text())
        labels = json.loads((checkpoint / "labels.json").read_text())
        config = {"recipe": "transfer", "augment": True, **info["config"]}
        return Run(info["name"], config, figures, len(labels), info.get("command", ""))
    except (OSError, ValueError, KeyError) as error:
        raise BadCheckpoint(f"Expected a finished run in {folder}. Received: {error!r}.") from error


HEADERS = ["run", "breeds", "top-1", "95 % interval", "loss", "training (s)",
           "deck's model", "accuracy", "loss", "training (s)"]  # fmt: skip


def table(runs: list[Run]) -> list[list]:
    """A row per run under `HEADERS`; the deck's columns are None where it has nothing alike."""
    rows = []
    for run in sorted(runs, key=lambda run: (run.breeds, run.figures["top1"])):
        low, high = run.figures["top1_interval"]
        deck = run.deck
        rows.append(
            [run.name, run.breeds, f"{run.figures['top1']:.1%}", f"{low:.1%} – {high:.1%}",
             f"{run.figures['loss']:.3f}", _seconds(run.figures.get("training_seconds"))]
            + ([deck.model, f"{deck.accuracy:.1%}", f"{deck.loss:.3f}", _seconds(deck.seconds)] if deck else [None] * 4)
        )  # fmt: skip
    return rows


def report_comparison(runs: list[Run], folder: Path, command: str) -> Path:
    report = Report("Runs compared", command)
    report.section("Test split")
    report.table(HEADERS, table(runs))
    report.text("The deck measured on its own test split and machine. Losses of ours are after temperature scaling.")
    report.section("Commands")
    report.table(["run", "command"], [[run.name, run.command] for run in runs])
    return report.write(folder, {"headers": HEADERS, "rows": table(runs)})


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"
