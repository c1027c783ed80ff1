"""Photos are prepared once: the same split and pixels everywhere, whatever stops the run in between."""

import errno
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from ml import BadDataset, MLError
from ml.data.datasets import choose_breeds
from ml.data.loading import load_dataset
from ml.data.preparation import Recipe, fetch_archive, prepare_dataset
from ml.images.preprocessing import CLASSIC_STEPS, prepare_image
from tests.support.ml import drawn_dog, encode, soft_picture, write_dataset, write_photo

GREY, COLOUR = Recipe(32), Recipe(32, ())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("dogs"), photos=8)


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    """A folder prepared with the classic steps; not to be changed."""
    out = tmp_path_factory.mktemp("prepared") / "classic-32"
    prepare_dataset(folder, out, GREY)
    return out


@pytest.fixture
def own_folder(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "dogs")


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(out: Path) -> list[dict]:
    return json.loads((out / "manifest.json").read_text())["items"]


def run(*arguments, **options) -> str:
    stdout = io.StringIO()
    call_command("preprocess", *map(str, arguments), stdout=stdout, **options)
    return stdout.getvalue()


# -- what is written --------------------------------------------------------------------------------------------------


def test_it_writes_each_photo_into_its_split_and_breed_named_after_its_content(folder, prepared):
    expected = {f"{i.split}/{i.label}/{i.sha256[:16]}.png" for i in load_dataset(folder).items}

    assert len(expected) == 24
    assert {name for name in files_below(prepared) if name.endswith(".png")} == expected


@pytest.mark.parametrize(("recipe", "mode"), [(GREY, "L"), (COLOUR, "RGB")])
def test_it_loses_no_bit_of_what_a_training_on_the_originals_would_see(folder, tmp_path, recipe, mode):
    prepare_dataset(folder, tmp_path / "out", recipe)

    for row in rows_of(tmp_path / "out"):
        pixels = prepare_image((folder / row["source"]).read_bytes(), 32, recipe.steps)
        with Image.open(tmp_path / "out" / row["path"]) as image:
            assert image.mode == mode
            assert (np.asarray(image).reshape(pixels.shape) == pixels).all()
        assert row["pixels"] == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_it_gives_one_channel_of_a_prepared_photo_as_of_its_original(folder, prepared):
    row = rows_of(prepared)[5]

    again = prepare_image((prepared / row["path"]).read_bytes(), 32, ("greyscale",))

    assert (again == prepare_image((folder / row["source"]).read_bytes(), 32, CLASSIC_STEPS)).all()


