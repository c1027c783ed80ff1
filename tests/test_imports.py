"""Archives and disks, worked through in slices by whoever holds the lease."""

import os
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError
from django.utils import timezone

from breeds.models import Prediction
from breeds.tasks import classify_photos
from shelter.intake.importing import files_of_disk, work, work_slice
from shelter.intake.uploads import receipt_of, upload_photo
from shelter.models import Import, ImportItem, Photo
from shelter.models import imports as imports_module
from shelter.tasks import run_imports, sweep_imports
from tests.support import commands
from tests.support.factories import upload
from tests.support.pictures import jpeg
from tests.test_archives import patched, zipped

pytestmark = pytest.mark.django_db


def received(user, packed: bytes, name="refuge.zip", part_bytes=None) -> Import:
    batch = Import.objects.receive(user, name, len(packed))
    for number in range(batch.part_count):
        start = number * imports_module.PART_BYTES
        assert batch.take_part(number, ContentFile(packed[start : start + imports_module.PART_BYTES]))
    return Import.objects.get(pk=batch.pk)


def outcomes(batch: Import) -> dict[str, str]:
    return {item.path: item.code or item.outcome for item in batch.items.all()}


def run(*arguments, **options) -> str:
    return commands.run("import_photos", *arguments, **options)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "Refuge"
    for path, content in {
        "Rex/1.jpg": jpeg(1), "Rex/2.jpg": jpeg(2), "Réglisse/3.jpg": jpeg(3), "notes.txt": b"Rex, Bella",
        "Rex/Thumbs.db": b"x", "__MACOSX/Rex/._1.jpg": b"x", "Rex/.1.jpg": b"x", "Rex/copie.jpg": jpeg(1),
    }.items():  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_it_takes_the_good_photos_of_an_archive_and_says_why_not_the_others(anne, stored_files):
    files = {"Rex/1.jpg": jpeg(1), "Rex/2.jpg": jpeg(2), "Rex/1 copie.jpg": jpeg(1), "a.txt": b"x", "../b.jpg": jpeg(3)}
    batch = received(anne, zipped(files))

    run_imports()

    batch.refresh_from_db()
    assert batch.status == Import.Status.DONE
    assert outcomes(batch) == {
        "Rex/1.jpg": "accepted", "Rex/2.jpg": "accepted", "Rex/1 copie.jpg": "known", "a.txt": "not_an_image",
        "../b.jpg": "unsafe_path",
    }  # fmt: skip
    assert {photo.uploaded_by for photo in Photo.objects.all()} == {anne}
    assert stored_files() == {photo.image.name for photo in Photo.objects.all()}  # the pieces have gone


def test_it_reads_an_archive_that_came_in_many_pieces(anne, monkeypatch):
    monkeypatch.setattr(imports_module, "PART_BYTES", 1000)
    batch = received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(8)}))
    assert batch.part_count > 10
    run_imports()
    assert set(outcomes(batch).values()) == {"accepted"}


def test_it_goes_on_with_the_next_piece_after_a_lost_connection(anne, monkeypatch):
    monkeypatch.setattr(imports_module, "PART_BYTES", 1000)
    packed = zipped({"1.jpg": jpeg(1)})
    batch = Import.objects.receive(anne, "a.zip", len(packed), "1")
    assert batch.take_part(0, ContentFile(packed[:1000]))
    again = Import.objects.receive(anne, "a.zip", len(packed), "1")
    assert (again, again.received) == (batch, 1)
    assert again.take_part(0, ContentFile(packed[:1000]))  # its answer was lost: it comes again, and nothing happens
    assert again.received == 1


@pytest.mark.parametrize(("number", "length"), [(1, 1000), (0, 999), (0, 1001)])
def test_it_takes_no_piece_out_of_turn_or_of_another_length(anne, monkeypatch, stored_files, number, length):
    monkeypatch.setattr(imports_module, "PART_BYTES", 1000)
    batch = Import.objects.receive(anne, "a.zip", 2500)
    assert not batch.take_part(number, ContentFile(bytes(length)))
    assert stored_files() == set()
    assert Import.objects.get().received == 0


