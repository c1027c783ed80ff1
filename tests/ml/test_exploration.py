"""What is in a dataset is said before anything is trained on it, and nothing in it is too broken to be told."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from ml.data.exploration import explore, in_words, write_report
from ml.data.preparation import Recipe, prepare_dataset
from ml.files import write_whole
from ml.progress import track
from ml.reports import Report, plain, subplots
from tests.support.ml import corner_picture, encode, encode_turned, plain_picture, soft_picture, write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("dogs"), photos=8)


@pytest.fixture
def own_folder(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "dogs")


def run(*arguments) -> list[str]:
    stdout = io.StringIO()
    call_command("explore", *map(str, arguments), stdout=stdout)
    return stdout.getvalue().splitlines()


def paths(groups) -> list[set[str]]:
    return [{photo.path for photo in group} for group in groups]


# -- what is found ----------------------------------------------------------------------------------------------------


def test_it_counts_the_photos_of_each_breed_the_most_first(own_folder):
    for number in range(3):
        (own_folder / "pug" / f"pug-{number}.jpg").unlink()

    found = explore(own_folder)

    assert list(found.counts.items()) == [("bolognese", 8), ("whippet", 8), ("pug", 5)]
    assert found.summary["photos_per_breed"] == {"least": 5, "median": 8, "most": 8}


def test_it_measures_each_photo_as_people_see_it(own_folder):
    (own_folder / "pug" / "lying.jpg").write_bytes(encode_turned(corner_picture((120, 80)), 6))
    (own_folder / "pug" / "named-wrongly.jpg").write_bytes(encode(soft_picture(5, (30, 90)), "PNG"))

    photos = {photo.path: photo for photo in explore(own_folder).photos}

    lying, wrong = photos["pug/lying.jpg"], photos["pug/named-wrongly.jpg"]
    assert (lying.width, lying.height, lying.format) == (120, 80, "JPEG")
    assert (wrong.width, wrong.height, wrong.format) == (30, 90, "PNG")
    assert lying.bytes == (own_folder / "pug" / "lying.jpg").stat().st_size


def test_it_lists_what_cannot_be_read_with_the_reason_and_goes_on(own_folder):
    whole = encode(soft_picture(1))
    for name, content in {"empty.jpg": b"", "text.png": b"no photo", "half.jpg": whole[: len(whole) // 2]}.items():
        (own_folder / "pug" / name).write_bytes(content)
    (own_folder / "pug" / "gone.jpg").symlink_to("nowhere.jpg")
    (own_folder / "pug" / "folder.jpg").mkdir()

    found = explore(own_folder)

    reasons = {photo.path: photo.error for photo in found.unreadable}
    assert len(found.photos) == 24
    assert set(reasons) == {f"pug/{name}" for name in ("empty.jpg", "text.png", "half.jpg", "gone.jpg", "folder.jpg")}
    assert "empty file" in reasons["pug/empty.jpg"]
    assert "cut short" in reasons["pug/half.jpg"]
    assert reasons["pug/gone.jpg"] == "No such file or directory"


def test_it_tells_empty_breeds_from_those_with_too_few_photos_for_three_parts(own_folder):
    for name in ("poodle", "chow", ".thumbnails"):
        (own_folder / name).mkdir()
    (own_folder / "chow" / "text.jpg").write_bytes(b"no photo")
    (own_folder / "boxer").mkdir()
    for number in range(6):  # six photos, but of one sight: they cannot be divided
        (own_folder / "boxer" / f"{number}.jpg").write_bytes(encode(soft_picture(1), quality=60 + number))

    found = explore(own_folder)

    assert found.empty == ["chow", "poodle"]
    assert found.too_small == ["boxer"]


def test_it_finds_exact_copies_and_photos_under_two_breeds(own_folder):
    shutil.copy(own_folder / "pug" / "pug-1.jpg", own_folder / "pug" / "again.jpg")
    shutil.copy(own_folder / "pug" / "pug-7.jpg", own_folder / "whippet" / "copy.jpg")

    found = explore(own_folder)

    assert paths(found.copies) == [{"pug/pug-1.jpg", "pug/again.jpg"}, {"pug/pug-7.jpg", "whippet/copy.jpg"}]
    assert paths(found.two_breeds) == [{"pug/pug-7.jpg", "whippet/copy.jpg"}]
    assert found.near_duplicates == []


def test_it_finds_near_duplicates_within_and_across_breeds(own_folder):
    for place, number in (("pug/small.png", 2), ("whippet/small.png", 5)):
        with Image.open(own_folder / "pug" / f"pug-{number}.jpg") as photo:
            photo.resize((40, 40)).save(own_folder / place)

    found = explore(own_folder)

    within, across = {"pug/pug-2.jpg", "pug/small.png"}, {"pug/pug-5.jpg", "whippet/small.png"}
    assert sorted(paths(found.near_duplicates), key=sorted) == [within, across]
    assert paths(found.across_breeds) == [across]


def test_it_explores_a_prepared_folder_by_its_breeds(folder, tmp_path):
    prepare_dataset(folder, tmp_path / "out", Recipe(32))

    found = explore(tmp_path / "out")

    assert found.counts == {"bolognese": 8, "pug": 8, "whippet": 8}
    assert found.summary["formats"] == {"PNG": 24}


# -- the command and its page -----------------------------------------------------------------------------------------


def test_it_says_three_lines_and_where_the_page_is(folder, tmp_path):
    lines = run(folder, "--out", tmp_path / "out")

    assert lines[0].startswith("reading photos: 24 of 24")
    assert "24 photos of 3 breeds, 8 each, median 8; 0 without any, 0 with too few to train on." in lines[1]
    assert "0 files that cannot be read; 48 x 48 pixels" in lines[2]
    assert lines[3].startswith("Exact copies: 0; photos under two breeds: 0; near-duplicates: 0 in 0 groups")
    assert lines[4:] == [f"Page: {tmp_path / 'out' / 'index.html'}"]


def test_it_writes_into_the_data_folder_unless_told_otherwise(folder, tmp_path, settings):
    settings.DATA_DIR = tmp_path

    run(folder)

    assert (tmp_path / "reports" / f"explore-{folder.name}" / "index.html").is_file()


def test_it_reports_a_dataset_that_no_training_would_take(own_folder, tmp_path):
    shutil.copy(own_folder / "pug" / "pug-7.jpg", own_folder / "whippet" / "copy.jpg")
    (own_folder / "poodle").mkdir()
    (own_folder / "pug" / "half.jpg").write_bytes(encode(soft_picture(1))[:300])

    run(own_folder, "--out", tmp_path / "out")

    data = json.loads((tmp_path / "out" / "report.json").read_text())
    page = (tmp_path / "out" / "index.html").read_text()
    assert data["two_breeds"] == [["pug/pug-7.jpg", "whippet/copy.jpg"]]
    assert data["empty_breeds"] == ["poodle"]
    assert [file["path"] for file in data["unreadable_files"]] == ["pug/half.jpg"]
    assert data["command"] == "manage.py explore dogs --out out"
    for told in ("poodle", "pug/half.jpg", "cut short", "pug: pug-7.jpg; whippet: copy.jpg"):
        assert told in page
    assert str(tmp_path) not in page + json.dumps(data)


@pytest.mark.parametrize("content", [{}, {"pug": b"no photo"}, {"pug": encode(plain_picture("red", (1, 1)))}])
def test_it_explores_a_dataset_of_next_to_nothing(tmp_path, content):
    for name in ("pug", "whippet"):
        (tmp_path / "dogs" / name).mkdir(parents=True)
    for name, image_bytes in content.items():
        (tmp_path / "dogs" / name / "1.jpg").write_bytes(image_bytes)

    found = explore(tmp_path / "dogs")

    assert write_report(found, tmp_path / "out", "dogs").is_file()
    assert len(in_words(found, "dogs")) == 3


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_it_refuses_what_is_no_dataset_in_one_line(tmp_path, content):
    if content:
        (tmp_path / "dogs.tar").write_bytes(content)

    with pytest.raises(CommandError, match=r"Received: .*dogs\.tar") as raised:
        run(tmp_path / "dogs.tar")

    assert "\n" not in str(raised.value)


# -- pages in general -------------------------------------------------------------------------------------------------


def test_it_writes_one_page_that_needs_nothing_else(tmp_path):
    report = Report("Dogs & <cats>", 'manage.py compare "a"')
    report.section("Figures")
    figure, axes = subplots()
    axes.plot([1, 2])
    report.figure(figure, "a <line>")
    report.images([(plain_picture("red"), "red"), ([soft_picture(1), soft_picture(2).convert("L")], "two")])
    report.table(["breed", "n"], [("<pug>", 12345), ("whippet", None)])

    page = report.write(tmp_path / "deep" / "page", {"n": 1}).read_text()

    assert "Dogs &amp; &lt;cats&gt;" in page
    assert '<td>&lt;pug&gt;</td><td class="number">12,345</td>' in page
    assert '<td class="number">–</td>' in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(found))).size for found in re.findall(r"base64,([^\"]+)", page)]
    assert sizes == [(1350, 540), (64, 64), (64, 48), (64, 48)]
    assert json.loads((tmp_path / "deep" / "page" / "report.json").read_text()) == {
        "title": "Dogs & <cats>", "command": 'manage.py compare "a"', "n": 1,
    }  # fmt: skip


def test_it_writes_the_same_page_twice(tmp_path):
    def page():
        report = Report("Dogs")
        figure, axes = subplots()
        axes.bar([1, 2], [3, 4])
        report.figure(figure)
        return report.write(tmp_path, {}).read_bytes()

    assert page() == page()


def test_it_writes_what_json_knows():
    value = {"a": np.float32(0.5), 2: np.arange(2), "nan": float("nan"), "deep": [(np.float64("inf"), np.bool_(True))]}

    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": 0.5, "2": [0, 1], "nan": None, "deep": [[None, True]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1,234,567"), (0.123456, "0.1235"), (98765.4, "98,765"), (float("nan"), "–"), (True, "True"),
     (np.int64(3), "3"), (np.float32(0.5), "0.5"), ("61,5 %", "61,5 %")],
)  # fmt: skip
def test_it_shows_numbers_for_people(tmp_path, value, shown):
    report = Report("Dogs")
    report.table(["figure"], [[value]])

    assert f">{shown}</td>" in report.write(tmp_path, {}).read_text()


def test_it_keeps_the_old_page_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    write_whole(tmp_path / "index.html", b"old")

    with pytest.raises(TypeError):
        write_whole(tmp_path / "index.html", None)

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("index.html", b"old")]


def test_it_tells_progress_in_plain_lines_where_no_terminal_is(monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("ml.progress.time.monotonic", lambda: next(clock))
    lines = []

    assert list(track(iter(range(10)), "reading", 10, lines.append)) == list(range(10))

    assert lines[0] == "reading: 3 of 10"
    assert re.fullmatch(r"reading: 10 of 10 in \d+ s", lines[-1])
    assert 2 < len(lines) < 6
