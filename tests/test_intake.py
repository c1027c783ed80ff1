"""The pages through which photos come in, and the receipts that they leave."""

import csv
import hashlib
import io
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from shelter.models import Animal, ApiToken, Import, ImportItem, Photo
from shelter.models import imports as imports_module
from shelter.tasks import run_imports
from tests.support.factories import a_dog, answer_all, upload
from tests.support.pictures import jpeg
from tests.test_archives import zipped

KEY = str(uuid.UUID(int=7))


def send(client, *files, key=KEY):
    data = {"images": list(files), "batch": key}
    return client.post(reverse("upload"), data, headers={"HX-Request": "true"})


def check(client, content: bytes, name="rex.jpg", key=KEY):
    digest = hashlib.sha256(content).hexdigest()
    return client.post(reverse("upload_check"), {"batch": key, "sha256": digest, "name": name})


def archive_file(packed: bytes, name="refuge.zip") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, packed, "application/zip")


def rows_of(response) -> list[list[str]]:
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text), delimiter=";"))


# -- uploads ----------------------------------------------------------------------------------------------------------


def test_it_keeps_a_receipt_for_every_file_of_an_upload(staff):
    send(staff, upload(jpeg(1), "a.jpg"), upload(b"x", "b.jpg"))
    send(staff, upload(jpeg(1), "c.jpg"))
    batch = Import.objects.get()
    assert [(item.path, item.outcome, item.code) for item in batch.items.all()] == [
        ("a.jpg", "accepted", ""), ("b.jpg", "refused", "not_an_image"), ("c.jpg", "known", ""),
    ]  # fmt: skip


def test_it_gives_a_file_that_is_sent_again_after_a_lost_answer_the_receipt_it_had(staff):
    for _ in range(2):
        receipt = send(staff, upload()).context["receipts"][0]
        assert receipt.outcome == ImportItem.Outcome.ACCEPTED
    assert (Photo.objects.count(), ImportItem.objects.count()) == (1, 1)


@pytest.fixture
def rex(db):
    return a_dog("Rex")


def send_for(client, animal, content: bytes):
    """As the page does that a dog's record leads to: ask for the hash, then send."""
    fields = {"batch": str(uuid.uuid4()), "animal": animal, "name": "rex.jpg"}
    known = client.post(reverse("upload_check"), fields | {"sha256": hashlib.sha256(content).hexdigest()})
    if known.status_code == 200:
        return known
    fields["images"] = [upload(content)]
    return client.post(reverse("upload"), fields, headers={"HX-Request": "true", "Accept-Language": "en"})


def test_photos_sent_from_the_page_of_a_dog_are_filed_there(staff, rex):
    page = staff.get(reverse("animal", args=[rex.pk])).content.decode()
    assert f"{reverse('upload')}?animal={rex.pk}" in page
    assert f'name="animal" value="{rex.pk}"' in staff.get(reverse("upload"), {"animal": rex.pk}).content.decode()
    send_for(staff, rex.pk, jpeg(1))
    assert rex.photos.get().uploaded_by.username == "anne"


def test_a_photo_that_is_here_without_a_dog_is_filed_when_it_is_sent_from_the_page_of_a_dog(staff, rex):
    send(staff, upload(jpeg(1)))
    receipt = send_for(staff, rex.pk, jpeg(1)).context["receipts"][0]
    assert (receipt.outcome, rex.photos.count()) == ("known", 1)
    assert "Rex" in receipt.message


def test_a_photo_of_another_dog_stays_with_that_dog(staff, rex):
    max_ = a_dog("Max")
    send_for(staff, max_.pk, jpeg(1))
    receipt = send_for(staff, rex.pk, jpeg(1)).context["receipts"][0]
    assert (rex.photos.count(), max_.photos.count()) == (0, 1)
    assert "Max" in receipt.message