def test_it_writes_the_same_manifest_wherever_the_photos_are(folder, prepared, tmp_path):
    elsewhere = shutil.copytree(folder, tmp_path / "another" / "Images")

    prepare_dataset(elsewhere, tmp_path / "out", GREY)

    assert (tmp_path / "out" / "manifest.json").read_bytes() == (prepared / "manifest.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


def test_it_says_in_the_manifest_how_it_was_made(folder, prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())

    assert manifest["steps"] == ["greyscale", "autocontrast", "equalise", "gaussian"]
    assert (manifest["image_size"], manifest["seed"], manifest["fractions"]) == (32, 0, [0.7, 0.15, 0.15])
    assert manifest["preprocessing"].endswith("-1+greyscale+autocontrast+equalise+gaussian")
    for row in manifest["items"]:
        assert row["sha256"] == hashlib.sha256((folder / row["source"]).read_bytes()).hexdigest()


def test_it_keeps_exact_copies_as_rows_of_one_file(own_folder, tmp_path):
    shutil.copy(own_folder / "pug" / "pug-3.jpg", own_folder / "pug" / "again.jpg")

    prepare_dataset(own_folder, tmp_path / "out", GREY)

    paths = {row["source"]: row["path"] for row in rows_of(tmp_path / "out")}
    assert len(paths) == 25
    assert paths["pug/again.jpg"] == paths["pug/pug-3.jpg"]
    assert load_dataset(tmp_path / "out").manifest_hash == load_dataset(own_folder).manifest_hash


def test_it_leaves_unreadable_photos_out_and_says_so(own_folder, tmp_path):
    (own_folder / "pug" / "half.jpg").write_bytes(encode(soft_picture(1))[:400])
    (own_folder / "pug" / "gone.jpg").symlink_to("nowhere.jpg")

    said = run(own_folder, tmp_path / "out", "--size", 32)

    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert [file["path"] for file in report["unreadable"]] == ["pug/gone.jpg", "pug/half.jpg"]
    assert "left out: pug/half.jpg: Expected a whole JPEG" in said
    assert "pug/half.jpg" in (tmp_path / "out" / "report" / "index.html").read_text()
    assert len(rows_of(tmp_path / "out")) == 24


def test_it_shows_every_step_on_a_page_that_needs_nothing_else(prepared):
    page = (prepared / "report" / "index.html").read_text()

    assert page.count("data:image/png;base64,") == 3  # one figure per breed, up to four
    assert "http" not in page
    assert "<script" not in page


# -- as a dataset -----------------------------------------------------------------------------------------------------


def test_it_loads_a_prepared_folder_exactly_as_it_was_written(folder, prepared):
    original, dataset = load_dataset(folder), load_dataset(prepared)

    assert (dataset.steps, dataset.image_size) == (CLASSIC_STEPS, 32)
    assert {(i.sha256, i.label, i.group, i.split) for i in dataset.items} == {
        (i.sha256, i.label, i.group, i.split) for i in original.items
    }
    assert dataset.manifest_hash == original.manifest_hash
    assert all(dataset.read(item).startswith(b"\x89PNG") for item in dataset.items)


def test_it_keeps_the_split_of_a_prepared_folder_whatever_the_seed(prepared):
    assert load_dataset(prepared, seed=7, fractions=(0.2, 0.4, 0.4)).items == load_dataset(prepared).items


def test_it_divides_no_group(prepared):
    splits = {}
    for item in load_dataset(prepared).items:
        splits.setdefault(item.group, set()).add(item.split)

    assert all(len(found) == 1 for found in splits.values())


def test_it_keeps_only_some_breeds_of_a_prepared_folder(prepared):
    assert load_dataset(prepared, labels=["pug", "whippet"]).labels == ["pug", "whippet"]
    with pytest.raises(BadDataset, match="Received: poodle"):
        load_dataset(prepared, labels=["pug", "poodle"])


def test_it_knows_an_original_from_a_prepared_dataset(folder):
    dataset = load_dataset(folder)

    assert (dataset.steps, dataset.image_size) == ((), None)


def test_it_takes_a_folder_with_a_manifest_of_another_kind_as_it_is(own_folder):
    (own_folder / "manifest.json").write_text('{"items": [], "exported": true}')

    assert len(load_dataset(own_folder).items) == 24


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "manifest.json").rename(out / "unfinished.json"), "stopped"),
        (lambda out: (out / "manifest.json").write_bytes((out / "manifest.json").read_bytes()[:900]), "whole manifest"),
        (lambda out: (out / "manifest.json").write_text('{"version": "flair-prepared-dataset-1"}'), "whole manifest"),
        (lambda out: next(out.glob("train/pug/*.png")).unlink(), "1 less .*train/pug/"),
    ],
    ids=["unfinished", "half a manifest", "an empty manifest", "a photo missing"],
)
def test_it_refuses_a_prepared_folder_that_is_not_whole(prepared, tmp_path, damage, message):
    out = shutil.copytree(prepared, tmp_path / "out")
    damage(out)

    with pytest.raises(BadDataset, match=message):
        load_dataset(out)


# -- stopped, and gone on with ----------------------------------------------------------------------------------------


def fail_after(monkeypatch, photos: int, error: BaseException) -> None:
    """The disk takes that many photos and half of another."""
    write_bytes, written = Path.write_bytes, []

    def write(self, content):
        if ".png" in self.name:
            written.append(self)
            if len(written) > photos:
                write_bytes(self, content[: len(content) // 2])
                raise error
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", write)


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "photo.png")


def test_it_stops_at_a_full_disk_with_one_line_and_without_half_a_file(folder, tmp_path, monkeypatch):
    fail_after(monkeypatch, 9, full_disk())

    with pytest.raises(CommandError, match="No space left on device") as raised:
        run(folder, tmp_path / "out", "--size", 32)

    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list(tmp_path.rglob("*.part"))
    for path in tmp_path.rglob("*.png"):
        Image.open(path).load()


@pytest.mark.parametrize("error", [full_disk(), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_it_goes_on_where_it_was_stopped(folder, prepared, tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    fail_after(monkeypatch, 9, error)
    with pytest.raises((MLError, KeyboardInterrupt)):
        prepare_dataset(folder, out, GREY)
    monkeypatch.undo()
    with pytest.raises(BadDataset, match="stopped"):
        load_dataset(out)
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}

    prepare_dataset(folder, out, GREY)

    assert len(kept) >= 9
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "manifest.json").read_bytes() == (prepared / "manifest.json").read_bytes()
    assert not (out / "unfinished.json").exists()


def test_it_ends_with_130_at_ctrl_c(folder, tmp_path, monkeypatch):
    fail_after(monkeypatch, 3, KeyboardInterrupt())

    with pytest.raises(CommandError, match="Stopped") as raised:
        run(folder, tmp_path / "out", "--size", 32)

    assert raised.value.returncode == 130


def test_it_makes_lost_and_damaged_photos_anew_and_clears_away_what_a_kill_left(folder, prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "out")
    lost, damaged, resized = sorted(out.glob("train/*/*.png"))[:3]
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:200])
    drawn_dog(0, 0, (16, 16)).save(resized)
    (damaged.parent / "0123.png.part").write_bytes(b"half")

    prepare_dataset(folder, out, GREY)

    assert files_below(out) == files_below(prepared)


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["--size", "64"], "image_size 32 instead of 64"),
        (["--size", "32", "--steps", "none"], "steps greyscale,autocontrast,equalise,gaussian instead of none"),
        (["--size", "32", "--seed", "5"], "seed 0 instead of 5"),
        (["--size", "32", "--breeds", "pug,whippet"], "another choice of breeds"),
    ],
)
def test_it_refuses_a_folder_of_other_settings_and_leaves_it_alone(folder, prepared, arguments, received):
    before = files_below(prepared)

    with pytest.raises(CommandError, match=received) as raised:
        run(folder, prepared, *arguments)

    assert "\n" not in str(raised.value)
    assert files_below(prepared) == before


