"""Many files in one go: a page's upload, a zip archive, a disk. Each has one row, and one more row per file.

The rows are the truth. An upload is settled file by file as the browser sends them. An archive or a disk is worked
through by whoever holds its lease: a worker, or the command that was asked to. Whoever is killed loses nothing, because
photo and receipt are written in one transaction, and repeats nothing, because only waiting files are taken.
"""

import itertools
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import models, transaction
from django.db.models import Count, Exists, F, OuterRef, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from breeds.hints import send_hint
from breeds.models import lease_end, lease_is_over

# A large archive comes in pieces of this size: small enough for a bad connection and for a web server's memory.
PART_BYTES = 8_000_000

# The last minute says how quick an import is.
SPEED_WINDOW = timedelta(seconds=60)
ABANDONED_AFTER = timedelta(days=7)


def hint_imports() -> None:
    """Tell the workers that an import is waiting."""
    send_hint("shelter.tasks.run_imports")


class ImportQuerySet(models.QuerySet["Import"]):
    @staticmethod
    def count_files(batches: Iterable["Import"]) -> None:
        """Give all of them their `counts` by one query."""
        batches = list(batches)
        found = ImportItem.objects.filter(batch__in=batches).order_by()
        counts = {batch.pk: dict.fromkeys(ImportItem.Outcome.values, 0) for batch in batches}
        for batch, outcome, count in found.values_list("batch", "outcome").annotate(Count("pk")):
            counts[batch][outcome] = count
        for batch in batches:
            batch.counts = counts[batch.pk]

    def upload_of(self, user, key: uuid.UUID | None) -> "Import":
        """The row of what this person's page sends under this key; a new one for a key that is not theirs."""
        fields = {"user": user, "kind": Import.Kind.UPLOAD, "status": Import.Status.DONE}
        batch, _created = self.get_or_create(key=key or uuid.uuid4(), defaults=fields)
        return batch if batch.user_id == user.pk and batch.kind == Import.Kind.UPLOAD else self.create(**fields)

    def receive(self, user, name: str, size: int, stamp: str = "") -> "Import":
        """Where the pieces of this archive go: the same row for the same file until it is whole."""
        fields = {
            "user": user, "kind": Import.Kind.ARCHIVE, "status": Import.Status.RECEIVING, "name": name, "size": size,
        }  # fmt: skip
        for time in itertools.count():  # how often this file was sent before
            key = uuid.uuid5(uuid.NAMESPACE_OID, f"{user.pk}|{name}|{size}|{stamp}|{time}")
            batch, _created = self.get_or_create(key=key, defaults=fields)
            if batch.status == Import.Status.RECEIVING:
                break
        return batch

    def from_disk(self, kind: str, sources: list[Path], user) -> "Import":
        """The unfinished import of these paths, or a new one."""
        source = "\n".join(map(str, sources))
        unfinished = self.filter(source=source, status__in=[Import.Status.WAITING, Import.Status.RUNNING]).first()
        name = sources[0].name if len(sources) == 1 else ", ".join(path.name for path in sources[:3])
        return unfinished or self.create(
            kind=kind, status=Import.Status.WAITING, source=source, name=name[:255], user=user
        )

    def open_work(self, now: datetime):
        """What waits, and what a lost worker held; one that met a problem rests first, so that others come to turn."""
        is_free = Q(leased_until=None) | lease_is_over("leased_until", now)
        return self.filter(is_free, status__in=[Import.Status.WAITING, Import.Status.RUNNING]).order_by("pk")

    def stuck(self, now: datetime | None = None) -> "ImportQuerySet":
        """Work that nobody does: a disk that is not plugged in, no worker, or a problem that does not pass."""
        since = (now or timezone.now()) - timedelta(minutes=30)
        unfinished = self.filter(status__in=[Import.Status.WAITING, Import.Status.RUNNING], created_at__lt=since)
        return unfinished.exclude(Exists(ImportItem.objects.filter(batch=OuterRef("pk"), settled_at__gte=since)))

    def awaits_work(self, now: datetime | None = None) -> bool:
        return any(batch.is_within_reach() for batch in self.open_work(now or timezone.now()))

    def claim(self, pk: int | None = None, now: datetime | None = None) -> "Import | None":
        """The lease of the oldest import that can be worked on here, or of this one. The conditional update decides."""
        now = now or timezone.now()
        for batch in self.open_work(now).filter(**{"pk": pk} if pk else {}):
            if not batch.is_within_reach():
                continue
            lease = uuid.uuid4()
            rows = self.filter(pk=batch.pk, status=batch.status, lease=batch.lease)
            if rows.update(
                status=Import.Status.RUNNING,
                lease=lease,
                leased_until=lease_end(now),
                started_at=batch.started_at or now,
                changed_at=now,
                error_code="",
            ):
                if batch.status == Import.Status.RUNNING:
                    batch.count_lost_attempt()
                return self.get(pk=batch.pk)
        return None

    def remove_abandoned(self, now: datetime | None = None) -> int:
        """Archives of which nothing came for days: their pieces are of no use to anybody."""
        before = (now or timezone.now()) - ABANDONED_AFTER
        abandoned = self.filter(kind=Import.Kind.ARCHIVE, status=Import.Status.RECEIVING, changed_at__lt=before)
        for batch in abandoned:
            batch.fail("abandoned")
        return len(abandoned)