@pytest.mark.parametrize("animal", ["", "999999", "rex", "-1", "9" * 40, "\0", "1\0"])
def test_a_photo_for_an_unknown_dog_is_kept_without_a_dog(staff, animal):
    receipt = send_for(staff, animal, jpeg(1)).context["receipts"][0]
    assert (receipt.outcome, Photo.objects.get().animal) == ("accepted", None)
    assert staff.get(reverse("upload"), {"animal": animal}).status_code == 200


@pytest.mark.parametrize("key", ["", "rex", "\0"])
def test_a_photo_with_an_invalid_key_of_its_page_is_kept(staff, key):
    assert send(staff, upload(jpeg(1)), key=key).context["receipts"][0].outcome == "accepted"


def test_it_tells_that_a_file_of_an_earlier_upload_is_here(staff):
    send(staff, upload())
    receipt = send(staff, upload(), key=str(uuid.uuid4())).context["receipts"][0]
    assert receipt.outcome == ImportItem.Outcome.KNOWN
    assert Import.objects.count() == 2


def test_it_never_mixes_the_receipts_of_two_people(staff, client, bruno):
    send(staff, upload(jpeg(1)))
    client.force_login(bruno)
    send(client, upload(jpeg(2)))
    assert [batch.items.count() for batch in Import.objects.all()] == [1, 1]
    assert {batch.user.username for batch in Import.objects.all()} == {"anne", "bruno"}


@pytest.mark.parametrize("key", ["", "no-uuid"])
def test_it_takes_photos_whatever_the_key_of_the_page(staff, key):
    assert send(staff, upload(), key=key).context["receipts"][0].outcome == ImportItem.Outcome.ACCEPTED


def test_it_need_not_be_sent_what_it_knows(staff):
    assert check(staff, jpeg()).status_code == 204
    assert not ImportItem.objects.exists()
    send(staff, upload(), key=str(uuid.uuid4()))
    answer = check(staff, jpeg(), "autre.jpg")
    assert "Déjà envoyée" in answer.content.decode()
    assert answer["X-Import"] == Import.objects.first().get_absolute_url()
    assert [item.outcome for item in Import.objects.first().items.all()] == ["known"]


def test_it_tells_by_the_hash_alone_that_the_lost_file_had_arrived(staff):
    send(staff, upload())
    assert check(staff, jpeg()).context["receipts"][0].outcome == ImportItem.Outcome.ACCEPTED
    assert ImportItem.objects.count() == 1


@pytest.mark.parametrize("sha256", ["", "abc", "Z" * 64])
def test_it_says_what_a_hash_looks_like(staff, sha256):
    response = staff.post(reverse("upload_check"), {"batch": KEY, "sha256": sha256, "name": "a.jpg"})
    assert (response.status_code, list(response.json()["errors"])) == (400, ["sha256"])


def test_it_works_without_javascript_and_offers_the_receipts(staff):
    page = staff.post(reverse("upload"), {"images": [upload()], "batch": KEY}).content.decode()
    assert 'class="receipt accepted"' in page
    assert Import.objects.get().get_absolute_url() in page


# -- archives ---------------------------------------------------------------------------------------------------------


def test_it_takes_an_archive_in_pieces_and_says_which_comes_next(staff, monkeypatch):
    monkeypatch.setattr(imports_module, "PART_BYTES", 3000)
    packed = zipped({"Rex/1.jpg": jpeg(1), "2.jpg": jpeg(2)})
    announced = {"name": "refuge.zip", "size": len(packed), "stamp": "1"}
    state = staff.post(reverse("import_list"), announced).json()
    while state["received"] < state["part_count"]:
        assert state == staff.post(reverse("import_list"), announced).json()  # asked again, it is the same import
        start = state["received"] * state["part_bytes"]
        part = SimpleUploadedFile("part", packed[start : start + state["part_bytes"]])
        state = staff.post(f"{state['parts_url']}{state['received']}/", {"part": part}).json()
    run_imports()
    assert Import.objects.get().counts["accepted"] == 2


