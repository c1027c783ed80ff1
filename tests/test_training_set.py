"""The loop closed: what people said goes back into training, with no dog on two sides of a split."""

import hashlib
import json
from collections import Counter, defaultdict

import pytest
from django.core.management import CommandError
from hypothesis import given, settings
from hypothesis import strategies as st

from breeds import classifier as classifiers
from breeds.models import Breed, Review
from ml import BadDataset, MLError
from ml.data.datasets import FRACTIONS, Dataset, Item, breeds_of
from ml.data.loading import load_dataset, load_joined, scan_dataset
from ml.data.reviewed import MIN_DOGS, MIN_PHOTOS, ReviewedPhoto, split_reviewed, write_reviewed
from shelter.intake.uploads import Outcome, upload_photo
from shelter.models import Animal, Photo
from tests.support.commands import run_for_lines as run
from tests.support.factories import a_dog, a_review, answer_all, upload
from tests.support.ml import BREEDS, drawn_dog, encode, use_tiny_backbone, write_dataset


def dog(breed: int, number: int) -> bytes:
    return encode(drawn_dog(breed, number), quality=90)


def reviewed(breed: int, number: int, *, animal: str = "", name: str = "", content: bytes | None = None):
    content = dog(breed, number) if content is None else content
    sha256 = hashlib.sha256(content).hexdigest()
    return ReviewedPhoto(name or f"{sha256[:16]}.jpg", BREEDS[breed], animal, sha256, lambda: content)


def three_breeds(photos: int = 12, first: int = 200) -> list[ReviewedPhoto]:
    """Each breed of four dogs."""
    return [
        reviewed(breed, number, animal=f"animal-{breed}-{number % 4}")
        for breed in range(3)
        for number in range(first, first + photos)
    ]


def files_of(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def groups_on_many_sides(items) -> list[str]:
    sides = defaultdict(set)
    for item in items:
        sides[item.group].add(item.split)
    return [group for group, splits in sides.items() if len(splits) > 1]


# -- written and read -------------------------------------------------------------------------------------------------


def test_it_writes_the_photos_as_they_are_and_reads_them_back(tmp_path):
    photos = three_breeds()
    assert write_reviewed(tmp_path / "out", photos) == []

    found = scan_dataset(tmp_path / "out")

    assert sorted((item.path, item.sha256) for item in found.items) == sorted((p.path, p.sha256) for p in photos)
    assert all(found.read(item) == photo.read() for item, photo in zip(
        sorted(found.items, key=lambda item: item.path), sorted(photos, key=lambda photo: photo.path), strict=True
    ))  # fmt: skip
    assert breeds_of(tmp_path / "out") == sorted(BREEDS)


def test_it_never_divides_the_photos_of_one_animal(tmp_path):
    write_reviewed(tmp_path / "out", three_breeds(20))

    for seed in range(10):
        dataset = load_dataset(tmp_path / "out", seed=seed)
        assert groups_on_many_sides(dataset.items) == []
        assert {(item.label, item.split) for item in dataset.items} == {
            (label, split) for label in BREEDS for split in ("train", "val", "test")
        }


def test_it_puts_near_duplicates_and_their_animals_into_one_group(tmp_path):
    again = encode(drawn_dog(0, 200), quality=60)
    series = [
        reviewed(0, 200, animal="animal-1"), reviewed(0, 0, content=again, animal="animal-2"),
        reviewed(0, 201, animal="animal-2"), reviewed(0, 202), reviewed(1, 203, animal="animal-3"),
    ]  # fmt: skip
    write_reviewed(tmp_path / "out", series)

    groups = {item.path: item.group for item in scan_dataset(tmp_path / "out").items}

    assert [groups[photo.path] for photo in series[:3]] == ["shelter:animal-1"] * 3
    assert len({groups[photo.path] for photo in series}) == 3


def test_it_leaves_out_photos_that_are_missing_or_damaged_and_says_so(tmp_path):
    def missing():
        raise FileNotFoundError("gone.jpg")

    damaged = reviewed(0, 0, content=b"no photo", name="damaged.jpg")
    lost = ReviewedPhoto("lost.jpg", "pug", "", "0" * 64, missing)
    left_out = dict(write_reviewed(tmp_path / "out", [*three_breeds(), damaged, lost]))

    assert set(left_out) == {"bolognese/damaged.jpg", "pug/lost.jpg"}
    assert len(scan_dataset(tmp_path / "out").items) == 36
    assert "lost.jpg" not in " ".join(files_of(tmp_path / "out"))


class Killed(BaseException):
    pass


def test_it_is_no_dataset_until_it_is_whole_and_goes_on_where_it_was_stopped(tmp_path):
    photos, reads = three_breeds(), []

    def kill_after(items, description, total):
        for number, item in enumerate(items):
            if number == 20:
                raise Killed
            yield item

    with pytest.raises(Killed):
        write_reviewed(tmp_path / "out", photos, track=kill_after)
    with pytest.raises(BadDataset, match="stopped"):
        load_dataset(tmp_path / "out")

    written = set(files_of(tmp_path / "out"))
    photos = [
        ReviewedPhoto(p.name, p.label, p.animal, p.sha256, lambda p=p: (reads.append(p.path), p.read())[1])
        for p in photos
    ]
    write_reviewed(tmp_path / "out", photos)
    assert len(written) > 20
    assert set(reads) == {photo.path for photo in photos} - written

    write_reviewed(tmp_path / "whole", photos)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_it_follows_what_people_say_when_it_is_written_again(tmp_path):
    photos = three_breeds()
    write_reviewed(tmp_path / "out", photos)
    changed = reviewed(1, 200, name=photos[0].name, content=photos[0].read())  # a bolognese that is a pug
    write_reviewed(tmp_path / "out", [changed, *photos[2:]])
    write_reviewed(tmp_path / "fresh", [changed, *photos[2:]])

    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_it_writes_into_no_folder_of_somebody_else(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(dog(0, 0))
    with pytest.raises(MLError, match="Expected a new or empty folder"):
        write_reviewed(tmp_path, three_breeds())
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("damage", ["changed", "missing", "half a manifest"])
def test_it_refuses_an_export_that_was_damaged(tmp_path, damage):
    photos = three_breeds()
    write_reviewed(tmp_path, photos)
    if damage == "changed":
        (tmp_path / photos[0].path).write_bytes(dog(2, 999))
    elif damage == "missing":
        (tmp_path / photos[0].path).unlink()
    else:
        (tmp_path / "manifest.json").write_text((tmp_path / "manifest.json").read_text()[:100])
    with pytest.raises(BadDataset):
        load_dataset(tmp_path)


# -- the split --------------------------------------------------------------------------------------------------------


def made(sizes: dict[str, list[int]]) -> Dataset:
    """A dataset of breeds with dogs of so many photos each."""
    items = [
        Item(f"{label}/{dog}-{number}", label, f"{label}{dog}{number}", f"shelter:{label}-{dog}", "all")
        for label, dogs in sizes.items()
        for dog, photos in enumerate(dogs)
        for number in range(photos)
    ]
    return Dataset(None, items)


def test_a_new_breed_is_learned_from_ten_photos_of_three_dogs_on():
    dataset = made({"enough": [4, 3, 3], "nine photos": [3, 3, 3], "two dogs": [8, 8]})
    assert split_reviewed(dataset, known=set(), seed=0).labels == ["enough"]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=5), st.integers(0, 99))
