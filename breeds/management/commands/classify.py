import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from breeds import classifier as classifiers
from breeds import words
from breeds.models import BreedGroup


class Command(BaseCommand):
    help = "Say on the terminal what dogs photos show: files, or folders with everything below them."

    def add_arguments(self, parser):
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--json", action="store_true", help="one JSON object per file")
        parser.add_argument("--top", type=int, default=5, metavar="K", help="number of candidates (default 5)")
        parser.add_argument("--why", action="store_true", help="say the reasons of each decision as well")
        parser.add_argument("--checkpoint", type=Path, help="checkpoint folder (default: the active classifier)")

    def handle(self, *, paths, top, checkpoint, **options):
        try:
            classifier = classifiers.load_classifier(checkpoint or classifiers.active_folder(), os.cpu_count() or 1)
        except classifiers.BadCheckpoint as error:
            raise CommandError(str(error)) from error
        for path in files_below(paths):
            answer = self._answer(path, classifier, top)
            if not options["why"]:
                answer.pop("reasons", None)
            self.stdout.write(json.dumps(answer, ensure_ascii=False) if options["json"] else in_words(answer))

    def _answer(self, path: Path, classifier, top: int) -> dict:
        """One line of output; a file that cannot be read is a line too, never a stop."""
        try:
            found = classifier.classify(path.read_bytes(), top_k=top)
        except (classifiers.UnreadableImage, OSError) as error:
            return {"path": str(path), "error": str(error)}
        return {
            "path": str(path),
            "decision": found.decision,
            "label": found.label,
            "group": found.group,
            "probability": round(found.probability, 6),
            "candidates": [{"label": c.label, "probability": round(c.probability, 6)} for c in found.candidates],
            "reasons": [asdict(reason) for reason in found.reasons],
            "model": {"name": classifier.checkpoint.name, "version": classifier.checkpoint.version},
            "milliseconds": round(found.milliseconds, 1),
        }


def files_below(paths: list[Path]) -> Iterator[Path]:
    """The files themselves, and of folders every file below that is not hidden, in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from (p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith("."))
        else:
            yield path


def in_words(answer: dict) -> str:
    if "error" in answer:
        return f"{answer['path']}: {answer['error']}"
    named = answer["label"] or (BreedGroup(answer["group"]).label if answer["group"] else "")
    best = ", ".join(f"{c['label']} {words.percent(c['probability'])}" for c in answer["candidates"][:3])
    line = f"{answer['path']}: {answer['decision']} {named} ({best})".replace("  ", " ")
    return "\n".join([line, *(f"    {sentence}" for sentence in words.why(answer.get("reasons", [])))])