def test_it_answers_409_with_what_it_waits_for_to_a_piece_out_of_turn(staff):
    state = staff.post(reverse("import_list"), {"name": "a.zip", "size": 20_000_000}).json()
    for data in ({"part": SimpleUploadedFile("part", b"x")}, {}):
        response = staff.post(f"{state['parts_url']}1/", data)
        assert (response.status_code, response.json()["received"]) == (409, 0)


def test_it_takes_no_piece_for_the_archive_of_somebody_else(staff, client, bruno):
    state = staff.post(reverse("import_list"), {"name": "a.zip", "size": 1}).json()
    client.force_login(bruno)
    assert client.post(f"{state['parts_url']}0/", {"part": SimpleUploadedFile("part", b"x")}).status_code == 404


def test_it_takes_a_whole_archive_from_a_page_without_javascript(staff, anne):
    response = staff.post(reverse("import_list"), {"archive": archive_file(zipped({"1.jpg": jpeg(1)}))})
    batch = Import.objects.get()
    assert response.url == batch.get_absolute_url()
    run_imports()
    assert Photo.objects.get().uploaded_by == anne


@pytest.mark.parametrize(
    ("data", "words"), [({}, "Choisissez une archive"), ({"name": "a.zip", "size": 2 * 10**14}, "au plus 100")]
)
def test_it_says_what_an_archive_must_be(staff, data, words):
    response = staff.post(reverse("import_list"), data)
    assert response.status_code == 400
    assert words in response.content.decode()
    assert words in staff.post(reverse("import_list"), data, headers={"HX-Request": "true"}).json()["detail"]


@pytest.fixture
def done(staff):
    """An import that is over: two dogs' folders, one photo twice, two refusals."""
    packed = zipped({
        "Rex/1.jpg": jpeg(1), "Rex/2.jpg": jpeg(2), "Bella/3.jpg": jpeg(3), "Bella/copie.jpg": jpeg(3),
        "=cmd.txt": b"x", "../4.jpg": jpeg(4),
    })  # fmt: skip
    staff.post(reverse("import_list"), {"archive": archive_file(packed)})
    run_imports()
    return Import.objects.get()


def test_it_shows_how_far_an_import_is_and_asks_on_until_it_is_over(staff, classifier, done):
    progress = staff.get(reverse("import_progress", args=[done.pk]))
    assert "hx-get" in progress.content.decode()
    assert "3 photos attendent le modèle" in progress.content.decode()
    answer_all()
    progress = staff.get(reverse("import_progress", args=[done.pk]))
    assert "hx-get" not in progress.content.decode()
    assert progress["HX-Refresh"] == "true"


def test_it_shows_the_receipts_by_outcome_and_by_reason(staff, done):
    page = staff.get(done.get_absolute_url())
    assert len(page.context["receipts"]) == 6
    assert "Pas une photo" in page.content.decode()
    for query, names in {
        "outcome=known": ["copie.jpg"], "outcome=refused": ["=cmd.txt", "4.jpg"],
        "outcome=refused&code=unsafe_path": ["4.jpg"], "outcome=nonsense": 6 * [""],
    }.items():  # fmt: skip
        found = staff.get(f"{done.get_absolute_url()}?{query}").context["receipts"]
        assert len(found) == len(names)
        assert all(receipt.name == name for receipt, name in zip(found, names, strict=True) if name)


def test_it_shows_a_page_of_receipts_with_few_queries(staff, done, django_assert_max_num_queries):
    with django_assert_max_num_queries(16):
        staff.get(done.get_absolute_url())


def test_it_finds_the_receipts_of_photos_that_look_like_another(staff, classifier, done):
    answer_all()  # the classifier of this test sees the same in all of them
    found = staff.get(f"{done.get_absolute_url()}?outcome=similar").context["receipts"]
    assert [receipt.name for receipt in found] == ["2.jpg", "3.jpg"]


