"""The calls of the API beyond storing and predicting: reading in pages, records, versions, archives, exports."""

import csv
import io
import json
import zipfile
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from breeds.models import ClassifierVersion
from breeds.tasks import classify_photos
from shelter.models import Animal, Import, KeptAnswer, Photo, imports
from shelter.tasks import run_imports, sweep_imports
from tests.support.factories import answer_all, upload
from tests.support.pictures import jpeg


@pytest.fixture
def photos(api, classifier):
    """Five photos, the first four of them answered; the newest first."""
    for seed in range(4):
        api("post", "/photos/", {"image": upload(jpeg(seed), f"{seed}.jpg")})
    answer_all()
    api("post", "/photos/", {"image": upload(jpeg(9), "9.jpg")})
    return list(Photo.objects.order_by("-pk"))


def ids(response) -> list[int]:
    return [row["id"] for row in response.json()["results"]]


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ["id", "-id", "updated_at", "-updated_at", "probability", "-probability"])
def test_it_walks_through_all_pages_and_back(api, photos, ordering):
    Photo.objects.update(updated_at=timezone.now())  # equal values must not be lost between pages
    seen, back, address = [], [], f"/photos/?page_size=2&ordering={ordering}"
    while address:
        page = api("get", address).json()
        seen.append([photo["id"] for photo in page["results"]])
        address, last = (page["next"] or "").partition("/api/v1")[2], page
    while last["previous"]:
        last = api("get", last["previous"].partition("/api/v1")[2]).json()
        back.insert(0, [photo["id"] for photo in last["results"]])
    assert sorted(pk for page in seen for pk in page) == sorted(photo.pk for photo in photos)
    assert back == seen[:-1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("ordering=name", "ordering"),
        ("cursor=abc", "cursor"),
        ("cursor=W10=", "cursor"),
        ("cursor=WyJhIiwgIlsxXSJd", "cursor"),
        ("page_size=0", "page_size"),
        ("page_size=201", "page_size"),
        ("page_size=²", "page_size"),
        ("fields=id,colour", "fields"),
        ("animal=rex", "animal"),
        ("animal=99999999999999999999999", "animal"),
        ("probability_min=2", "probability_min"),
        ("q=%00", "q"),
        ("breed=%00", "breed"),
        ("status=lost", "status"),
    ],
)
def test_it_answers_400_for_what_means_nothing_and_names_it(api, query, field):
    response = api("get", f"/photos/?{query}")
    assert (response.status_code, response.json()["field"]) == (400, field)


def test_it_filters_photos(api, photos):
    rex = Animal.objects.create(name="Rex")
    Photo.objects.filter(pk=photos[1].pk).file_under(rex)
    newest, second, *others = (photo.pk for photo in photos)
    found = {
        "filed=true": [second],
        "filed=false": [newest, *others],
        "q=rex": [second],
        "q=chiens+courants": [second, *others],
        "breed=beagle&filed=false": others,
        "breed=nothing": [],
        "status=pending": [newest],
        "probability_min=0.9": [second, *others],
        "probability_max=0.9": [],
        "uploaded_by=anne&status=pending": [newest],
        "uploaded_by=bruno": [],
        f"animal={rex.pk}": [second],
    }
    assert {query: ids(api("get", f"/photos/?{query}")) for query in found} == found


def test_it_answers_only_the_fields_that_are_asked_for_and_looks_up_no_others(
    api, photos, django_assert_max_num_queries
):
    with django_assert_max_num_queries(8):
        rows = api("get", "/photos/?fields=id,breed").json()["results"]
    assert [list(row) for row in rows] == [["id", "breed"]] * 5


def test_it_says_304_until_something_has_changed(api, photos):
    key = api.key(["read"])
    first = api("get", "/photos/", key=key)
    same = api("get", "/photos/", key=key, headers={"If-None-Match": first["ETag"]})
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])
    assert "Authorization" in first["Vary"]
    classify_photos()
    assert api("get", "/photos/", key=key, headers={"If-None-Match": first["ETag"]}).status_code == 200


