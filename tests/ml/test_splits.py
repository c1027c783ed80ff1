"""A fair split depends on the photos' content and the seed alone, and divides no near-duplicates."""

import io
import shutil
import tarfile
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import BadDataset
from ml.data.datasets import assign_split, label_slug, unpack_dataset
from ml.data.loading import load_dataset
from ml.images.duplicates import difference_hash, group_near_duplicates
from tests.support.ml import drawn_dog, encode, soft_picture, write_dataset, write_photo

FRACTIONS = (0.70, 0.15, 0.15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("dogs"))


@pytest.fixture
def own_folder(folder, tmp_path):
    """A copy of the dataset that the test may change."""
    return shutil.copytree(folder, tmp_path / "dogs")


def splits_by_content(dataset) -> dict[str, str]:
    return {item.sha256: item.split for item in dataset.items}


def splits_by_name(dataset) -> dict[str, str]:
    return {item.path.rpartition("/")[2]: item.split for item in dataset.items}


def pack(archive, folder, name="dogs"):
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
        tar.add(folder, name)
    return archive


def test_it_splits_the_same_way_every_time(folder):
    assert load_dataset(folder, seed=3).items == load_dataset(folder, seed=3).items


def test_it_splits_another_way_for_another_seed(folder):
    assert splits_by_content(load_dataset(folder, seed=3)) != splits_by_content(load_dataset(folder, seed=4))


def test_it_does_not_care_about_names_or_places(folder, tmp_path):
    for number, photo in enumerate(sorted(folder.rglob("*.jpg"), reverse=True)):
        target = tmp_path / "elsewhere" / photo.parent.name / f"{number:03}.jpeg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)

    original, renamed = load_dataset(folder), load_dataset(tmp_path / "elsewhere")

    assert splits_by_content(renamed) == splits_by_content(original)
    assert renamed.manifest_hash == original.manifest_hash


def test_it_names_another_split_by_another_hash(folder):
    assert load_dataset(folder, seed=3).manifest_hash != load_dataset(folder, seed=4).manifest_hash


def test_it_keeps_the_fractions_in_every_breed(folder):
    dataset = load_dataset(folder)

    counts = Counter((item.label, item.split) for item in dataset.items)

    assert dataset.labels == ["bolognese", "pug", "whippet"]
    for label in dataset.labels:
        assert [counts[label, split] for split in ("train", "val", "test")] == [14, 3, 3]


def test_it_divides_every_photo_once(folder):
    dataset = load_dataset(folder)

    parts = [item.path for split in ("train", "val", "test") for item in dataset.part(split)]

    assert sorted(parts) == sorted(photo.relative_to(folder).as_posix() for photo in folder.rglob("*.jpg"))


def test_it_numbers_the_labels_in_their_order(folder):
    dataset = load_dataset(folder)

    index = dataset.label_index(dataset.part("test"))

    assert [dataset.labels[i] for i in index] == [item.label for item in dataset.part("test")]


def test_it_keeps_near_duplicates_in_one_split(tmp_path):
    for breed, name in enumerate(("pug", "whippet")):
        for number in range(12):
            dog = drawn_dog(breed, number, (160, 120))
            write_photo(tmp_path / name / f"{number}.jpg", dog, quality=95)
            write_photo(tmp_path / name / f"again-{number}.jpg", dog, quality=50)
            write_photo(tmp_path / name / f"small-{number}.png", dog.resize((96, 72)))

    dataset = load_dataset(tmp_path, seed=1)

    assert len(dataset.items) == 72
    splits = splits_by_name(dataset)
    for number in range(12):
        assert splits[f"{number}.jpg"] == splits[f"again-{number}.jpg"] == splits[f"small-{number}.png"]
    assert len({item.group for item in dataset.items}) == 24


def test_it_divides_no_group(folder):
    dataset = load_dataset(folder)

    splits_of = {group: {item.split for item in dataset.items if item.group == group} for group in
                 {item.group for item in dataset.items}}  # fmt: skip

    assert all(len(splits) == 1 for splits in splits_of.values())


def test_it_refuses_one_photo_under_two_breeds_and_names_both(own_folder):
    shutil.copy(own_folder / "pug" / "pug-7.jpg", own_folder / "whippet" / "copy.jpg")

    with pytest.raises(BadDataset, match=r"pug/pug-7\.jpg and whippet/copy\.jpg"):
        load_dataset(own_folder)