def test_it_divides_whole_dogs_fills_every_part_and_leaves_out_what_cannot(dogs, seed):
    dataset = made({f"breed{i}": sizes for i, sizes in enumerate(dogs)})

    divided = split_reviewed(dataset, known=set(), seed=seed)

    enough = {f"breed{i}" for i, sizes in enumerate(dogs) if len(sizes) >= MIN_DOGS and sum(sizes) >= MIN_PHOTOS}
    assert set(divided.labels) == enough
    assert {label for label, _ in divided.unreadable} == set(dataset.labels) - enough
    assert groups_on_many_sides(divided.items) == []
    for label in enough:
        parts = Counter(item.split for item in divided.items if item.label == label)
        assert set(parts) == {"train", "val", "test"}


def test_it_leaves_a_dog_on_its_side_when_more_reviews_come():
    few, more = made({"pug": [2] * 40}), made({"pug": [2] * 80, "whippet": [3] * 20})

    before, after = (split_reviewed(dataset, known=set(), seed=3) for dataset in (few, more))

    sides = {item.group: item.split for item in after.items}
    assert all(sides[item.group] == item.split for item in before.items)


def test_it_divides_known_breeds_about_as_it_was_told_and_keeps_the_few():
    dataset = made({f"breed{i}": [1, 1] for i in range(300)})

    divided = split_reviewed(dataset, known=set(dataset.labels), seed=0)

    counts = Counter(item.split for item in divided.items)
    for split, share in zip(("train", "val", "test"), FRACTIONS, strict=True):
        assert counts[split] / 600 == pytest.approx(share, abs=0.05)


def test_it_trains_on_dogs_whose_breed_is_in_doubt():
    dataset = made({"pug": [4] * 10, "whippet": [4] * 10})
    doubted = [item for item in dataset.items if item.group.endswith("-0")]
    items = [item for item in dataset.items if item not in doubted]
    items += [Item(i.path, i.label, i.sha256, "shelter:animal-9", "all") for i in doubted]

    divided = split_reviewed(Dataset(None, items), known=set(), seed=0)

    assert {item.split for item in divided.items if item.group == "shelter:animal-9"} == {"train"}


