from django.core.management.base import BaseCommand, CommandError

from shelter.operations.retention import plans


class Command(BaseCommand):
    help = (
        "Say what is older than the shelter wants to keep it, and with --apply remove it, each with a row of audit "
        "(Removal). Without --apply nothing changes; without a rule nothing is ever due."
    )

    def add_arguments(self, parser):
        parser.add_argument("--photos", type=int, metavar="DAYS", help="photos of no dog that nobody said anything of")
        parser.add_argument(
            "--originals", type=int, metavar="DAYS",
            help="originals of dogs that have left and of no dog; the preview takes their place",
        )  # fmt: skip
        parser.add_argument("--receipts", type=int, metavar="DAYS", help="receipts of imports that are over")
        parser.add_argument("--apply", action="store_true", help="remove it")

    def handle(self, *, photos, originals, receipts, apply, **options):
        wished = plans(photos=photos, originals=originals, receipts=receipts)
        if not wished:
            raise CommandError("Expected --photos, --originals or --receipts with a number of days. Received: none.")
        if any(plan.days < 1 for plan in wished):
            raise CommandError("Days must be at least 1.")
        for plan in wished:
            count, size = 0, 0
            if apply:
                for removal in plan.apply():
                    count, size = count + 1, size + removal.size
            else:
                for found in plan.due().order_by("pk").iterator():
                    self.stdout.write(f"  {plan.rule.value} {found.pk}")
                    count, size = count + 1, size + found.size
            verb = "removed" if apply else "would go"
            self.stdout.write(f"{plan.rule.value}, older than {plan.days} days: {count} {verb}, {size / 1e6:.1f} MB")