def test_it_begins_anew_when_the_same_archive_is_sent_after_it_was_done(anne):
    first = received(anne, zipped({"1.jpg": jpeg(1)}))
    run_imports()
    second = received(anne, zipped({"1.jpg": jpeg(1)}))
    run_imports()
    assert second != first
    begun = Import.objects.receive(anne, "refuge.zip", first.size)
    assert begun not in (first, second)
    assert Import.objects.receive(anne, "refuge.zip", first.size) == begun  # and is found again to go on
    assert outcomes(second) == {"1.jpg": "known"}


@pytest.mark.parametrize(("content", "code"), [(b"no zip at all", "not_a_zip"), (zipped({})[:-1], "not_a_zip")])
def test_it_fails_an_archive_that_cannot_be_read_and_keeps_nothing_of_it(anne, stored_files, content, code):
    batch = received(anne, content)
    run_imports()
    batch.refresh_from_db()
    assert (batch.status, batch.error_code) == (Import.Status.FAILED, code)
    assert stored_files() == set()


def test_it_refuses_an_archive_of_too_many_files(anne, settings):
    settings.MAX_IMPORT_FILES = 2
    batch = received(anne, zipped({f"{n}.jpg": b"x" for n in range(3)}))
    run_imports()
    batch.refresh_from_db()
    assert (batch.status, batch.error_code, batch.items.count()) == (Import.Status.FAILED, "too_many_entries", 0)


def test_it_lets_photos_of_people_who_wait_go_before_those_of_an_import(anne, classifier):
    received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(5)}))
    run_imports()
    photo = upload_photo(upload(jpeg(9)), user=anne).photo
    assert Prediction.objects.claim(1)[0].photo == photo
    assert set(Prediction.objects.exclude(photo=photo).values_list("priority", flat=True)) == {Prediction.Priority.BULK}


def test_it_hurries_a_photo_of_an_import_that_somebody_sends_too(anne):
    received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(5)}))
    run_imports()
    receipt = upload_photo(upload(jpeg(3)), user=anne)
    assert receipt.outcome == "known"
    assert Prediction.objects.claim(1)[0].photo == receipt.photo


@pytest.mark.parametrize(("seconds", "sent"), [(3600, 1), (-1, 9)])
def test_it_hints_once_the_first_photo_is_there_then_now_and_then_and_after_the_slice(
    anne, hints, django_capture_on_commit_callbacks, monkeypatch, seconds, sent
):
    monkeypatch.setattr("shelter.intake.importing.HINT_SECONDS", seconds)
    received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(9)}))
    with django_capture_on_commit_callbacks(execute=True):
        run_imports()
    assert hints == ["breeds.tasks.classify_photos"] * (sent + 1)


def slice_of(batch: Import, files: int) -> Import:
    """Settle so many files and die: the lease stays, nobody gives it back."""
    taken = []

    def take(item, content):
        if len(taken) == files:
            raise KeyboardInterrupt
        taken.append(item)
        upload_photo(content, user=None, item=item)

    held = Import.objects.claim(batch.pk)
    with pytest.raises(KeyboardInterrupt):
        work(held, take, until=timezone.now() + timedelta(minutes=1))
    return held


def expire(batch: Import) -> None:
    Import.objects.filter(pk=batch.pk).update(leased_until=timezone.now() - timedelta(seconds=1))


def test_it_goes_on_where_a_lost_worker_was_and_repeats_nothing(anne):
    batch = received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(6)}))
    slice_of(batch, 3)
    assert Import.objects.claim() is None  # the lease is not over
    expire(batch)

    run_imports()

    assert set(outcomes(batch).values()) == {"accepted"}
    assert Photo.objects.count() == Prediction.objects.count() == 6


