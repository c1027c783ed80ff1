from pathlib import Path

from django.conf import settings

from breeds.management.maintenance import MaintenanceCommand


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

    def work(self, *, checkpoint, dataset, split, seed, out, without_dog, **options):
        import os

        from ml.data.datasets import breeds_of, unpack_dataset
        from ml.data.loading import load_dataset, scan_dataset
        from ml.evaluation.examination import examine, report_examination
        from ml.serving.checkpoint import checkpoint_in
        from ml.serving.inference import Classifier
        from ml.training.unseen import energies_without_dog

        classifier = Classifier.load(checkpoint_in(checkpoint), num_threads=os.cpu_count() or 1)
        unpacked = unpack_dataset(dataset, settings.DATA_DIR / "datasets")
        known = {label.slug for label in classifier.checkpoint.labels}
        labels = sorted(known & set(breeds_of(unpacked)))
        photos = scan_dataset(unpacked) if split == "all" else load_dataset(unpacked, seed=seed, labels=labels)
        items = [item for item in photos.items if item.split == split]
        left_out = {item.label for item in items} - known
        if left_out < {item.label for item in items}:  # otherwise it is another label set, which `examine` refuses
            items = [item for item in items if item.label in known]
            self.say(f"left out: {', '.join(sorted(left_out))}" if left_out else "every breed is known")
        found = examine(
            classifier, photos, items, lambda items, description: self.track(items, description, len(items))
        )
        out = out or settings.DATA_DIR / "reports" / f"evaluate-{classifier.checkpoint.name}-{unpacked.name}"
        command = f"manage.py evaluate {checkpoint.name} {dataset.name} --split {split} --seed {seed}"
        energies = None
        if without_dog:
            command += f" --without-dog {without_dog.name}"
            energies = energies_without_dog(classifier, unpack_dataset(without_dog, settings.DATA_DIR / "datasets"))
        figures = report_examination(found, out, command, energies)
        low, high = figures["top1_interval"]
        self.say(
            f"top-1 {figures['top1']:.1%} ({low:.1%} – {high:.1%}) of {figures['n']} photos, "
            f"top-3 {figures['top3']:.1%}, loss {figures['loss']:.3f}, calibration error {figures['ece']:.1%}"
        )
        if few := figures["few_breeds"]:
            self.say(f"among {few['breeds']} breeds (mean of {few['draws']} draws): top-1 {few['top1']:.1%}")
        for level, row in figures["decisions"].items():
            right = f", right {row['precision']:.1%}" if "precision" in row else ""
            self.say(f"decision {level}: {row['share']:.1%} of photos{right}")
        if passed := figures.get("without_dog"):
            self.say(
                f"of {passed['n']} photos without a dog {passed['accepted']:.1%} are taken for one, "
                f"{passed['accepted_at_95']:.1%} where 95 % of these dogs are"
            )
        self.say(f"report: {out / 'index.html'}")
