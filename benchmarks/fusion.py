"""What several photos of one dog gain over one, and how well a photo of another dog is noticed.

    python -m benchmarks.fusion --dataset DIR [--checkpoint ml/bundled] [--split test] [--groups 4000]

Groups of two to four photos of one breed, never two near-duplicates, drawn from one split. They stand for the photos
of one dog, and flatter: photos of one dog resemble each other in what misleads a classifier, too. Then a photo of
another breed takes the place of the last one: once of any breed, once of one of the same FCI-style group, which looks
more alike.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from ml.data.loading import load_dataset
from ml.evaluation.examination import Examination, examine
from ml.evaluation.metrics import wilson_interval
from ml.progress import track
from ml.serving.decision import Level, Thresholds, decide
from ml.serving.fusion import choose_agreement, draw_groups, fuse, fuse_probabilities
from ml.serving.inference import Classifier

SIZES = (2, 3, 4)

RULES = {
    "geometric mean": fuse_probabilities,
    "arithmetic mean": lambda probs: probs.mean(axis=0),
    "product": lambda probs: np.exp(_log_softmax(np.log(np.maximum(probs, 1e-7)).sum(axis=0))),
}


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())


def without_near_duplicates(found: Examination) -> np.ndarray:
    """Positions of one photo of every group of near-duplicates."""
    return np.array(list({item.group: index for index, item in enumerate(found.items)}.values()))


def intruders(members: np.ndarray, label_index: np.ndarray, families: np.ndarray | None, rng) -> np.ndarray:
    """`members` (N, K) with the last photo of each row replaced by one of another breed; of the same family if given.

    Rows whose breed has no other in its family are left out.
    """
    rows = []
    for row in members:
        foreign = label_index != label_index[row[0]]
        if families is not None:
            foreign &= families == families[row[0]]
        if (choice := np.flatnonzero(foreign)).size:
            rows.append([*row[:-1], rng.choice(choice)])
    return np.array(rows, int).reshape(-1, members.shape[1])


def share(right: list | np.ndarray) -> dict:
    right = np.asarray(right, bool)
    return {"share": float(right.mean()), "interval": wilson_interval(int(right.sum()), len(right)), "n": len(right)}


def measure_rules(probs: np.ndarray, label_index: np.ndarray, members: np.ndarray, checkpoint) -> dict:
    """Top-1, and share and precision of the decision `breed`, of single photos and of each rule."""
    ways = {"one photo": [(probs[i], label_index[i]) for i in members.ravel()]}
    for name, rule in RULES.items():
        ways[name] = [(rule(probs[row]), label_index[row[0]]) for row in members]
    figures = {}
    for name, answers in ways.items():
        decisions = [decide(row, np.inf, checkpoint.labels, checkpoint.thresholds) for row, _ in answers]
        named = [d.label == checkpoint.labels[truth].slug for d, (_, truth) in zip(decisions, answers, strict=True)
                 if d.decision == Level.BREED]  # fmt: skip
        figures[name] = {
            "top1": share([row.argmax() == truth for row, truth in answers]),
            "breed": len(named) / len(answers),
            "precision": share(named) if named else None,
        }
    return figures


def measure_warnings(probs, energy, label_index, members, checkpoint, thresholds: Thresholds, rng) -> dict:
    """Share of groups that are warned of: true ones, and those with an intruder; and how often it names that photo."""

    def odd(rows) -> list[tuple[int, ...]]:
        return [fuse(probs[row], energy[row], checkpoint.labels, thresholds).odd for row in rows]

    families = np.array([label.group for label in checkpoint.labels])[label_index]
    figures = {"true groups": share([bool(found) for found in odd(members)])}
    for name, of in (("another breed", None), ("another breed of the group", families)):
        found = odd(intruders(members, label_index, of, rng))
        last = members.shape[1] - 1
        figures[name] = share([bool(positions) for positions in found])
        figures[f"{name}, the right photo"] = share([last in positions for positions in found])
    return figures


def measure_fusion(found: Examination, groups: int, seed: int, agreement: float | None = None, say=print) -> dict:
    """Figures for each size of group, said as they come. `agreement`: another threshold than the checkpoint's."""
    checkpoint, rng = found.classifier.checkpoint, np.random.default_rng(seed)
    thresholds = checkpoint.thresholds
    if agreement is not None:
        thresholds = replace(thresholds, agreement=agreement)
    chosen = without_near_duplicates(found)
    probs, energy, label_index = found.probs[chosen], found.energies[chosen], found.label_index[chosen]
    figures: dict = {
        "photos": len(chosen),
        "agreement": thresholds.agreement,
        "agreement chosen here": choose_agreement(probs, label_index),
    }
    say(f"{len(chosen)} photos; warned below {thresholds.agreement:.2f} nats, "
        f"these photos would choose {figures['agreement chosen here']:.2f}")  # fmt: skip
    for size in SIZES:
        members = draw_groups(label_index, size, groups, rng)
        rules = measure_rules(probs, label_index, members, checkpoint)
        warnings = measure_warnings(probs, energy, label_index, members, checkpoint, thresholds, rng)
        figures[size] = {"rules": rules, "warnings": warnings}
        for name, row in rules.items():
            right = f", right {row['precision']['share']:.1%}" if row["precision"] else ""
            say(f"{size} photos, {name}: top-1 {row['top1']['share']:.1%}, breed named {row['breed']:.1%}{right}")
        for name, row in warnings.items():
            low, high = row["interval"]
            say(f"{size} photos, warned, {name}: {row['share']:.1%} ({low:.1%} – {high:.1%}) of {row['n']}")
    return figures


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=Path("ml/bundled"))
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--groups", type=int, default=4000, help="of each size")
    parser.add_argument("--agreement", type=float, help="least agreement (default: the checkpoint's)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the draw")
    chosen = parser.parse_args(arguments)
    classifier = Classifier.load(chosen.checkpoint)
    dataset = load_dataset(chosen.dataset, seed=chosen.seed)
    found = examine(classifier, dataset, dataset.part(chosen.split), track)
    return measure_fusion(found, chosen.groups, chosen.seed, chosen.agreement)


if __name__ == "__main__":
    main()