def test_it_writes_photo_and_receipt_together_or_not_at_all(anne, monkeypatch, stored_files):
    batch = received(anne, zipped({"1.jpg": jpeg(1)}))
    pieces = stored_files()
    monkeypatch.setattr(ImportItem, "settle", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("gone")))
    assert work_slice(Import.objects.claim())
    assert (Photo.objects.count(), stored_files()) == (0, pieces)
    monkeypatch.undo()
    batch.refresh_from_db()
    assert (batch.status, batch.error_code) == (Import.Status.WAITING, "passing")
    expire(batch)
    work_slice(Import.objects.claim())
    assert outcomes(batch) == {"1.jpg": "accepted"}


def test_it_refuses_a_file_that_killed_its_worker_three_times_and_takes_the_others(anne):
    batch = received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(3)}))
    slice_of(batch, 1)
    for _ in range(2):
        expire(batch)
        slice_of(batch, 0)
    expire(batch)
    run_imports()
    assert outcomes(batch) == {"0.jpg": "accepted", "1.jpg": "interrupted", "2.jpg": "accepted"}


def test_it_gives_an_import_to_one_worker_alone(anne):
    received(anne, zipped({"1.jpg": jpeg(1)}))
    assert Import.objects.claim()
    assert Import.objects.claim() is None


def test_it_leaves_a_late_worker_nothing_to_change(anne):
    batch = received(anne, zipped({"1.jpg": jpeg(1)}))
    late = Import.objects.claim()
    expire(batch)
    run_imports()
    late.give_back("passing")
    late.finish()
    item = batch.items.get()
    assert not item.settle("refused", code="interrupted")
    batch.refresh_from_db()
    assert (batch.status, batch.error_code, item.outcome) == (Import.Status.DONE, "", "accepted")


def test_it_lets_other_imports_come_to_turn_while_one_meets_a_problem(anne, monkeypatch):
    stuck, other = (
        received(anne, zipped({"1.jpg": jpeg(1)}), "a.zip"),
        received(anne, zipped({"2.jpg": jpeg(2)}), "b.zip"),
    )
    held = Import.objects.claim(stuck.pk)
    held.give_back("passing")
    assert Import.objects.claim() == other
    assert Import.objects.claim() is None
    expire(stuck)
    assert Import.objects.claim() == stuck


def test_an_import_that_was_given_back_without_a_problem_is_claimed_at_once(anne):
    batch = received(anne, zipped({"1.jpg": jpeg(1)}))
    Import.objects.claim().give_back()
    assert Import.objects.claim() == batch


def test_an_import_whose_lease_has_gone_lists_no_files(anne):
    batch = received(anne, zipped({"1.jpg": jpeg(1)}))
    late = Import.objects.claim(now=timezone.now() - timedelta(minutes=5))
    current = Import.objects.claim()
    late.list_files([ImportItem(batch=batch, position=0, path="1.jpg")])
    assert (ImportItem.objects.count(), Import.objects.get().is_listed) == (0, False)
    for _ in range(2):
        current.list_files([ImportItem(batch=batch, position=0, path="1.jpg")])
    assert ImportItem.objects.count() == 1


def test_a_large_archive_comes_in_pieces_of_eight_megabytes(anne):
    batch = Import.objects.receive(anne, "a.zip", 16_000_001)
    assert [batch.part_size(number) for number in range(batch.part_count)] == [8_000_000, 8_000_000, 1]


def test_an_archive_is_abandoned_when_nothing_came_for_seven_days(anne):
    batch = Import.objects.receive(anne, "a.zip", 2500)
    assert Import.objects.remove_abandoned(batch.changed_at + timedelta(days=6, hours=23)) == 0
    assert Import.objects.remove_abandoned(batch.changed_at + timedelta(days=7, hours=1)) == 1