def test_it_tells_what_each_version_said_of_a_photo(api, photos, classifier):
    photo = photos[1]
    classifier.answer = type(classifier)(label="basset", version="fake-2").answer
    photo.enqueue()
    classify_photos()
    classify_photos()
    answers = api("get", f"/photos/{photo.pk}/predictions/").json()["results"]
    assert [(answer["label"], answer["model"]["version"]) for answer in answers] == [
        ("basset", "fake-2"), ("beagle", "fake-1"),
    ]  # fmt: skip
    assert api("get", "/photos/999/predictions/").status_code == 404


# -- storing ----------------------------------------------------------------------------------------------------------


def test_it_gives_a_result_for_each_of_several_files(api, classifier):
    api("post", "/photos/", {"image": upload(jpeg(1))})
    files = [
        upload(jpeg(0), "new.jpg"),
        upload(jpeg(1), "known.jpg"),
        upload(b"x", "bad.jpg"),
        upload(jpeg(0), "twin.jpg"),
    ]
    response = api("post", "/photos/", {"images": files})
    assert response.status_code == 207
    assert [(row["file"], row["status"], row["outcome"]) for row in response.json()["results"]] == [
        ("new.jpg", 201, "accepted"),
        ("known.jpg", 200, "known"),
        ("bad.jpg", 400, "refused"),
        ("twin.jpg", 200, "known"),
    ]
    new, _known, bad, twin = response.json()["results"]
    assert (bad["photo"], bad["problem"]["code"], bad["problem"]["file"]) == (None, "not_an_image", "bad.jpg")
    assert new["photo"]["id"] == twin["photo"]["id"]
    assert Photo.objects.count() == 2


def test_it_takes_only_so_many_files_at_once(api):
    files = [upload(b"x", "x.jpg") for _ in range(101)]
    response = api("post", "/photos/", {"images": files})
    assert (response.status_code, response.json()["field"]) == (400, "images")


def test_it_waits_for_the_answer_where_it_is_asked_to(api, classifier, monkeypatch):
    monkeypatch.setattr(
        "shelter.api.waiting.time.sleep", lambda seconds: classify_photos()
    )  # meanwhile a worker is at work
    answer = api("post", "/photos/?wait=10", {"image": upload()}).json()
    assert (answer["status"], answer["prediction"]["label"]) == ("done", "beagle")


def test_it_answers_pending_when_the_time_is_up(api, classifier):
    response = api("post", "/photos/?wait=1", {"image": upload()})
    assert (response.status_code, response.json()["status"]) == (201, "pending")


def test_it_says_404_when_the_photo_is_deleted_while_somebody_waits(api, classifier, monkeypatch):
    monkeypatch.setattr("shelter.api.waiting.time.sleep", lambda seconds: Photo.objects.all().delete())
    assert api("post", "/photos/?wait=10", {"image": upload()}).status_code == 404
    batch = api("post", "/photos/?wait=10", {"images": [upload()]})
    assert (batch.status_code, batch.json()["results"][0]["photo"]) == (207, None)


@pytest.mark.parametrize("wait", ["-1", "31", "long"])
def test_it_waits_no_longer_than_half_a_minute(api, wait):
    response = api("post", f"/photos/?wait={wait}", {"image": upload()})
    assert (response.status_code, response.json()["field"]) == (400, "wait")
    assert not Photo.objects.exists()


def test_it_files_a_photo_under_another_dog(api, photos):
    rex = Animal.objects.create(name="Rex")
    path = f"/photos/{photos[0].pk}/"
    assert api("patch", path, json={"animal": rex.pk}).json()["animal"] == rex.pk
    assert api("patch", path, json={"animal": None}).json()["animal"] is None
    assert api("patch", path, json={"animal": 999}).json()["field"] == "animal"
    assert api("patch", path, json={}).status_code == 400


# -- retries ----------------------------------------------------------------------------------------------------------


def test_it_does_once_what_comes_twice_with_one_key(api):
    once = {"headers": {"Idempotency-Key": "a-1"}, "json": {"name": "Rex"}}
    first, again = api("post", "/animals/", **once), api("post", "/animals/", **once)
    assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
    assert again["Idempotency-Replayed"] == "true"
    assert Animal.objects.count() == 1