# -- joined with a base set -------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path):
    return write_dataset(tmp_path / "base", BREEDS[:2])


def test_it_joins_a_base_set_with_reviews_that_bring_a_new_breed(base, tmp_path):
    write_reviewed(tmp_path / "own" / "reviews", three_breeds())

    joined = load_joined(base, tmp_path / "own" / "reviews")
    own = {item.sha256: item.split for item in load_dataset(tmp_path / "own" / "reviews").items}

    assert joined.labels == sorted(BREEDS)
    assert len(joined.items) == 40 + 36
    assert {item.sha256: item.split for item in joined.items if item.group.startswith("shelter:")} == own
    assert all(hashlib.sha256(joined.read(item)).hexdigest() == item.sha256 for item in joined.items)


def test_it_keeps_few_reviews_of_known_breeds_and_leaves_out_new_ones_with_few(base, tmp_path):
    few = [reviewed(0, 300), reviewed(1, 301), reviewed(2, 302), reviewed(2, 303)]
    write_reviewed(tmp_path / "reviews", few)

    joined = load_joined(base, tmp_path / "reviews")

    assert Counter(item.label for item in joined.items) == {"bolognese": 21, "pug": 21}
    assert joined.unreadable == (("whippet", "expected 10 photos of 3 dogs, received 2 photos of 2 dogs"),)


def test_it_leaves_out_photos_of_the_base_that_nearly_equal_a_reviewed_one(base, tmp_path):
    known = base / "pug" / "pug-3.jpg"
    copies = [reviewed(2, 0, content=known.read_bytes(), animal="animal-0-0")]
    copies += [reviewed(1, 0, content=encode(drawn_dog(1, 4), quality=60), animal="animal-0-1")]
    write_reviewed(tmp_path / "reviews", [*three_breeds(), *copies])

    joined = load_joined(base, tmp_path / "reviews")

    left_out = {path for path, _ in joined.unreadable}
    assert left_out == {"base/pug/pug-3.jpg", "base/pug/pug-4.jpg"}
    assert {item.path for item in joined.items} & left_out == set()
    assert {item.label for item in joined.items if item.sha256 == copies[0].sha256} == {"whippet"}


def test_it_keeps_the_breeds_that_were_asked_for(base, tmp_path):
    write_reviewed(tmp_path / "reviews", three_breeds())

    assert load_joined(base, tmp_path / "reviews", labels=["bolognese", "pug"]).labels == ["bolognese", "pug"]
    with pytest.raises(BadDataset, match="witch"):
        load_joined(base, tmp_path / "reviews", labels=["bolognese", "pug", "witch"])


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shelter(classifier, anne):
    """Photos that Anne named: three breeds of four dogs, beside some that nobody can learn from."""

    def send(content, **fields):
        return upload_photo(upload(content), user=anne, **fields).photo

    for breed, slug in enumerate(BREEDS):
        dogs = [a_dog(f"{slug} {number}") for number in range(4)]
        for number in range(12):
            photo = send(dog(breed, number), animal=dogs[number % 4])
            a_review(photo, anne, breed=slug)
    cross, cat, unknown, untouched, taken_back = (send(dog(0, 100 + number)) for number in range(5))
    a_review(cross, anne, "cross", "pug", second_breed=Breed.objects.get(slug="whippet"))
    a_review(cat, anne, "not_a_dog")
    a_review(unknown, anne, "cannot_tell")
    Review.objects.withdraw(a_review(taken_back, anne, breed="pug"), by=anne)
    return {"untouched": untouched}


def test_it_exports_what_counts_and_imports_the_same_photos_again(shelter, tmp_path, anne):
    first = Photo.objects.order_by("pk").first()
    a_review(first, anne, breed="pug")  # a change of mind

    assert run("export_training_set", tmp_path / "out")[-1] == f"36 reviewed photos in {tmp_path / 'out'}"

    rows = json.loads((tmp_path / "out" / "manifest.json").read_text())["items"]
    assert Counter(row["label"] for row in rows) == {"bolognese": 11, "pug": 13, "whippet": 12}
    assert {row["group"] for row in rows if row["label"] == "whippet"} == {
        f"shelter:animal-{animal.pk}" for animal in Animal.objects.filter(name__startswith="whippet")
    }
    assert "anne" not in json.dumps(rows)
    for row in rows:
        receipt = upload_photo(upload((tmp_path / "out" / row["path"]).read_bytes()), user=anne)
        assert (receipt.outcome, receipt.photo.sha256) == (Outcome.KNOWN, row["photo"])