def test_it_stops_after_a_slice_and_passes_the_hint_on(anne, settings, hints):
    settings.SLICE_SECONDS = 0
    batch = received(anne, zipped({"1.jpg": jpeg(1)}))
    run_imports()
    batch.refresh_from_db()
    assert (batch.status, batch.is_listed, hints) == (
        Import.Status.WAITING,
        True,
        ["breeds.tasks.classify_photos", "shelter.tasks.run_imports"],
    )


def test_it_sweeps_what_waits_and_what_never_arrived_whole(anne, hints, stored_files, monkeypatch):
    monkeypatch.setattr(imports_module, "PART_BYTES", 1000)
    abandoned = Import.objects.receive(anne, "a.zip", 2500)
    abandoned.take_part(0, ContentFile(bytes(1000)))
    assert (sweep_imports(), hints) == (0, [])
    Import.objects.update(changed_at=timezone.now() - timedelta(days=8))
    received(anne, zipped({}), "b.zip")
    assert (sweep_imports(), hints) == (1, ["shelter.tasks.run_imports"])
    abandoned.refresh_from_db()
    assert abandoned.error_code == "abandoned"
    assert not any(str(abandoned.key) in name for name in stored_files())


def test_it_tells_how_far_it_is_how_quick_and_how_long_it_will_take(anne):
    batch = received(anne, zipped({f"{seed}.jpg": jpeg(seed) for seed in range(6)}))
    slice_of(batch, 2)
    now = timezone.now()
    Import.objects.update(started_at=now - timedelta(seconds=4))
    batch = Import.objects.get(pk=batch.pk)
    assert batch.counts == {"accepted": 2, "known": 0, "refused": 0, "waiting": 4}
    assert (batch.settled, batch.total, batch.unanswered) == (2, 6, 2)
    assert batch.speed == pytest.approx(0.5, abs=0.1)
    assert batch.minutes_left == 1


def test_it_offers_the_folders_names_for_photos_that_are_under_no_dog_yet(anne):
    batch = received(anne, zipped({"Rex/1.jpg": jpeg(1), "Rex/2.jpg": jpeg(2), "Bella/3.jpg": jpeg(3), "4.jpg": b"x"}))
    run_imports()
    assert batch.dogs() == [{"dog": "Bella", "count": 1}, {"dog": "Rex", "count": 2}]


# -- the command ------------------------------------------------------------------------------------------------------


def test_it_takes_in_folders_archives_and_single_files(disk, anne, tmp_path):
    (tmp_path / "old.zip").write_bytes(zipped({"Bella/5.jpg": jpeg(5)}))
    (tmp_path / "6.jpg").write_bytes(jpeg(6))

    printed = run(disk, tmp_path / "old.zip", tmp_path / "6.jpg", user="anne")

    assert Photo.objects.filter(uploaded_by=anne).count() == 5
    folder, archive, single = Import.objects.order_by("pk")
    assert outcomes(folder) == {
        str(disk / "Rex/1.jpg"): "accepted", str(disk / "Rex/2.jpg"): "accepted", str(disk / "Rex/copie.jpg"): "known",
        str(disk / "Réglisse/3.jpg"): "accepted", str(disk / "notes.txt"): "not_an_image",
    }  # fmt: skip
    assert [dog["dog"] for dog in folder.dogs()] == ["Rex", "Réglisse"]
    assert (outcomes(archive), outcomes(single)) == ({"Bella/5.jpg": "accepted"}, {str(tmp_path / "6.jpg"): "accepted"})
    assert "refused, not a photo: 1" in printed or "pas une photo" in printed


def test_it_says_which_paths_are_not_there(disk, tmp_path):
    with pytest.raises(CommandError, match=r"Received: .*none\.zip"):
        run(disk, tmp_path / "none.zip")
    assert not Import.objects.exists()


def test_it_goes_on_with_an_import_of_the_same_paths(disk):
    first = Import.objects.from_disk(Import.Kind.DISK, [disk], None)
    slice_of(first, 2)
    expire(first)
    run(disk)
    assert Import.objects.count() == 1
    assert sorted(outcomes(first).values()) == ["accepted", "accepted", "accepted", "known", "not_an_image"]