def test_it_refuses_a_key_for_another_call(api):
    api("post", "/animals/", json={"name": "Rex"}, headers={"Idempotency-Key": "a-1"})
    other = api("post", "/animals/", json={"name": "Bella"}, headers={"Idempotency-Key": "a-1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_it_keeps_no_key_of_what_was_refused(api):
    api("post", "/animals/", json={"name": ""}, headers={"Idempotency-Key": "a-1"})
    assert api("post", "/animals/", json={"name": "Rex"}, headers={"Idempotency-Key": "a-1"}).status_code == 201


def test_it_leaves_keys_to_their_owners(api, bruno):
    from shelter.models import ApiToken

    once = {"headers": {"Idempotency-Key": "a-1"}, "json": {"name": "Rex"}}
    api("post", "/animals/", **once)
    api("post", "/animals/", key=ApiToken.issue(bruno, ["upload"])[1], **once)
    assert Animal.objects.count() == 2


@pytest.mark.parametrize("key", ["x" * 201, "clé"])
def test_it_refuses_a_key_that_is_none(api, key):
    response = api("post", "/animals/", json={"name": "Rex"}, headers={"Idempotency-Key": key})
    assert (response.status_code, response.json()["field"]) == (400, "Idempotency-Key")


def test_it_forgets_keys_after_a_day(api):
    api("post", "/animals/", json={"name": "Rex"}, headers={"Idempotency-Key": "a-1"})
    KeptAnswer.objects.update(created_at=timezone.now() - timedelta(hours=23))
    sweep_imports()
    assert KeptAnswer.objects.exists()
    KeptAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    sweep_imports()
    assert not KeptAnswer.objects.exists()


# -- limits -----------------------------------------------------------------------------------------------------------


def test_it_limits_the_calls_of_each_scope_and_token(api, settings, breeds):
    cache.clear()
    settings.API_RATES = settings.API_RATES | {"read": 2}
    key = api.key(["read", "upload"])
    assert [api("get", "/breeds/groups/", key=key).status_code for _ in range(3)] == [200, 200, 429]
    refused = api("get", "/breeds/groups/", key=key)
    assert (refused.json()["code"], 1 <= int(refused["Retry-After"]) <= 60) == ("throttled", True)
    assert api("post", "/animals/", key=key, json={"name": "Rex"}).status_code == 201
    assert api("get", "/breeds/groups/").status_code == 200


def test_it_limits_nobody_when_the_counter_is_down(api, settings, breeds, monkeypatch):
    def down(*arguments):
        raise ConnectionError("no cache")

    monkeypatch.setattr(cache, "add", down)
    assert api("get", "/breeds/groups/").status_code == 200


@pytest.mark.parametrize(("length", "status"), [(2_000_000, 201), (2_000_001, 413)])
def test_json_of_more_than_two_megabytes_is_refused(api, length, status):
    head, tail = b'{"name": "Rex"', b"}"
    body = head + b" " * (length - len(head) - len(tail)) + tail
    assert api("post", "/animals/", json=body.decode()).status_code == status


def test_a_page_has_fifty_rows_and_at_most_two_hundred(api):
    Animal.objects.bulk_create(Animal(name=f"{number}") for number in range(201))
    sizes = [len(api("get", f"/animals/{query}").json()["results"]) for query in ("", "?page_size=200")]
    assert (sizes, api("get", "/animals/?page_size=201").status_code) == ([50, 200], 400)


# -- dogs, breeds, versions -------------------------------------------------------------------------------------------


def test_it_makes_changes_and_finds_records_of_dogs(api):
    made = api("post", "/animals/", json={"name": "  Rex ", "microchip": "250 268 500 123 456", "sex": "male"}).json()
    assert (made["name"], made["microchip"], made["status"]) == ("Rex", "250268500123456", "present")
    moment = timezone.now()
    changed = api("patch", f"/animals/{made['id']}/", json={"status": "adopted"}).json()
    assert (changed["status"], changed["name"]) == ("adopted", "Rex")
    Animal.objects.create(name="Éclair")
    assert [row["name"] for row in api("get", "/animals/?q=eclair").json()["results"]] == ["Éclair"]
    assert [row["name"] for row in api("get", "/animals/?ordering=name").json()["results"]] == ["Éclair", "Rex"]
    assert ids(api("get", "/animals/", {"status": "adopted", "updated_since": moment.isoformat()})) == [made["id"]]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "Rex", "microchip": "12"}, "microchip"),
        ({"name": "Rex", "microchip": "250268500123456"}, "microchip"),
        ({"name": "Rex", "born_on": "2999-01-01"}, "born_on"),
        ({"name": "Rex", "born_on": "2020-02-01", "arrived_on": "2020-01-01"}, "arrived_on"),
        ({"name": "Rex", "status": "lost"}, "status"),
    ],
)
def test_it_refuses_a_record_that_cannot_be(api, given, field):
    Animal.objects.create(name="Bella", microchip="250268500123456")
    response = api("post", "/animals/", json=given)
    assert (response.status_code, response.json()["field"]) == (400, field)