class Import(models.Model):
    """What was sent together. `source` holds absolute paths, one per line, for what lies on a disk.

    A page's upload is done from the start: there is nothing in it that a worker could do.
    """

    class Kind(models.TextChoices):
        UPLOAD = "upload", _("upload")
        ARCHIVE = "archive", _("zip archive")
        DISK = "disk", _("files on a disk")

    class Status(models.TextChoices):
        RECEIVING = "receiving", _("arriving")
        WAITING = "waiting", _("waiting")
        RUNNING = "running", _("running")
        DONE = "done", _("finished")
        FAILED = "failed", _("failed")

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    status = models.CharField(_("status"), max_length=10, choices=Status)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="imports", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=255, blank=True)
    source = models.TextField(_("paths"), blank=True)
    size = models.PositiveBigIntegerField(_("bytes"), default=0)
    received = models.PositiveIntegerField(_("pieces received"), default=0)
    is_listed = models.BooleanField(_("contents are listed"), default=False)
    error_code = models.CharField(_("error code"), max_length=30, blank=True)
    lease = models.UUIDField(_("lease"), null=True, blank=True, editable=False)
    leased_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    changed_at = models.DateTimeField(_("changed"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = ImportQuerySet.as_manager()

    class Meta:
        verbose_name = _("import")
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["id"], condition=Q(status__in=["waiting", "running", "receiving"]), name="unfinished_imports"
            ),
            models.Index(fields=["user", "-id"], name="imports_by_user"),
        ]

    def __str__(self):
        return self.name or str(self.get_kind_display())

    def get_absolute_url(self):
        return reverse("import", args=[self.pk])

    @property
    def part_count(self) -> int:
        return -(-self.size // PART_BYTES)

    def part_size(self, number: int) -> int:
        return min(PART_BYTES, self.size - number * PART_BYTES)

    def part_path(self, number: int) -> str:
        return f"imports/{self.key}/{number:06}"

    def take_part(self, number: int, file) -> bool:
        """Store one piece; the last one lets the work begin. A piece that is there already may come again.

        False for a piece that is not the next one or not as long as it must be: nothing has changed then.
        """
        if number < self.received:
            return True
        if self.status != self.Status.RECEIVING or number != self.received or file.size != self.part_size(number):
            return False
        default_storage.save(self.part_path(number), file)
        now = timezone.now()
        rows = type(self).objects.filter(pk=self.pk, status=self.Status.RECEIVING, received=number)
        rows.update(received=number + 1, changed_at=now)
        self.received = number + 1
        if self.received == self.part_count:
            type(self).objects.filter(pk=self.pk, status=self.Status.RECEIVING).update(status=self.Status.WAITING)
            self.status = self.Status.WAITING
        return True

    def take_whole(self, file) -> None:
        """The server cuts into pieces what came in one; the file itself is on disk, never whole in memory."""
        for number in range(self.part_count):
            self.take_part(number, ContentFile(file.read(PART_BYTES)))

    def _drop_parts(self) -> None:
        for number in range(self.received):
            default_storage.delete(self.part_path(number))

    def is_within_reach(self) -> bool:
        """Pieces are in the common store; a disk is only where it is plugged in."""
        return all(Path(path).exists() for path in self.source.splitlines())

    def _mine(self) -> models.QuerySet:
        return type(self).objects.filter(pk=self.pk, status=self.Status.RUNNING, lease=self.lease)

    def give_back(self, code: str = "") -> None:
        """Another may go on at once; where `code` says that something is in the way, somebody tries again later."""
        now = timezone.now()
        rest = lease_end(now) if code else None
        self._mine().update(status=self.Status.WAITING, lease=None, leased_until=rest, error_code=code, changed_at=now)

    def fail(self, code: str) -> None:
        now = timezone.now()
        type(self).objects.filter(pk=self.pk).exclude(status=self.Status.DONE).update(
            status=self.Status.FAILED, error_code=code, finished_at=now, changed_at=now, lease=None, leased_until=None
        )
        self._drop_parts()

    def finish(self) -> None:
        """Every file is settled: the pieces go, then the work is over. Who dies in between is followed by another."""
        self._drop_parts()
        now = timezone.now()
        self._mine().update(
            status=self.Status.DONE, finished_at=now, changed_at=now, lease=None, leased_until=None, error_code=""
        )

    def count_lost_attempt(self) -> None:
        """Whoever held the lease is gone. A file that was in hand three times then is refused, the others go on."""
        first = self.items.waiting().first()
        if first is None:
            return
        self.items.filter(pk=first.pk).update(attempts=F("attempts") + 1)
        if first.attempts + 1 >= settings.MAX_ATTEMPTS:
            first.settle(ImportItem.Outcome.REFUSED, code="interrupted")

    def list_files(self, items: list["ImportItem"]) -> None:
        """Write a waiting row for every file: all of them, or none where the lease is lost or the list is there."""
        with transaction.atomic():
            if self._mine().filter(is_listed=False).update(is_listed=True):
                ImportItem.objects.bulk_create(items, batch_size=1000)
        self.is_listed = True

    @property
    def is_at_work(self) -> bool:
        """Some files are settled, others wait their turn: from slice to slice the lease may change hands."""
        return self.started_at is not None and not self.is_over

    @property
    def is_over(self) -> bool:
        return self.status in {self.Status.DONE, self.Status.FAILED}

    @cached_property
    def counts(self) -> dict[str, int]:
        """Outcome -> number of files, every outcome in its order."""
        found = dict(self.items.order_by().values_list("outcome").annotate(Count("pk")))
        return {outcome: found.get(outcome, 0) for outcome in ImportItem.Outcome.values}

    @property
    def refused(self) -> int:
        return self.counts[ImportItem.Outcome.REFUSED]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def similar(self) -> int:
        return self.items.similar().count()

    @property
    def settled(self) -> int:
        return self.total - self.counts[ImportItem.Outcome.WAITING]

    @property
    def refusals(self) -> list[tuple[str, int]]:
        """(code, number of files), the most frequent first."""
        refused = self.items.filter(outcome=ImportItem.Outcome.REFUSED).order_by()
        return sorted(refused.values_list("code").annotate(Count("pk")), key=lambda row: -row[1])

    @cached_property
    def speed(self) -> float:
        """Files settled per second, over the last minute."""
        now = timezone.now()
        since = max(now - SPEED_WINDOW, self.started_at or now)
        settled = self.items.filter(settled_at__gt=since).count()
        return settled / max((now - since).total_seconds(), 1)

    @property
    def minutes_left(self) -> int | None:
        """Rounded up; nothing while nobody could say."""
        waiting = self.counts[ImportItem.Outcome.WAITING]
        if not self.speed or not waiting:
            return None
        return max(1, round(waiting / self.speed / 60 + 0.5))

    @property
    def unanswered(self) -> int:
        """Photos of this import that the classifier has not looked at yet."""
        return self.items.filter(outcome=ImportItem.Outcome.ACCEPTED, photo__status="pending").count()

    def sent_before(self, photo, path: str) -> "ImportItem | None":
        """The receipt of this very file, whose answer was lost on the way to the sender."""
        return self.items.filter(photo=photo, path=path, outcome=ImportItem.Outcome.ACCEPTED).first()

    def dogs(self) -> list:
        """[{dog, count}]: folders whose photos are under no animal yet, with the name that each suggests."""
        return list(
            self.items.exclude(dog="")
            .filter(photo__isnull=False, photo__animal=None)
            .order_by("dog")
            .values("dog")
            .annotate(count=Count("photo", distinct=True))
        )


class ImportItemQuerySet(models.QuerySet["ImportItem"]):
    def waiting(self) -> "ImportItemQuerySet":
        return self.filter(outcome=ImportItem.Outcome.WAITING).order_by("position")

    def similar(self) -> "ImportItemQuerySet":
        """Accepted photos that look like one that was there before."""
        return self.filter(outcome=ImportItem.Outcome.ACCEPTED, photo__fingerprint__looks_like__isnull=False)

    def with_photos(self) -> "ImportItemQuerySet":
        return self.select_related(
            "photo__animal", "photo__breed", "photo__second_breed", "photo__fingerprint__looks_like__animal"
        )


class ImportItem(models.Model):
    """One file of an import and what became of it: its receipt."""

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted", _("accepted")
        KNOWN = "known", _("already here")
        REFUSED = "refused", _("refused")
        WAITING = "waiting", _("waiting")

    batch = models.ForeignKey("shelter.Import", models.CASCADE, related_name="items", verbose_name=_("import"))
    position = models.PositiveIntegerField(_("position"), null=True, blank=True)  # none in an upload: files just come
    path = models.TextField(_("path"))
    dog = models.CharField(_("suggested name"), max_length=100, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome, default=Outcome.WAITING)
    code = models.CharField(_("reason"), max_length=30, blank=True)
    photo = models.ForeignKey(
        "shelter.Photo", models.SET_NULL, null=True, blank=True, related_name="receipts", verbose_name=_("photo")
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    settled_at = models.DateTimeField(_("settled"), null=True, blank=True)

    objects = ImportItemQuerySet.as_manager()

    class Meta:
        verbose_name = _("file of an import")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "position"], name="one_receipt_per_file"),
            models.CheckConstraint(condition=~Q(outcome="refused") | ~Q(code=""), name="refused_has_a_reason"),
        ]
        indexes = [
            models.Index(fields=["batch", "outcome", "position"], name="receipts_by_outcome"),
            models.Index(fields=["batch", "dog"], name="receipts_by_dog"),
        ]

    def __str__(self):
        return self.name

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def settle(self, outcome: str, photo=None, code: str = "") -> bool:
        """The one way to an outcome, once. A row that nobody has seen yet is written with it."""
        if self._state.adding:
            self.outcome, self.photo, self.code, self.settled_at = outcome, photo, code, timezone.now()
            self.save()
            return True
        rows = type(self).objects.filter(pk=self.pk, outcome=self.Outcome.WAITING)
        now = timezone.now()
        if not rows.update(outcome=outcome, photo=photo, code=code, settled_at=now):
            return False
        self.outcome, self.photo, self.code, self.settled_at = outcome, photo, code, now
        return True
