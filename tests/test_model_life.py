"""A new version: tried in the shadow, compared, activated, rolled back. Nothing that people said changes."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError
from django.urls import reverse
from django.utils import timezone

from breeds import classifier as classifiers
from breeds.models import Activation, ClassifierVersion, Prediction, ShadowAnswer
from breeds.tasks import classify_photos, try_versions
from ml.serving.decision import Label
from ml.serving.inference import Classifier
from shelter.intake.uploads import upload_photo
from shelter.models import Photo
from tests.support.commands import run_for_lines as run
from tests.support.factories import a_review, answer_all, upload
from tests.support.ml import colour_network, encode, plain_picture, run_fresh, seal, write_checkpoint

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
SURE = {"energy": 0.0, "breed": 0.5, "group": 0.6}

pytestmark = pytest.mark.slow


def checkpoint(folder: Path, *slugs: str, network: bytes | None = None) -> Path:
    """One that takes red, green and blue for these breeds, in this order."""
    labels = [Label(slug, "scenthounds") for slug in slugs]
    return write_checkpoint(folder, network or colour_network(), labels, thresholds=SURE, name=folder.name)


def answers() -> dict[str, str]:
    return {photo.original_name: photo.breed.slug for photo in Photo.objects.select_related("breed")}


@pytest.fixture
def old(breeds, tmp_path):
    run("activate", checkpoint(tmp_path / "old", "beagle", "pug", "whippet"))
    return ClassifierVersion.objects.active()


@pytest.fixture
def new(tmp_path) -> Path:
    """Takes red for a pug, green for a beagle."""
    return checkpoint(tmp_path / "new", "pug", "beagle", "whippet")


@pytest.fixture
def photos(old, anne) -> dict[str, Photo]:
    for name, colour in COLOURS.items():
        upload_photo(upload(encode(plain_picture(colour)), f"{name}.jpg"), user=anne)
    classify_photos()
    return {photo.original_name.removesuffix(".jpg"): photo for photo in Photo.objects.all()}


@pytest.fixture
def reviewed(photos, anne):
    """The red one is a pug, the green one too, the blue one nobody has looked at."""
    a_review(photos["red"], anne, breed="pug")
    a_review(photos["green"], anne, "confirm")
    return photos


# -- in the shadow ----------------------------------------------------------------------------------------------------


def test_it_says_what_a_new_version_would_change_and_changes_nothing(reviewed, old, new, tmp_path):
    before = list(Photo.objects.order_by("pk").values()), list(Prediction.objects.order_by("pk").values())

    said = run("repredict", "--model", new, "--shadow", "--out", tmp_path / "page")

    assert "2 of 3 answers would change" in said
    assert (
        "of 2 photos that people named a breed for, the right breed is named for 1 now and 1 then: 1 gained, 1 lost"
    ) in said
    found = json.loads((tmp_path / "page" / "report.json").read_text())
    assert found["by_breed"] == [{"breed": "pug", "photos": 2, "right now": 1, "right then": 1, "gained": 1, "lost": 1}]
    version = ClassifierVersion.objects.exclude(pk=old.pk).get().version
    assert found["command"] == f"manage.py repredict --model {version} --shadow --out page"
    assert (tmp_path / "page" / "index.html").read_text().count("<figure>") == 2
    assert before == (list(Photo.objects.order_by("pk").values()), list(Prediction.objects.order_by("pk").values()))
    assert ClassifierVersion.objects.active() == old


def test_it_goes_on_where_a_shadow_run_was_stopped(photos, new, monkeypatch):
    monkeypatch.setattr("breeds.shadow.BLOCK", 1)
    classify, seen = Classifier.classify, []

    def stop_at_the_third(self, image_bytes, top_k=5):
        if len(seen) == 2:
            seen.append("stopped")
            raise KeyboardInterrupt
        seen.append(image_bytes)
        return classify(self, image_bytes, top_k)

    monkeypatch.setattr(Classifier, "classify", stop_at_the_third)
    with pytest.raises(CommandError, match="goes on from here"):
        run("repredict", "--model", new, "--shadow")
    assert ShadowAnswer.objects.count() == 2

    run("repredict", "--model", new, "--shadow")
    run("repredict", "--model", new, "--shadow")

    assert len(seen) == 4
    assert ShadowAnswer.objects.count() == 3


def test_it_answers_the_photos_of_a_filter_alone(photos, new):
    run("repredict", "--model", new, "--shadow", "--filter", "breed=pug", "--filter", "source=model")
    assert [answer.photo for answer in ShadowAnswer.objects.select_related("photo")] == [photos["green"]]
    for wish in ("colour=red", "breed"):
        with pytest.raises(CommandError, match="Expected filters among status=…"):
            run("repredict", "--model", new, "--shadow", "--filter", wish)


def test_it_passes_over_photos_that_cannot_be_read(photos, new):
    photos["red"].image.storage.delete(photos["red"].image.name)
    assert "1 of 2 answers would change" in run("repredict", "--model", new, "--shadow")
    assert ShadowAnswer.objects.get(photo=photos["red"]).error_code == "missing"


# -- active -----------------------------------------------------------------------------------------------------------


def test_it_answers_again_by_the_new_version_and_keeps_what_was_said(reviewed, old, new):
    run("activate", new)
    active = ClassifierVersion.objects.active()
    assert run("repredict")[-1] == f"3 photos queued for {active}"
    assert Photo.objects.get(original_name="blue.jpg").words.startswith("Ressemble à")
    answer_all()
    assert run("repredict")[-1] == f"0 photos queued for {active}"

    assert answers() == {"red.jpg": "pug", "green.jpg": "pug", "blue.jpg": "whippet"}
    assert [p.source for p in Photo.objects.order_by("pk")] == ["human", "human", "model"]
    for photo in reviewed.values():
        assert [p.version for p in photo.predictions.order_by("pk")] == [old, active]


def test_it_queues_no_photo_twice(photos, new):
    run("activate", new)
    photos["red"].enqueue()
    assert run("repredict")[-1].startswith("2 photos queued")
    assert run("repredict")[-1].startswith("0 photos queued")
    assert Prediction.objects.filter(status="pending").count() == 3


def test_it_queues_for_the_active_version_alone(photos, new):
    with pytest.raises(CommandError, match="activate it first"):
        run("repredict", "--model", new)
    with pytest.raises(CommandError, match="--model"):
        run("repredict", "--shadow")


def test_it_rolls_back_in_one_command_and_forth_again(old, new):
    with pytest.raises(CommandError, match="answered before"):
        run("activate", "--back")
    run("activate", new)
    chosen = ClassifierVersion.objects.active()
    assert run("activate", "--back") == [f"Active: {old}"]
    assert run("activate", "--back") == [f"Active: {chosen}"]
    assert run("activate", old.version[:6]) == [f"Active: {old}"]


def test_it_wants_either_a_checkpoint_or_the_way_back(old, new):
    for arguments in ([], [new, "--back"]):
        with pytest.raises(CommandError, match="--back"):
            run("activate", *arguments)


def test_it_still_knows_which_version_came_with_flair(breeds, old):
    ClassifierVersion.objects.filter(pk=old.pk).update(is_bundled=True)
    run("activate", old.version)
    assert ClassifierVersion.objects.active().is_bundled


def test_it_answers_a_batch_by_one_version_though_another_is_activated_meanwhile(
    photos, old, new, anne, monkeypatch, settings
):
    """During a bulk import: the batch that runs stays with its version, the next one has the new, none is lost."""
    settings.CLAIM_BATCH = 4
    for number in range(6):
        upload_photo(upload(encode(plain_picture((20 * number, 9, 250)))), user=anne, priority=Prediction.Priority.BULK)
    classify, seen = Classifier.classify, []

    def activate_in_the_middle(self, image_bytes, top_k=5):
        seen.append(self.checkpoint.version)
        if len(seen) == 2:
            run("activate", new)
        return classify(self, image_bytes, top_k)

    monkeypatch.setattr(Classifier, "classify", activate_in_the_middle)
    answer_all()
    active = ClassifierVersion.objects.active()
    assert seen == [old.version] * 4 + [active.version] * 2
    versions = Prediction.objects.filter(priority=Prediction.Priority.BULK).order_by("pk")
    assert [p.version for p in versions] == [old] * 4 + [active] * 2
    assert {p.status for p in versions} == {"done"}


def test_it_takes_what_was_written_anew_into_the_same_folder_without_a_restart(photos, old, anne):
    """A run that was trained again keeps its folder; a worker has the old network of it in memory."""
    checkpoint(Path(old.folder), "pug", "beagle", "whippet")
    run("activate", old.folder)
    active = ClassifierVersion.objects.active()
    assert (active.folder, active != old) == (old.folder, True)
    upload_photo(upload(encode(plain_picture((240, 9, 9)))), user=anne)
    assert classify_photos() == 1
    assert Prediction.objects.first().version == active
    assert Prediction.objects.first().label == "pug"


def test_it_activates_one_version_though_two_people_press_at_the_same_moment(tmp_path):
    """In a process of its own, on a database in a file: the tests' own is one connection's alone."""
    assert run_fresh(TWO_AT_ONCE, tmp_path) == "1 active, 20 activations, 0 errors"


TWO_AT_ONCE = """
import threading
import django; django.setup()
from django.core.management import call_command
from django.db import connection
from breeds.models import Activation, ClassifierVersion