def test_it_gives_one_answer_for_all_photos_of_a_dog(api, photos):
    rex = Animal.objects.create(name="Rex")
    Photo.objects.filter(status="done").file_under(rex)
    animal = api("get", f"/animals/{rex.pk}/").json()
    assert (animal["answer"]["label"], len(animal["answer"]["photos"]), animal["photo_count"]) == ("beagle", 4, 4)
    assert animal["answer"]["words"]["fr"].startswith("Ressemble à un beagle")
    assert "answer" not in api("get", f"/animals/{rex.pk}/?fields=id,name").json()


def test_it_knows_breeds_by_label_group_and_synonym(api, classifier):
    classifier.row().activate()
    beagle = api("get", "/breeds/beagle/").json()
    assert (beagle["name_fr"], beagle["group"], beagle["known"]) == ("beagle", "scenthounds", True)
    known = api("get", "/breeds/?known=true").json()["results"]
    assert [breed["label"] for breed in known] == ["basset", "beagle", "dingo"]
    assert "dalmatian" in [breed["label"] for breed in api("get", "/breeds/?known=false&q=dalma").json()["results"]]
    assert [b["label"] for b in api("get", "/breeds/?wild=true&known=true").json()["results"]] == ["dingo"]
    groups = {group["group"]: group for group in api("get", "/breeds/groups/").json()}
    assert groups["terriers"]["words"]["en"] == "terriers"
    assert groups["terriers"]["breeds"] > 10


def test_it_tells_versions_with_their_metrics(api, classifier, tmp_path):
    (tmp_path / "metrics-test.json").write_text(json.dumps({"n": 10, "top1": 0.9}))
    (tmp_path / "metrics-val.json").write_text("{")
    classifier.row().activate()
    ClassifierVersion.objects.update(folder=str(tmp_path))
    version = api("get", "/models/fake-1/").json()
    assert version["metrics"] == {"val": None, "test": {"n": 10, "top1": 0.9}}
    assert (version["active"], version["mask"], version["preprocessing"]) == (True, ["dingo"], "fake-way-in-1")
    assert [row["version"] for row in api("get", "/models/?active=true").json()["results"]] == ["fake-1"]


# -- archives ---------------------------------------------------------------------------------------------------------


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("Rex/1.jpg", jpeg(1))
        packed.writestr("Rex/coupee.jpg", jpeg(2)[:1500])
    return stream.getvalue()


def test_it_takes_an_archive_and_gives_a_receipt_for_each_file(api):
    sent = api("post", "/imports/", {"archive": SimpleUploadedFile("refuge.zip", archive())})
    assert (sent.status_code, sent.json()["status"]) == (201, "waiting")
    while run_imports():
        pass
    path = f"/imports/{sent.json()['id']}/"
    done = api("get", path).json()
    assert (done["status"], done["counts"]) == ("done", {"accepted": 1, "known": 0, "refused": 1, "waiting": 0})
    items = api("get", f"{path}items/").json()["results"]
    assert [(item["path"], item["outcome"], item["code"]) for item in items] == [
        ("Rex/1.jpg", "accepted", ""),
        ("Rex/coupee.jpg", "refused", "truncated"),
    ]
    assert "coupee.jpg" in items[1]["detail"]
    assert items[0]["photo"] == Photo.objects.get().pk
    assert len(api("get", f"{path}items/?outcome=refused").json()["results"]) == 1


