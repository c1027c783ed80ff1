"""The model card of a checkpoint (Mitchell et al., 2019), written from what was measured on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml.serving.checkpoint import Checkpoint

CARD = """# {checkpoint.name} {checkpoint.version}

What a dog on a photo looks like, among {num_labels} labels. Made on {checkpoint.created} from {checkpoint.backbone}.

## Use

For indexing the photos of an animal shelter, with a person who confirms or corrects. It says what a dog *looks like*.
It does not prove a breed, least of all that of a mixed-breed dog, and it must not be used to put a dog into a legal
category: that takes a person qualified for it. A breed that is not among its labels can only be mistaken for another.

## Data

{train} photos to train on, {val} to choose on, {test} to test on once; near-duplicates lie on one side
(manifest {manifest}). Stanford Dogs (Khosla et al., 2011) derives from ImageNet and is for research, not for sale;
the same holds for what is trained on it. The backbone was pretrained on ImageNet and has seen many of these dogs, so
every figure here flatters, and photos of a shelter, with people and gardens around the dog, are harder than crops.

## Recipe

    {origin.command}

{origin.recipe}
Batch normalisation folded into the convolutions, weights rounded to float16 with few bits, exported to LiteRT.

## Figures

On the {test} test photos, from JPEG bytes through the exported file, as the command above prints and
`metrics-test.json` keeps. 95 % intervals by Wilson, of log loss, calibration error and few breeds by the bootstrap.

| measure | value | interval |
|---|---|---|
{rows}

{reviewed}Hardest labels on the test photos (right of all): {worst}.

"Never seen by the head": each fifth of the breeds was left out of a linear head on the same features, and of the
familiarity; thresholds were chosen on val. The features themselves were tuned on all breeds.
{left_out}
Photos without a dog are the half that nothing was chosen on. Not measured here: whole photos instead of crops,
mixed-breed dogs.
"""


LEVELS = {
    "breed": "photos that get a breed",
    "group": "photos that get only a group",
    "unsure": "unsure",
    "not_a_dog": "dogs taken for no dog",
}


@dataclass(frozen=True)
class Origin:
    """Where a network comes from, for `info.json` and the card. `recipe` says in words how it was trained.

    `photos`: their number in each split; `dataset_manifest`: the hash of the dataset.
    """

    name: str
    backbone: str
    image_size: int
    steps: tuple[str, ...]
    recipe: str
    command: str
    config: dict
    git_commit: str
    photos: dict[str, int]
    dataset_manifest: str


@dataclass(frozen=True)
class Card:
    """The card of a checkpoint. `figures` are those on the test split, `worst` its hardest labels."""

    figures: dict
    checkpoint: Checkpoint
    origin: Origin
    worst: list[str]

    def write(self, folder: Path) -> None:
        text = CARD.format(
            checkpoint=self.checkpoint,
            origin=self.origin,
            num_labels=len(self.checkpoint.labels),
            manifest=self.origin.dataset_manifest[:12],
            rows="\n".join(f"| {measure} | {value} | {interval} |" for measure, value, interval in self._rows()),
            reviewed=_on_reviewed(self.figures.get("reviewed")),
            worst=", ".join(self.worst),
            left_out=_on_breeds_left_out(self.figures.get("breeds_left_out")),
            **self.origin.photos,
        )
        (folder / "card.md").write_text(text)

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """(measure, value, interval)."""
        figures = self.figures
        for name in ("top1", "top3", "top5"):
            yield name.replace("top", "top-"), f"{figures[name]:.1%}", _interval(figures[f"{name}_interval"])
        yield "log loss (nats)", f"{figures['loss']:.3f}", _interval(figures["loss_interval"], ".3f")
        yield "expected calibration error, 15 bins", f"{figures['ece']:.2%}", _interval(figures["ece_interval"], ".2%")
        for level, words in LEVELS.items():
            row = figures["decisions"][level]
            yield words, f"{row['share']:.1%}", _interval(row["share_interval"])
            if level in ("breed", "group"):
                right = f"{row['precision']:.1%}" if "precision" in row else "no such photo"
                yield "… and it is right", right, _interval(row.get("interval"))
        yield from self._rows_of_others()

    def _rows_of_others(self) -> Iterator[tuple[str, str, str]]:
        """Unseen breeds, few breeds, and photos without a dog."""
        unseen, few = self.figures["unseen_breeds"], self.figures["few_breeds"]
        called = "–" if unseen["called_breed"] is None else f"{unseen['called_breed']:.1%} of {unseen['n']}"
        yield "photos of breeds never seen by the head that get a breed", called, _interval(unseen.get("interval"))
        if left_out := self.figures.get("breeds_left_out"):
            called, interval = f"{left_out['breed']:.1%} of {left_out['n']}", _interval(left_out["breed_interval"])
        else:
            called, interval = "not measured", ""
        yield "… by nothing that was trained", called, interval
        measure = "top-1 where the answer is one of 20 breeds, mean of {} draws"
        if few:
            yield measure.format(few["draws"]), f"{few['top1']:.1%}", _interval(few["interval"])
        else:
            yield measure.format("no"), "–", ""
        measures = "photos without a dog taken for a dog", "… at the threshold that 95 % of dogs reach"
        if passed := self.figures.get("without_dog"):
            yield measures[0], f"{passed['accepted']:.1%} of {passed['n']}", _interval(passed["accepted_interval"])
            yield measures[1], f"{passed['accepted_at_95']:.1%}", _interval(passed["accepted_at_95_interval"])
        else:
            yield from ((measure, "not measured", "") for measure in measures)


def _interval(pair: tuple[float, float] | None, digits: str = ".1%") -> str:
    return f"{pair[0]:{digits}} to {pair[1]:{digits}}" if pair else ""


def _on_breeds_left_out(found: dict | None) -> str:
    if not found:
        return "Of breeds that are new to them, too, more may get one: not measured (`train --fewer-breeds`)."
    stages = ", ".join(f"({size}, {epochs})" for size, epochs in found["stages"]) or "none, a head alone"
    known = found["known"]
    rightly = "" if known["precision"] is None else f", {known['precision']:.1%} of them rightly"
    return (
        f'"By nothing that was trained": classifier {found["version"]}, tuned on '
        f"{found['known_breeds']} of the breeds alone ({stages}), with\nits own thresholds, before every photo of the "
        f"other {found['breeds']}. A further {found['group']:.1%} get a group, {found['unsure']:.1%} are unsure.\n"
        f"Of dogs that it knows it names {known['share']:.1%}{rightly}. "
        "The backbone's pretraining has seen all of them."
    )


def _on_reviewed(own: dict | None) -> str:
    if not own:
        return ""
    return (
        f"On the {own['n']} of them that are the shelter's own, reviewed by people: top-1 {own['top1']:.1%} "
        f"({_interval(own['top1_interval'])}), log loss {own['loss']:.3f}.\n\n"
    )


def worst_labels(logits: np.ndarray, label_index: np.ndarray, slugs: list[str], most: int = 8) -> list[str]:
    """The labels with the lowest share of right answers, as `slug 5/18`."""
    right = logits.argmax(axis=1) == label_index
    rows = [(right[label_index == i].mean(), i) for i in np.unique(label_index)]
    return [f"{slugs[i]} {right[label_index == i].sum()}/{(label_index == i).sum()}" for _, i in sorted(rows)[:most]]