def test_it_makes_a_file_that_cannot_be_opened_a_line_and_never_a_stop(disk):
    (disk / "Rex/lost.jpg").symlink_to(disk / "nowhere.jpg")
    with open(os.fsencode(str(disk / "Rex/")) + b"/caf\xe9.jpg", "wb") as file:  # noqa: PTH123  no str names it
        file.write(jpeg(7))
    batch = Import.objects.from_disk(Import.Kind.DISK, [disk], None)
    held = Import.objects.claim(batch.pk)
    held.list_files(files_of_disk(held))
    (disk / "Rex/2.jpg").unlink()
    work_slice(held)
    found = {path.rpartition("/")[2]: outcome for path, outcome in outcomes(batch).items()}
    assert found["2.jpg"] == found["caf\\xe9.jpg"] == "unreadable_file"
    assert (found["1.jpg"], found["3.jpg"]) == ("accepted", "accepted")


def test_it_waits_while_the_disk_is_unplugged_and_loses_nothing(disk, tmp_path):
    batch = Import.objects.from_disk(Import.Kind.DISK, [disk], None)
    held = Import.objects.claim(batch.pk)
    held.list_files(files_of_disk(held))
    disk.rename(tmp_path / "unplugged")
    assert work_slice(held)
    batch.refresh_from_db()
    assert (batch.status, batch.error_code, batch.counts["waiting"]) == (Import.Status.WAITING, "passing", 5)
    assert not Import.objects.awaits_work()
    (tmp_path / "unplugged").rename(disk)
    expire(batch)
    run_imports()
    assert set(outcomes(batch).values()) == {"accepted", "known", "not_an_image"}


def test_every_receipt_says_what_became_of_the_file(anne, classifier):
    batch = received(anne, zipped({"1.jpg": jpeg(1), "1 copie.jpg": jpeg(1), "lettre.pdf": b"%PDF-1.7"}))
    run_imports()
    classify_photos()
    receipts = [receipt_of(item) for item in batch.items.select_related("photo__animal")]
    assert [receipt.outcome for receipt in receipts] == ["accepted", "known", "refused"]
    assert "Déjà envoyée le" in receipts[1].message
    assert "lettre.pdf" in receipts[2].message
    Photo.objects.all().delete()
    assert "supprimée" in receipt_of(batch.items.first()).message


@pytest.mark.slow
def test_it_takes_thirteen_thousand_files_in_one_import(anne, settings):
    """Mostly small refusals, so that the rows, not the pictures, are what takes the time."""
    files = {f"{n % 700}/{n}.jpg": b"x%d" % n for n in range(12_990)} | {f"Rex/{n}.jpg": jpeg(n) for n in range(10)}
    batch = received(anne, zipped(files))
    while run_imports():
        pass
    batch.refresh_from_db()
    assert batch.status == Import.Status.DONE
    assert batch.counts == {"accepted": 10, "known": 0, "refused": 12_990, "waiting": 0}
    assert batch.refusals == [("not_an_image", 12_990)]


def test_an_encrypted_entry_costs_no_other(anne):
    batch = received(anne, patched(zipped({"a.jpg": jpeg(1), "b.jpg": jpeg(2)}), flags=1))
    run_imports()
    assert outcomes(batch) == {"a.jpg": "encrypted", "b.jpg": "accepted"}


def test_it_queues_imports_apart_from_the_hints_of_photos_and_workers_take_from_both():
    from shelter.celery import app

    def queue_of(task: str) -> str:
        return app.amqp.router.route({}, task)["queue"].name

    assert queue_of("shelter.tasks.run_imports") != queue_of("breeds.tasks.classify_photos")
    assert {queue_of(name) for name in app.tasks if "flair" not in name} == set(app.amqp.queues)
    assert {(queue.exchange.name, queue.routing_key) for queue in app.amqp.queues.values()} == {
        (name, name) for name in app.amqp.queues
    }