def test_it_takes_an_archive_in_pieces_that_may_come_again(api, client, monkeypatch):
    content = archive()
    monkeypatch.setattr(imports, "PART_BYTES", len(content) // 2 + 1)
    announced = {"name": "refuge.zip", "size": len(content), "stamp": "1"}
    batch = api("post", "/imports/", json=announced).json()
    assert (batch["status"], batch["part_count"]) == ("receiving", 2)

    def put(number: int, piece: bytes):
        return client.put(
            f"/api/v1/imports/{batch['id']}/parts/{number}/", piece, content_type="application/octet-stream",
            headers={"Authorization": f"Token {api.key(['upload'])}"},
        )  # fmt: skip

    half = batch["part_bytes"]
    assert put(1, content[half:]).json()["code"] == "other_part_awaited"
    assert [put(0, content[:half]).json()["received"] for _ in range(2)] == [1, 1]
    assert api("post", "/imports/", json=announced).json()["received"] == 1
    assert put(1, content[half:] + b"more").status_code == 409
    assert put(1, content[half:]).json()["status"] == "waiting"
    while run_imports():
        pass
    assert Import.objects.get().counts["accepted"] == 1


def test_it_takes_no_piece_of_somebody_elses_archive(api, client, bruno):
    batch = Import.objects.receive(bruno, "refuge.zip", 10)
    response = client.put(
        f"/api/v1/imports/{batch.pk}/parts/0/", b"0123456789", content_type="application/octet-stream",
        headers={"Authorization": f"Token {api.key(['upload'])}"},
    )  # fmt: skip
    assert response.status_code == 404


@pytest.mark.parametrize(
    "given", [{"name": "a.zip", "size": 0}, {"name": "", "size": 5}, {"name": "a", "size": 10**15}]
)
def test_it_refuses_an_archive_that_cannot_be(api, given):
    assert api("post", "/imports/", json=given).status_code == 400


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"json": {"name": "a.zip", "size": 2_000_001}}, "size"),
        ({"data": {"archive": SimpleUploadedFile("a.zip", bytes(2_000_001))}}, "archive"),
    ],
)
def test_it_refuses_an_archive_that_is_too_large_however_it_comes(api, settings, sent, field):
    settings.MAX_ARCHIVE_BYTES = 2_000_000
    refused = api("post", "/imports/", **sent)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (400, "bad_archive", field)
    assert refused.json()["detail"] == "Une archive fait au plus 0 Go."
    assert not Import.objects.exists()


def test_a_whole_archive_is_not_taken_for_an_announced_one_of_the_same_name_and_size(api):
    content = archive()
    announced = api("post", "/imports/", json={"name": "refuge.zip", "size": len(content)}).json()
    whole = api("post", "/imports/", {"archive": SimpleUploadedFile("refuge.zip", content)}).json()
    assert (whole["id"] != announced["id"], whole["status"]) == (True, "waiting")


# -- exports ----------------------------------------------------------------------------------------------------------


def test_it_exports_what_the_filters_find(api, photos):
    export = api("get", "/photos/export/?kind=jsonl&breed=beagle&fields=id,breed")
    lines = [json.loads(line) for line in export.getvalue().splitlines()]
    assert lines == [{"id": photo.pk, "breed": "beagle"} for photo in photos[1:]]
    table = api("get", "/photos/export/?kind=csv&breed=beagle", headers={"Accept-Language": "en"})
    rows = list(csv.reader(io.StringIO(table.getvalue().decode("utf-8-sig"))))
    assert [row[0] for row in rows] == ["Number", *(str(photo.pk) for photo in photos[1:])]
    packed = zipfile.ZipFile(io.BytesIO(api("get", "/photos/export/?kind=zip").getvalue()))
    assert len(packed.namelist()) == 5  # the table, and a preview of each answered photo


def test_it_exports_no_more_than_a_zip_may_hold(api, photos, monkeypatch):
    monkeypatch.setattr("shelter.api.photo_exports.MOST_IN_A_ZIP", 2)
    response = api("get", "/photos/export/?kind=zip")
    assert (response.status_code, response.json()["code"]) == (400, "too_many_photos")


@pytest.mark.parametrize("query", ["", "kind=pdf", "kind=csv&status=lost", "kind=jsonl&fields=colour"])
def test_it_exports_nothing_for_what_means_nothing(api, query):
    assert api("get", f"/photos/export/?{query}").status_code == 400