def test_it_leaves_unreadable_photos_out(own_folder):
    whole = encode(soft_picture(1))
    for name, content in {"empty.jpg": b"", "text.png": b"no photo", "half.jpg": whole[: len(whole) // 2]}.items():
        (own_folder / "pug" / name).write_bytes(content)
    (own_folder / "pug" / "notes.txt").write_text("a good dog")

    dataset = load_dataset(own_folder)

    assert len(dataset.items) == 60
    assert not {"empty.jpg", "text.png", "half.jpg", "notes.txt"} & set(splits_by_name(dataset))


def test_it_keeps_only_the_breeds_it_is_asked_for(folder):
    assert load_dataset(folder, labels=["pug", "whippet"]).labels == ["pug", "whippet"]


def test_it_splits_a_breed_the_same_way_whatever_breeds_are_beside_it(folder):
    alone, among_others = load_dataset(folder, labels=["pug", "whippet"]), load_dataset(folder)

    assert splits_by_content(alone).items() <= splits_by_content(among_others).items()


def test_it_steps_down_to_the_folder_that_holds_the_breeds(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "stanford-dogs" / "Images")

    assert splits_by_content(load_dataset(tmp_path)) == splits_by_content(load_dataset(folder))


@pytest.mark.parametrize(
    ("arrange", "labels", "received"),
    [
        (lambda folder: None, ["pug", "unicorn"], "unicorn"),
        (lambda folder: [shutil.rmtree(folder / name) for name in ("pug", "whippet")], None, "1"),
        (lambda folder: shutil.rmtree(folder / "pug"), ["pug", "whippet"], "pug"),
        (lambda folder: None, ["pug"], "1"),
        (lambda folder: (folder / "empty").mkdir(), None, "0"),
        (lambda folder: write_photo(folder / "poodle" / "1.jpg", soft_picture(1)), None, "1"),
    ],
    ids=["unknown breed", "one breed", "missing breed", "one breed chosen", "empty breed", "one photo"],
)
def test_it_refuses_a_dataset_that_cannot_be_trained_on(own_folder, arrange, labels, received):
    arrange(own_folder)

    with pytest.raises(BadDataset, match=rf"Received: .*{received}"):
        load_dataset(own_folder, labels=labels)


def test_it_loses_no_folder_when_two_have_the_same_breed(own_folder):
    (own_folder / "pug").rename(own_folder / "n02110958-whippet")

    try:
        dataset = load_dataset(own_folder)
    except BadDataset:
        return
    assert len(dataset.items) == 60


@pytest.mark.parametrize(
    ("folder_name", "slug"),
    [
        ("n02098105-soft-coated_wheaten_terrier", "soft_coated_wheaten_terrier"),
        ("n02086240-Shih-Tzu", "shih_tzu"),
        ("Saint Bernard", "saint_bernard"),
        ("  pug (black) ", "pug_black"),
        ("n0209-pug", "n0209_pug"),
    ],
)
def test_it_makes_a_label_of_a_folder_s_name(folder_name, slug):
    assert label_slug(folder_name) == slug


def test_it_never_divides_near_duplicates_of_two_breeds_and_measures_nothing_on_them(own_folder):
    """Such as one photo that is filed under two breeds, once smaller: whose it is, nobody knows."""
    for number in range(4):
        dog = drawn_dog(1, 900 + number, (160, 120))
        write_photo(own_folder / "pug" / f"twice-{number}.jpg", dog, quality=95)
        write_photo(own_folder / "whippet" / f"twice-{number}.jpg", dog.resize((96, 72)), quality=60)

    dataset = load_dataset(own_folder)

    twice = [item for item in dataset.items if "twice-" in item.path]
    assert len(twice) == 8
    assert len({item.group for item in twice}) == 4
    assert {item.split for item in twice} == {"train"}


# -- groups and shares ------------------------------------------------------------------------------------------------


def test_it_groups_photos_up_to_the_limit_and_in_chains():
    near, far = (1 << 6) - 1, ((1 << 7) - 1) << 40
    further_along = near | near << 10

    groups = group_near_duplicates([0, far, further_along, near])

    assert sorted(map(sorted, groups)) == [[0, 2, 3], [1]]


few_bits = st.lists(st.integers(0, 2**64 - 1).map(lambda value: value & 0xFFFF0F), max_size=12)


@given(few_bits, st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=3))
def test_it_groups_like_a_search_from_photo_to_photo(hashes, together):
    together = [pair for pair in together if max(pair) < len(hashes)]
    expected, seen = [], set()
    for start in range(len(hashes)):
        group, waiting = set(), {start} - seen
        while waiting:
            group.add(i := waiting.pop())
            near = {j for j in range(len(hashes)) if (hashes[i] ^ hashes[j]).bit_count() <= 6}
            waiting |= (near | {j for pair in together if i in pair for j in pair}) - group
        seen |= group
        expected += [sorted(group)] if group else []

    assert group_near_duplicates(hashes, together) == expected


def test_it_tells_unlike_photos_apart():
    hashes = [difference_hash(soft_picture(seed)) for seed in range(40)]

    assert len(group_near_duplicates(hashes)) == 40


@given(st.lists(st.integers(1, 8), min_size=1, max_size=60), st.integers(0, 100))
def test_it_fills_val_and_test_to_within_one_group_of_their_share(sizes, seed):
    groups = [(f"group {i}", size) for i, size in enumerate(sizes)]

    splits = assign_split(groups, seed=seed, fractions=FRACTIONS)

    assert set(splits) == {name for name, _ in groups}
    filled = {part: sum(size for name, size in groups if splits[name] == part) for part in ("train", "val", "test")}
    wanted = round(0.15 * sum(sizes))
    assert wanted <= filled["test"] < wanted + max(sizes) or wanted == filled["test"] == 0
    assert filled["val"] < wanted + max(sizes) or filled["val"] == 0


def test_it_splits_groups_the_same_way_in_any_order():
    groups = [(f"group {i}", 1 + i % 4) for i in range(30)]

    assert assign_split(groups, seed=1, fractions=FRACTIONS) == assign_split(groups[::-1], seed=1, fractions=FRACTIONS)


# -- archives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dogs.tar", "dogs.tar.gz"])
def test_it_unpacks_an_archive(folder, tmp_path, name):
    archive = pack(tmp_path / name, folder)

    unpacked = unpack_dataset(archive, tmp_path / "cache")

    assert splits_by_content(load_dataset(unpacked)) == splits_by_content(load_dataset(folder))


def test_it_takes_a_folder_as_it_is(folder, tmp_path):
    assert unpack_dataset(folder, tmp_path / "cache") == folder


def test_it_unpacks_an_archive_once(folder, tmp_path):
    archive = pack(tmp_path / "dogs.tar", folder)
    first = unpack_dataset(archive, tmp_path / "cache")
    (first / "mark").touch()

    assert (unpack_dataset(archive, tmp_path / "cache") / "mark").exists()


def test_it_unpacks_a_replaced_archive_of_the_same_size_anew(tmp_path):
    archive = pack(tmp_path / "dogs.tar", write_dataset(tmp_path / "old", photos=2))
    size = archive.stat().st_size
    unpack_dataset(archive, tmp_path / "cache")
    pack(archive, write_dataset(tmp_path / "new", photos=2, first=2))

    unpacked = unpack_dataset(archive, tmp_path / "cache")

    assert archive.stat().st_size == size
    assert sorted(photo.name for photo in unpacked.rglob("pug-*.jpg")) == ["pug-2.jpg", "pug-3.jpg"]


def test_it_starts_afresh_where_unpacking_was_interrupted(folder, tmp_path, monkeypatch):
    archive = pack(tmp_path / "dogs.tar", folder)
    extract_all = tarfile.TarFile.extractall

    def interrupted(self, path, **options):
        extract_all(self, path, members=self.getmembers()[:9], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "extractall", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack_dataset(archive, tmp_path / "cache")
    monkeypatch.undo()

    assert len(load_dataset(unpack_dataset(archive, tmp_path / "cache")).items) == 60


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_it_refuses_what_is_neither_folder_nor_archive(tmp_path, content):
    source = tmp_path / "dogs.tar"
    if content is not None:
        source.write_bytes(content)

    with pytest.raises(BadDataset):
        unpack_dataset(source, tmp_path / "cache")


def test_it_writes_nothing_outside_its_folder(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        member = tarfile.TarInfo("../../evil.jpg")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))

    with pytest.raises((BadDataset, tarfile.TarError)):
        unpack_dataset(tmp_path / "evil.tar", tmp_path / "deep" / "cache")

    assert not list(tmp_path.rglob("evil.jpg"))
