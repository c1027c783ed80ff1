import os
from pathlib import Path

from breeds.management.maintenance import MaintenanceCommand
from ml.data.datasets import Dataset, Item, breeds_of
from ml.data.loading import load_dataset, scan_dataset
from ml.serving.checkpoint import checkpoint_in


class Command(MaintenanceCommand):
    help = "Measure a checkpoint on photos whose breed is known, and write a report."
    stopped = "Stopped."

    def add_arguments(self, parser):
        parser.add_argument("checkpoint", type=Path, help="checkpoint folder, or the folder of a run")
        parser.add_argument("dataset", type=Path, help="folder, tar archive, or folder written by preprocess")
        parser.add_argument("--split", choices=["train", "val", "test", "all"], default="test")
        parser.add_argument("--seed", type=int, default=0, help="that of the split in training")
        parser.add_argument("--without-dog", type=Path, help="photos without a dog, folder or tar, to measure on")
        parser.add_argument("--out", type=Path, help="folder of the report (default: in the data folder)")

    def work(self, *, checkpoint, dataset, split, seed, without_dog, **options):
        from ml.evaluation.examination import examine, in_words, report_examination
        from ml.serving.inference import Classifier
        from ml.training.unseen import energies_without_dog

        classifier = Classifier.load(checkpoint_in(checkpoint), num_threads=os.cpu_count() or 1)
        folder = self.unpack(dataset)
        photos, items = self._photos(folder, split, seed, {label.slug for label in classifier.checkpoint.labels})
        found = examine(classifier, photos, items, self.track)
        energies = energies_without_dog(classifier, self.unpack(without_dog)) if without_dog else None
        out = self.report_folder(f"evaluate-{classifier.checkpoint.name}-{folder.name}")
        for line in in_words(report_examination(found, out, self.command_line(), energies)):
            self.say(line)
        self.say(f"report: {out / 'index.html'}")

    def _photos(self, folder: Path, split: str, seed: int, known: set[str]) -> tuple[Dataset, list[Item]]:
        """The photos of `split` whose breed is `known`; all of them if none is, which `examine` refuses."""
        labels = sorted(known & set(breeds_of(folder)))
        photos = scan_dataset(folder) if split == "all" else load_dataset(folder, seed=seed, labels=labels)
        items = photos.part(split)
        left_out = {item.label for item in items} - known
        if left_out < {item.label for item in items}:
            items = [item for item in items if item.label in known]
            self.say(f"left out: {', '.join(sorted(left_out))}" if left_out else "every breed is known")
        return photos, items
