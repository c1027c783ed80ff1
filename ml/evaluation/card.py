"""The model card of a checkpoint (Mitchell et al., 2019), written from what was measured on it."""

import numpy as np

CARD = """# {name} {version}

What a dog on a photo looks like, among {num_labels} labels. Made on {created} from {backbone}.

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

    {command}

{recipe}
Batch normalisation folded into the convolutions, weights rounded to float16 with few bits, exported to LiteRT.

## Figures

On the {test} test photos, from JPEG bytes through the exported file, as the command above prints and
`metrics-test.json` keeps. 95 % intervals by Wilson, of log loss, calibration error and few breeds by the bootstrap.

| measure | value | interval |
|---|---|---|
| top-1 | {top1} | {top1_interval} |
| top-3 | {top3} | {top3_interval} |
| top-5 | {top5} | {top5_interval} |
| log loss (nats) | {loss:.3f} | {loss_interval} |
| expected calibration error, 15 bins | {ece:.2%} | {ece_interval} |
| photos that get a breed | {breed_share:.1%} | {breed_share_interval} |
| … and it is right | {breed_precision} | {breed_interval} |
| photos that get only a group | {group_share:.1%} | {group_share_interval} |
| … and it is right | {group_precision} | {group_interval} |
| unsure | {unsure_share:.1%} | {unsure_share_interval} |
| dogs taken for no dog | {not_a_dog_share:.1%} | {not_a_dog_share_interval} |
| photos of breeds never seen by the head that get a breed | {unseen} | {unseen_interval} |
| … by nothing that was trained | {left_out} | {left_out_interval} |
| top-1 where the answer is one of 20 breeds, mean of {draws} draws | {few} | {few_interval} |
| photos without a dog taken for a dog | {without_dog} | {without_dog_interval} |
| … at the threshold that 95 % of dogs reach | {at_95} | {at_95_interval} |

{reviewed}Hardest labels on the test photos (right of all): {worst}.

"Never seen by the head": each fifth of the breeds was left out of a linear head on the same features, and of the
familiarity; thresholds were chosen on val. The features themselves were tuned on all breeds.
{left_out_words}
Photos without a dog are the half that nothing was chosen on. Not measured here: whole photos instead of crops,
mixed-breed dogs.
"""


def write_card(folder, *, checkpoint, recipe: str, command: str, counts: dict, manifest: str, figures: dict,
               worst: list[str]) -> None:  # fmt: skip
    """Write `card.md`. `figures` are those of `ml.evaluation.metrics` on the test split."""

    def interval(pair) -> str:
        return f"{pair[0]:.1%} to {pair[1]:.1%}" if pair else ""

    decisions = figures["decisions"]
    precisions = {
        f"{level}_{key}": value
        for level in ("breed", "group")
        for key, value in (
            (
                "precision",
                f"{decisions[level]['precision']:.1%}" if "precision" in decisions[level] else "no such photo",
            ),
            ("interval", interval(decisions[level].get("interval"))),
        )
    }
    text = CARD.format(
        name=checkpoint.name,
        version=checkpoint.version,
        num_labels=len(checkpoint.labels),
        created=checkpoint.created,
        backbone=checkpoint.backbone,
        command=command,
        recipe=recipe,
        manifest=manifest[:12],
        loss=figures["loss"],
        ece=figures["ece"],
        worst=", ".join(worst),
        unseen="–"
        if figures["unseen_breeds"]["called_breed"] is None
        else f"{figures['unseen_breeds']['called_breed']:.1%} of {figures['unseen_breeds']['n']}",
        unseen_interval=interval(figures["unseen_breeds"].get("interval")),
        loss_interval="{:.3f} to {:.3f}".format(*figures["loss_interval"]),
        ece_interval="{:.2%} to {:.2%}".format(*figures["ece_interval"]),
        **_of_others(figures, interval),
        **_of_left_out(figures.get("breeds_left_out"), interval),
        reviewed=_on_reviewed(figures.get("reviewed"), interval),
        **counts,
        **{f"top{k}": f"{figures[f'top{k}']:.1%}" for k in (1, 3, 5)},
        **{f"top{k}_interval": interval(figures[f"top{k}_interval"]) for k in (1, 3, 5)},
        **{f"{level}_share": decisions[level]["share"] for level in decisions},
        **{f"{level}_share_interval": interval(decisions[level]["share_interval"]) for level in decisions},
        **precisions,
    )
    (folder / "card.md").write_text(text)


def _of_others(figures: dict, interval) -> dict[str, str]:
    few, found = figures["few_breeds"], figures.get("without_dog")
    cells = {
        "few": f"{few['top1']:.1%}" if few else "–",
        "few_interval": interval(few["interval"]) if few else "",
        "draws": few["draws"] if few else "no",
        "without_dog": "not measured",
        "at_95": "not measured",
    }
    cells |= {"without_dog_interval": "", "at_95_interval": ""}
    if found:
        cells["without_dog"] = f"{found['accepted']:.1%} of {found['n']}"
        cells["at_95"] = f"{found['accepted_at_95']:.1%}"
        cells["without_dog_interval"] = interval(found["accepted_interval"])
        cells["at_95_interval"] = interval(found["accepted_at_95_interval"])
    return cells


def _of_left_out(found: dict | None, interval) -> dict[str, str]:
    if not found:
        words = "Of breeds that are new to them, too, more may get one: not measured (`train --fewer-breeds`)."
        return {"left_out": "not measured", "left_out_interval": "", "left_out_words": words}
    stages = ", ".join(f"({size}, {epochs})" for size, epochs in found["stages"]) or "none, a head alone"
    return {
        "left_out": f"{found['breed']:.1%} of {found['n']}",
        "left_out_interval": interval(found["breed_interval"]),
        "left_out_words": f'"By nothing that was trained": classifier {found["version"]}, tuned on '
        f"{found['known_breeds']} of the breeds alone ({stages}), with\nits own thresholds, before every photo of the "
        f"other {found['breeds']}. A further {found['group']:.1%} get a group, {found['unsure']:.1%} are unsure.\n"
        f"Of dogs that it knows it names {_named(found['known'])}. The backbone's pretraining has seen all of them.",
    }


def _named(known: dict) -> str:
    rightly = "" if known["precision"] is None else f", {known['precision']:.1%} of them rightly"
    return f"{known['share']:.1%}{rightly}"


def _on_reviewed(own: dict | None, interval) -> str:
    if not own:
        return ""
    return (
        f"On the {own['n']} of them that are the shelter's own, reviewed by people: top-1 {own['top1']:.1%} "
        f"({interval(own['top1_interval'])}), log loss {own['loss']:.3f}.\n\n"
    )


def worst_labels(logits: np.ndarray, label_index: np.ndarray, slugs: list[str], most: int = 8) -> list[str]:
    """The labels with the lowest share of right answers, as `slug 5/18`."""
    right = logits.argmax(axis=1) == label_index
    rows = [(right[label_index == i].mean(), i) for i in np.unique(label_index)]
    return [f"{slugs[i]} {right[label_index == i].sum()}/{(label_index == i).sum()}" for _, i in sorted(rows)[:most]]