call_command("migrate", verbosity=0)
versions = [ClassifierVersion.objects.create(version=name, name=name, folder="x", image_size=1) for name in "ab"]
start, errors = threading.Barrier(2), []

def press(version):
    start.wait()
    for _ in range(10):
        try:
            version.activate()
        except Exception as error:
            errors.append(error)
    connection.close()

threads = [threading.Thread(target=press, args=[version]) for version in versions]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
active = ClassifierVersion.objects.filter(is_active=True).count()
print(f"{active} active, {Activation.objects.count()} activations, {len(errors)} errors")
"""


# -- in the application -----------------------------------------------------------------------------------------------


def register(folder: Path) -> ClassifierVersion:
    return classifiers.verified_version(str(folder))


def test_its_workers_try_a_version_when_asked_on_the_page_and_go_on_after_a_stop(reviewed, new, admin, settings):
    version = register(new)
    settings.SLICE_SECONDS = 0  # one photo a slice
    admin.post(reverse("model_try", args=[version.pk]))
    assert try_versions() == 1
    assert admin.get(reverse("model", args=[version.pk])).context["tried"] == 1
    ClassifierVersion.objects.filter(pk=version.pk).update(trial_until=timezone.now() - timedelta(seconds=1))  # killed
    assert ClassifierVersion.objects.awaits_trial()
    while try_versions():
        pass
    assert ShadowAnswer.objects.count() == 3
    assert not ClassifierVersion.objects.awaits_trial()
    found = admin.get(reverse("model", args=[version.pk])).context["found"]
    assert (found.changed, found.answered, found.gained, found.lost) == (2, 3, 1, 1)


def test_it_activates_and_rolls_back_on_the_page_and_keeps_who_did_it(old, new, admin, chloe):
    version = register(new)
    address = reverse("model_activate", args=[version.pk])
    assert old.name in admin.get(address).content.decode()
    assert ClassifierVersion.objects.active() == old
    admin.post(address)
    assert ClassifierVersion.objects.active() == version
    before = admin.get(reverse("model_list")).context["before"]
    assert before == old
    admin.post(reverse("model_activate", args=[before.pk]))
    assert ClassifierVersion.objects.active() == old
    steps = Activation.objects.order_by("pk").values_list("version", "before", "by")
    assert list(steps)[-2:] == [(version.pk, old.pk, chloe.pk), (old.pk, version.pk, chloe.pk)]


def test_it_stops_a_trial_whose_checkpoint_is_gone_and_says_why(photos, new, admin):
    version = register(new)
    version.request_trial()
    shutil.rmtree(new)
    classifiers.load_classifier.cache_clear()
    assert try_versions() == 0
    assert not ClassifierVersion.objects.awaits_trial()
    assert "Expected" in admin.get(reverse("model", args=[version.pk])).content.decode()


# -- bad checkpoints --------------------------------------------------------------------------------------------------


def _missing(folder: Path) -> None:
    shutil.rmtree(folder)


def _without_part(folder: Path) -> None:
    (folder / "labels.json").unlink()


def _truncated(folder: Path) -> None:
    network = (folder / "model.tflite.xz").read_bytes()
    (folder / "model.tflite.xz").write_bytes(network[: len(network) // 2])


def _sealed_though_truncated(folder: Path) -> None:
    _truncated(folder)
    seal(folder)


def _of_other_labels(folder: Path) -> None:
    checkpoint(folder, "pug", "beagle", "unicorn")


def _of_too_few_labels(folder: Path) -> None:
    checkpoint(folder, "pug", "beagle")


def _of_nan_weights(folder: Path) -> None:
    checkpoint(folder, "pug", "beagle", "whippet", network=colour_network(float("nan")))


BAD = [_missing, _without_part, _truncated, _sealed_though_truncated, _of_other_labels, _of_too_few_labels,
       _of_nan_weights]  # fmt: skip


@pytest.mark.parametrize("damage", BAD)
@pytest.mark.parametrize("command", [["activate"], ["repredict", "--shadow", "--model"]], ids=["activate", "shadow"])
def test_it_refuses_a_bad_checkpoint_in_one_line_and_goes_on_as_before(photos, old, new, damage, command):
    damage(new)
    with pytest.raises(CommandError, match=r"Expected .*Received: ") as caught:
        run(*command, new)
    assert "\n" not in str(caught.value).strip()
    assert list(ClassifierVersion.objects.all()) == [old]
    assert ClassifierVersion.objects.active() == old
    assert not ShadowAnswer.objects.exists()


@pytest.mark.parametrize("damage", BAD)
@pytest.mark.parametrize("page", ["model_activate", "model_try"])
def test_it_says_on_the_page_why_a_checkpoint_is_refused_and_goes_on_as_before(old, new, admin, damage, page):
    version = register(new)
    damage(new)
    shown = admin.post(reverse(page, args=[version.pk]), follow=True).content.decode()
    assert "Expected" in shown
    assert "Received: " in shown
    assert ClassifierVersion.objects.active() == old
    assert not ClassifierVersion.objects.awaits_trial()


def test_it_refuses_to_go_back_to_a_folder_that_holds_another_version(old, new):
    run("activate", new)
    shutil.rmtree(old.folder)
    shutil.copytree(new, old.folder)
    with pytest.raises(CommandError, match="Expected"):
        run("activate", "--back")
    with pytest.raises(CommandError, match=f"Expected version {old.version}"):
        run("activate", old.version)
    assert ClassifierVersion.objects.active() != old


def test_it_tells_an_administrator_why_a_version_cannot_answer(client, chloe, old, new):
    run("activate", new)
    _of_nan_weights(Path(old.folder))
    client.force_login(chloe)
    page = {"action": "activate", "_selected_action": [old.pk]}
    shown = client.post(reverse("admin:breeds_classifierversion_changelist"), page, follow=True).content.decode()
    assert "NaN" in shown
    assert ClassifierVersion.objects.active() != old