def test_it_refuses_a_folder_of_something_else(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("a good dog")

    with pytest.raises(MLError, match="new or empty folder"):
        prepare_dataset(folder, tmp_path, GREY)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("place", [".", "pug", "new", ".."])
def test_it_refuses_to_write_into_the_dataset_itself(own_folder, place):
    before = files_below(own_folder)

    with pytest.raises(MLError, match="apart from the dataset"):
        prepare_dataset(own_folder, own_folder / place, GREY)

    assert files_below(own_folder) == before


def test_it_refuses_to_prepare_what_is_prepared(prepared, tmp_path):
    with pytest.raises(BadDataset, match="prepared already"):
        prepare_dataset(prepared, tmp_path / "out", GREY)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "received"),
    [(["--steps", "sepia"], "sepia"), (["--size", "0"], "0"), (["--size", "100000"], "100000")],
)
def test_it_refuses_settings_that_make_no_sense_before_it_reads_a_photo(tmp_path, arguments, received):
    with pytest.raises(CommandError, match=rf"Received: {received}\."):
        run(tmp_path / "nowhere", tmp_path / "out", *arguments)


def test_it_refuses_a_dataset_that_is_not_there(tmp_path):
    with pytest.raises(CommandError, match="nowhere"):
        run(tmp_path / "nowhere", tmp_path / "out")


# -- the command ------------------------------------------------------------------------------------------------------


def test_it_prepares_an_archive_from_the_command_line(folder, prepared, tmp_path):
    with tarfile.open(tmp_path / "dogs.tar", "w") as tar:
        tar.add(folder, "dogs/Images")

    said = run(tmp_path / "dogs.tar", tmp_path / "out", "--size", 32)

    assert (tmp_path / "out" / "manifest.json").read_bytes() == (prepared / "manifest.json").read_bytes()
    assert "3 breeds, 18 train, 3 val, 3 test." in said
    assert "preparing photos: 24 of 24" in said


def test_it_prepares_only_the_breeds_it_is_asked_for(folder, tmp_path):
    run(folder, tmp_path / "out", "--size", 32, "--steps", "none", "--breeds", "Pug, whippet")

    dataset = load_dataset(tmp_path / "out")
    assert (dataset.labels, dataset.steps) == (["pug", "whippet"], ())


# -- which breeds -----------------------------------------------------------------------------------------------------


@pytest.fixture
def many_breeds(tmp_path):
    for name in (
        "n02101388-Brittany_spaniel",
        "n02110958-pug",
        "n02085782-Japanese_spaniel",
        "whippet",
        "chow",
        "boxer",
    ):
        (tmp_path / name).mkdir()
    return tmp_path


def test_it_chooses_the_same_breeds_everywhere_and_few_among_many(many_breeds):
    choices = [choose_breeds(many_breeds, number) for number in "23456"]

    assert choices[0] == ["chow", "whippet"]  # by SHA-256 of "0:label"; changes only if the rule does
    assert all(set(few) < set(more) for few, more in pairwise(choices))
    assert choices == [sorted(choice) for choice in choices]


def test_it_chooses_others_for_another_seed(many_breeds):
    assert len({tuple(choose_breeds(many_breeds, "3", seed=seed)) for seed in range(9)}) > 1


def test_it_takes_names_as_people_write_them(many_breeds):
    assert choose_breeds(many_breeds, "Brittany spaniel, n02110958-pug,CHOW,pug") == ["brittany_spaniel", "chow", "pug"]