def test_it_exports_nothing_from_nothing(db, tmp_path):
    assert run("export_training_set", tmp_path / "out")[-1] == f"0 reviewed photos in {tmp_path / 'out'}"
    with pytest.raises(BadDataset, match="two breeds"):
        load_dataset(tmp_path / "out")


def test_it_prepares_the_reviewed_photos_and_keeps_their_groups(shelter, tmp_path):
    said = run("preprocess", tmp_path / "out", "--from-reviews", "--size", 32, "--steps", "none")

    prepared = load_dataset(tmp_path / "out")
    assert "3 breeds" in said[-1]
    assert all(item.group.startswith("shelter:animal-") for item in prepared.items)
    assert groups_on_many_sides(prepared.items) == []


def test_it_prepares_the_same_again_though_somebody_reviewed_meanwhile(shelter, anne, tmp_path):
    run("preprocess", tmp_path / "out", "--from-reviews", "--size", 32, "--steps", "none")
    before = files_of(tmp_path / "out")
    a_review(shelter["untouched"], anne, breed="pug")
    run("preprocess", tmp_path / "out", "--from-reviews", "--size", 32, "--steps", "none")
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preprocess", "OUT"], "Expected a dataset, --from-reviews, or both"),
        (["preprocess", "OUT", "--download", "--from-reviews"], "--download"),
        (["preprocess", "OUT", "--from-reviews", "--reviews", "OTHER"], "Received: both"),
        (["train", "cnn", "--from-reviews"], "--out"),
        (["train", "cnn", "--out", "OUT", "--from-reviews", "--reviews", "OTHER"], "Received: both"),
        (["train", "cnn", "--out", "OUT", "--reviews", "OTHER"], "OTHER"),
        (["train", "cnn", "--out", "OUT", "--from-reviews"], "two breeds"),
    ],
)
def test_it_says_in_one_line_what_is_wrong(db, tmp_path, arguments, message):
    arguments = [tmp_path / part if part in ("OUT", "OTHER") else part for part in arguments]
    with pytest.raises(CommandError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value).strip()


# -- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    use_tiny_backbone(monkeypatch)


@pytest.mark.slow
def test_it_learns_a_new_breed_from_forty_corrections(tiny, breeds, anne, api, base, tmp_path):
    """Base set → classifier → photos of a breed it cannot know → 40 corrections → a classifier that knows it."""
    way = ["train", "transfer", "--backbone", "tiny", "--weights", "none", "--image-size", 32]
    run(*way, "--dataset", base, "--out", tmp_path / "first")
    run("activate", tmp_path / "first" / "checkpoint")

    dogs = [a_dog(f"Whippet {number}") for number in range(10)]
    photos = [upload_photo(upload(dog(2, n)), user=anne, animal=dogs[n % 10]).photo for n in range(40)]
    answer_all()
    assert {photo.newest_answer.candidates[0]["label"] for photo in photos} <= {"bolognese", "pug"}

    for photo in photos:
        data = {"verdict": "correct", "breed": "whippet", "prediction": photo.newest_answer.pk}
        assert api("post", f"/photos/{photo.pk}/reviews/", data, scopes=["review"]).status_code == 201
    said = run(*way, "--dataset", base, "--from-reviews", "--out", tmp_path / "second")

    rows = json.loads((tmp_path / "second" / "manifest.json").read_text())["items"]
    own = [Item(**row) for row in rows if row["group"].startswith("shelter:animal-")]
    assert len(own) == 40
    assert groups_on_many_sides(own) == []
    measured = json.loads((tmp_path / "second" / "checkpoint" / "metrics-test.json").read_text())["reviewed"]
    assert measured["n"] == sum(item.split == "test" for item in own)
    assert any(line.startswith("the shelter's own among them: top-1") for line in said)
    assert "the shelter's own, reviewed by people" in (tmp_path / "second" / "checkpoint" / "card.md").read_text()

    run("activate", tmp_path / "second" / "checkpoint")
    classifier, version = classifiers.active_classifier()
    assert version.labels == sorted(BREEDS)
    called = Counter(classifier.classify(dog(2, number)).candidates[0].label for number in range(500, 530))
    assert called["whippet"] >= 27
    assert set(Photo.objects.values_list("breed__slug", "source")) == {("whippet", "human")}

    run(*way, "--reviews", tmp_path / "second" / "reviews", "--dataset", base, "--out", tmp_path / "third")
    third = json.loads((tmp_path / "third" / "dataset.json").read_text())
    assert third == json.loads((tmp_path / "second" / "dataset.json").read_text())