def test_it_gives_the_receipts_as_a_table_for_spreadsheets(staff, done):
    response = staff.get(reverse("import_receipts", args=[done.pk]))
    head, *rows = rows_of(response)
    assert "attachment" in response["Content-Disposition"]
    assert head[:3] == ["Fichier", "Résultat", "Raison"]
    assert [row[1] for row in rows] == ["acceptée", "acceptée", "acceptée", "déjà là", "refusée", "refusée"]
    assert rows[4][0] == "'=cmd.txt"
    assert rows[0][3] == f"http://testserver{Photo.objects.earliest('pk').get_absolute_url()}"
    refused = staff.get(reverse("import_receipts", args=[done.pk]) + "?outcome=refused")
    assert len(rows_of(refused)) == 3


def test_it_lists_imports_with_the_number_of_their_files(staff, done, django_assert_max_num_queries):
    for seed in range(3):
        send(staff, upload(jpeg(20 + seed)), key=str(uuid.UUID(int=seed)))
    with django_assert_max_num_queries(8):
        page = " ".join(staff.get(reverse("import_list")).content.decode().split())
    assert "6 fichiers, dont 2 refusés" in page
    assert page.count("1 fichier<") == 3


def test_it_files_the_photos_of_folders_under_the_dogs_that_a_person_names(staff, done):
    rex = Animal.objects.create(name="rex")
    staff.post(reverse("import_dogs", args=[done.pk]), {"dog": ["Rex", "Bella"], "name": ["Rex", "Belle"]})
    assert {photo.animal.name for photo in Photo.objects.all()} == {"rex", "Belle"}
    assert rex.photos.count() == 2
    assert done.dogs() == []


def test_it_leaves_photos_alone_that_are_filed_and_folders_without_a_name(staff, done):
    filed = Photo.objects.earliest("pk")
    Photo.objects.filter(pk=filed.pk).update(animal=Animal.objects.create(name="Max"))
    staff.post(reverse("import_dogs", args=[done.pk]), {"dog": ["Rex", "Bella"], "name": ["Rex", " "]})
    names = [photo.animal and photo.animal.name for photo in Photo.objects.order_by("pk")]
    assert names == ["Max", "Rex", None]


def test_it_asks_which_dog_a_folder_shows_where_several_have_its_name(staff, done):
    first, second = Animal.objects.create(name="Rex"), Animal.objects.create(name="réx")
    page = staff.post(reverse("import_dogs", args=[done.pk]), {"everything": "1"}, follow=True)
    assert f"{first.numbered}, {second.numbered}" in page.content.decode()
    assert [row["dog"] for row in done.dogs()] == ["Rex"]  # Bella is filed, and nothing of Rex is lost
    staff.post(reverse("import_dogs", args=[done.pk]), {"dog": ["Rex"], "name": [second.numbered]})
    assert (first.photos.count(), second.photos.count()) == (0, 2)


def test_it_files_all_folders_under_their_names_at_once(staff, done):
    staff.post(reverse("import_dogs", args=[done.pk]), {"everything": "1"})
    assert set(Animal.objects.values_list("name", flat=True)) == {"Rex", "Bella"}


def test_it_says_why_an_archive_failed(staff):
    staff.post(reverse("import_list"), {"archive": archive_file(b"Rar!", "photos.zip")})
    run_imports()
    page = staff.get(Import.objects.get().get_absolute_url()).content.decode()
    assert "« photos.zip » n’est pas une archive zip" in page
    assert "en échec" in staff.get(reverse("import_list")).content.decode()


# -- API --------------------------------------------------------------------------------------------------------------


def test_a_script_may_ask_which_files_are_known(api, client, anne):
    known = api("post", "/photos/", {"image": upload(jpeg(1))}).json()
    digests = [hashlib.sha256(jpeg(seed)).hexdigest() for seed in (1, 2)]
    token = {"Authorization": f"Token {ApiToken.issue(anne, ['upload'])[1]}"}

    def ask(*asked):
        data = {"sha256": asked}
        return client.post("/api/v1/photos/check/", data, headers=token, content_type="application/json")

    assert ask(*digests).json() == {"known": [{"sha256": digests[0], "id": known["id"]}]}
    assert ask("x").status_code == 400