def test_it_names_what_an_unknown_breed_is_near_to(many_breeds):
    with pytest.raises(BadDataset, match=r"britany spaniel \(near: brittany_spaniel, japanese_spaniel\), unicorn\.$"):
        choose_breeds(many_breeds, "pug, britany spaniel, unicorn")


@pytest.mark.parametrize("wish", ["0", "1", "7", "120", "", " , "])
def test_it_refuses_a_choice_that_cannot_be(many_breeds, wish):
    with pytest.raises(BadDataset, match="Received"):
        choose_breeds(many_breeds, wish)


def test_it_chooses_among_the_breeds_of_a_prepared_folder(folder, prepared):
    assert choose_breeds(prepared, "2") == choose_breeds(folder, "2")


# -- fetching the archive ---------------------------------------------------------------------------------------------


class CutServer(http.server.BaseHTTPRequestHandler):
    """Sends `content`, but at most `limit` bytes before it cuts the connection; knows ranges if `ranges`."""

    def do_GET(self):
        server = self.server
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if server.ranges else 0
        server.starts.append(start)
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : start + server.limit])

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(content: bytes, limit: int = 1 << 30, ranges: bool = True):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), CutServer)
    server.content, server.limit, server.ranges, server.starts = content, limit, ranges, []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/images.tar"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def archive(folder):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(folder, "Images")
    return stream.getvalue()


def test_it_fetches_an_archive_once(archive, tmp_path):
    target = tmp_path / "data" / "dogs.tar"
    with serving(archive) as (server, url):
        fetch_archive(url, target)
        fetch_archive(url, target)

    assert target.read_bytes() == archive
    assert server.starts == [0]


@pytest.mark.parametrize("ranges", [True, False])
def test_it_fetches_the_rest_of_an_interrupted_archive(archive, tmp_path, ranges):
    target = tmp_path / "dogs.tar"
    with serving(archive, limit=20_000, ranges=ranges) as (server, url):
        with pytest.raises(MLError, match=r"Received: 0\.0 MB, then .*goes on from there") as raised:
            fetch_archive(url, target)
        assert not target.exists()
        server.limit = 1 << 30

        fetch_archive(url, target)

    assert "\n" not in str(raised.value)
    assert target.read_bytes() == archive
    assert server.starts == ([0, 20_000] if ranges else [0, 0])


def test_it_notices_that_an_archive_is_whole_already(archive, tmp_path):
    (tmp_path / "dogs.tar.part").write_bytes(archive)
    with serving(archive) as (_, url):
        assert fetch_archive(url, tmp_path / "dogs.tar").read_bytes() == archive


def test_it_starts_anew_where_what_is_there_is_longer_than_the_archive(archive, tmp_path):
    (tmp_path / "dogs.tar.part").write_bytes(archive + b"more")
    with serving(archive) as (_, url):
        with pytest.raises(MLError):
            fetch_archive(url, tmp_path / "dogs.tar")

        assert fetch_archive(url, tmp_path / "dogs.tar").read_bytes() == archive


def test_it_keeps_nothing_that_is_no_archive(tmp_path):
    with (
        serving(b"<html>Please log in to the network of the hotel</html>") as (_, url),
        pytest.raises(MLError, match="tar archive"),
    ):
        fetch_archive(url, tmp_path / "dogs.tar")

    assert not list(tmp_path.iterdir())


def test_it_says_in_one_line_that_a_server_cannot_be_reached(tmp_path, monkeypatch):
    with serving(b"") as (_, url):
        pass
    monkeypatch.setattr("ml.data.preparation.STANFORD_DOGS_URL", url)

    with pytest.raises(CommandError, match=r"Received: 0\.0 MB, then .*refused") as raised:
        run(tmp_path / "dogs.tar", tmp_path / "out", "--download")

    assert "\n" not in str(raised.value)


def test_it_fetches_and_prepares_in_one_command(archive, prepared, tmp_path, monkeypatch):
    with serving(archive) as (_, url):
        monkeypatch.setattr("ml.data.preparation.STANFORD_DOGS_URL", url)
        run(tmp_path / "dogs.tar", tmp_path / "out", "--size", 32, "--download")

    assert (tmp_path / "out" / "manifest.json").read_bytes() == (prepared / "manifest.json").read_bytes()


def test_it_needs_photos_of_every_breed_in_every_split(own_folder, tmp_path):
    write_photo(own_folder / "poodle" / "1.jpg", soft_picture(1))

    with pytest.raises(BadDataset, match="poodle"):
        prepare_dataset(own_folder, tmp_path / "out", GREY)

    assert not (tmp_path / "out").exists()
