"""The records of dogs, and the filing of photos under them."""

import io
from datetime import date, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override
from PIL import Image

from breeds.models import Breed
from shelter.intake.uploads import upload_into
from shelter.models import Animal, Fingerprint, Import, Photo
from shelter.models.animals import clean_microchip
from tests.support.factories import a_dog, a_photo, upload
from tests.support.pictures import jpeg

CHIP = "250268500123456"
RECORD = {
    "name": "Éclair", "status": "present", "sex": "female", "born_on": "2020-03-01", "arrived_on": "2026-01-05",
    "microchip": "250 268.500-123 456", "notes": "Peur des vélos.",
}  # fmt: skip


@pytest.fixture
def photos(anne, breeds):
    return [a_photo(anne, name=f"{number}.jpg") for number in range(4)]


@pytest.fixture
def rex(photos):
    return a_dog("Rex", *photos)


def file(client, photos, **values):
    return client.post(reverse("file_photos"), {"photos": [photo.pk for photo in photos], **values}, follow=True)


def order_of(animal) -> list[int]:
    return list(animal.photos.order_by("position", "pk").values_list("pk", flat=True))


def test_it_keeps_a_record_as_it_was_written(staff):
    response = staff.post(reverse("animal_new"), RECORD, follow=True)
    animal = response.context["animal"]
    assert (animal.name, animal.name_folded, animal.sex, animal.microchip) == ("Éclair", "eclair", "female", CHIP)
    assert animal.born_on == date(2020, 3, 1)
    assert "250 268 500 123 456" in response.content.decode()


def test_it_changes_a_record_and_what_finds_it(staff):
    animal = Animal.objects.create(name="Zoé")
    staff.post(reverse("animal_edit", args=[animal.pk]), RECORD)
    assert list(Animal.objects.search("ECLAIR")) == [animal]
    assert not Animal.objects.search("zoe")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"microchip": "12345"}, "microchip"),
        ({"born_on": "2999-01-01", "arrived_on": ""}, "born_on"),
        ({"arrived_on": "2019-01-01"}, "arrived_on"),
        ({"arrived_on": "hier"}, "arrived_on"),
        ({"status": "flown"}, "status"),
    ],
)
def test_it_says_what_is_wrong_with_a_record_and_keeps_nothing(staff, db, change, field):
    response = staff.post(reverse("animal_new"), RECORD | change)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert not Animal.objects.exists()


def test_it_takes_a_guessed_birth_after_the_arrival(staff, db):
    staff.post(reverse("animal_new"), RECORD | {"arrived_on": "2019-12-01", "born_about": "on"})
    assert Animal.objects.get().born_about


def test_it_gives_a_microchip_to_one_dog_alone(staff, db):
    Animal.objects.create(name="Rex", microchip=CHIP)
    response = staff.post(reverse("animal_new"), RECORD, headers={"Accept-Language": "en"})
    assert "Another dog already has this microchip." in response.content.decode()


@pytest.mark.parametrize("typed", [CHIP, "250 268 500 123 456", " 250.268.500.123.456 ", "250-268-500-123-456"])
def test_it_reads_a_microchip_however_it_is_typed(typed):
    assert clean_microchip(typed) == CHIP


@pytest.mark.parametrize(
    "text", [CHIP, "250 268 500 123 456", "250268500-123.456", "123 456", "456", "5001", "Rex 456", " 500123 "]
)
def test_a_dog_is_found_by_any_digits_of_its_microchip_in_any_spacing(text, db):
    rex = a_dog("Rex", microchip=CHIP)
    a_dog("Max", microchip="250268999999999")
    assert list(Animal.objects.search(text)) == [rex]


@pytest.mark.parametrize("text", ["45", "5", "456 250", "250268500123457"])
def test_two_digits_or_other_digits_find_no_microchip(text, db):
    a_dog("Rex", microchip=CHIP)
    assert list(Animal.objects.search(text)) == []


def test_a_dog_is_found_by_a_number_in_its_name(db):
    a_dog("Max", microchip=CHIP)
    rex = a_dog("Rex 2")
    assert list(Animal.objects.search("rex 2")) == list(Animal.objects.search("2")) == [rex]


@pytest.mark.parametrize(
    "typed",
    [
        "25026850012345", CHIP + "7", "25026850012345A", "999268500123456", "000268500123456", "250000000000000",
        "٢٥٠٢٦٨٥٠٠١٢٣٤٥٦",
    ],
)  # fmt: skip
def test_it_refuses_what_is_no_microchip(typed):
    with pytest.raises(ValidationError) as error:
        clean_microchip(typed)
    assert typed in error.value.messages[0]


@pytest.mark.parametrize(
    ("born", "about", "age"),
    [
        (date(2026, 4, 22), False, "7 mois"),
        (date(2026, 10, 23), False, "0 mois"),
        (date(2026, 10, 22), False, "1 mois"),
        (date(2023, 11, 22), False, "3 ans"),
        (date(2023, 11, 23), True, "environ 2 ans"),
        (None, False, ""),
    ],
)
def test_it_tells_the_age_of_a_dog(born, about, age):
    with override("fr"):
        assert Animal(born_on=born, born_about=about).age(date(2026, 11, 22)) == age


def test_it_files_photos_under_a_new_dog(staff, photos):
    file(staff, photos[:2], name="Rex")
    assert set(Animal.objects.get(name="Rex").photos.all()) == set(photos[:2])


@pytest.mark.parametrize("name", ["rex", "REX", " Rex ", "réx"])
def test_it_files_photos_under_the_dog_of_that_name(staff, photos, name):
    rex = Animal.objects.create(name="Rex")
    file(staff, photos[:1], name=name)
    assert Photo.objects.get(pk=photos[0].pk).animal == rex
    assert Animal.objects.count() == 1


def test_it_asks_which_one_where_two_dogs_have_the_name(staff, photos):
    first, second = Animal.objects.create(name="Rex"), Animal.objects.create(name="Rex")
    page = file(staff, photos[:1], name="Rex")
    assert f"{first.numbered}, {second.numbered}" in page.content.decode()
    assert not Photo.objects.exclude(animal=None)
    file(staff, photos[:1], name=second.numbered)
    assert Photo.objects.get(pk=photos[0].pk).animal == second


def test_it_makes_no_dog_of_a_number_that_nobody_has(staff, photos):
    file(staff, photos[:1], name="Rex (4711)")
    assert not Animal.objects.exists()


def test_it_files_under_no_other_dog_that_happens_to_have_the_number(staff, photos):
    bella = Animal.objects.create(name="Bella")
    page = file(staff, photos[:1], name=f"Rex ({bella.pk})")
    assert f"Rex ({bella.pk})" in str(*page.context["messages"])
    assert not bella.photos.exists()


@pytest.mark.parametrize(
    "values", [{"name": "Rex", "photos": []}, {"name": "  "}, {"name": "…"}, {"name": "Rex", "photos": ["x"]}]
)
def test_it_files_nothing_without_a_photo_and_a_name(staff, photos, values):
    page = staff.post(reverse("file_photos"), {"photos": [photos[0].pk]} | values, follow=True)
    assert len(list(page.context["messages"])) == 1
    assert not Animal.objects.exists()


def test_it_takes_photos_out_of_a_record(staff, photos, rex):
    file(staff, photos[:1], name="Rex", out="on")
    assert set(rex.photos.all()) == set(photos[1:])


def test_it_moves_the_main_photo_away_from_the_dog_it_stood_for(staff, photos, rex):
    rex.choose_main(photos[1].pk)
    file(staff, [photos[1]], name="Bella")
    rex.refresh_from_db()
    assert rex.main_photo is None
    assert Animal.objects.get(name="Bella").photos.get() == photos[1]


def test_a_photo_that_is_filed_under_another_dog_is_shown_last_there(photos, rex):
    bella = Animal.objects.create(name="Bella")
    Photo.objects.filter(pk__in=[photos[0].pk, photos[1].pk]).file_under(bella)
    bella.order_photos([photos[1].pk, photos[0].pk])
    rex.order_photos([photos[3].pk, photos[2].pk])
    Photo.objects.filter(pk=photos[1].pk).file_under(rex)
    assert order_of(rex) == [photos[3].pk, photos[2].pk, photos[1].pk]


def test_it_goes_back_only_to_pages_of_its_own(staff, photos):
    data = {"photos": [photos[0].pk], "name": "Rex", "next": "https://example.org/"}
    assert staff.post(reverse("file_photos"), data).url.startswith("/animals/")


def test_it_lets_one_of_its_photos_stand_for_a_dog_and_no_other(staff, photos, rex):
    other = Animal.objects.create(name="Bella")
    for animal in (rex, other):
        staff.post(reverse("animal_photo", args=[animal.pk]), {"photo": photos[2].pk, "action": "main"})
    rex.refresh_from_db()
    other.refresh_from_db()
    assert (rex.main_photo, other.main_photo) == (photos[2], None)
    assert {animal.name: animal.cover_id for animal in Animal.objects.with_covers()} == {
        "Rex": photos[2].pk,
        "Bella": None,
    }


def test_it_shows_photos_in_the_order_that_people_chose(staff, photos, rex):
    a, b, c, d = (photo.pk for photo in photos)
    address = reverse("animal_photo", args=[rex.pk])
    staff.post(address, {"photo": c, "action": "earlier"})
    assert order_of(rex) == [a, c, b, d]
    staff.post(address, {"photo": a, "action": "later"})
    assert order_of(rex) == [c, a, b, d]
    staff.post(address, {"photo": [d, b], "action": "order"})
    assert order_of(rex) == [d, b, a, c]
    staff.post(address, {"photo": d, "action": "earlier"})
    assert order_of(rex) == [d, b, a, c]


def test_it_shows_a_photo_that_comes_later_behind_those_in_order(photos, rex, anne):
    rex.order_photos([photo.pk for photo in reversed(photos)])
    late = a_photo(anne, animal=rex)
    assert order_of(rex)[-1] == late.pk


def test_it_orders_only_its_own_photos(staff, photos, rex):
    other = Animal.objects.create(name="Bella")
    staff.post(reverse("animal_photo", args=[other.pk]), {"photo": [photos[3].pk, "no"], "action": "order"})
    assert set(Photo.objects.values_list("position", flat=True)) == {0}


def test_it_offers_the_dogs_at_the_shelter_first(staff, db):
    for name, status in (("Rexane", "adopted"), ("Rex", "present"), ("Bella", "present")):
        Animal.objects.create(name=name, status=status)
    offered = staff.get(reverse("animal_names"), {"name": "réx"}).context["animals"]
    assert [animal.name for animal in offered] == ["Rex", "Rexane"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["Éclair", "Oscar", "Zoé"]),
        ({"sort": "newest"}, ["Oscar", "Zoé", "Éclair"]),
        ({"q": "ECLA"}, ["Éclair"]),
        ({"q": "2502685"}, ["Zoé"]),
        ({"status": "adopted"}, ["Oscar"]),
        ({"status": "flown"}, ["Éclair", "Oscar", "Zoé"]),
        ({"q": "licorne"}, []),
    ],
)
def test_it_lists_and_finds_dogs(staff, db, query, names):
    Animal.objects.create(name="Éclair")
    Animal.objects.create(name="Zoé", microchip=CHIP)
    Animal.objects.create(name="Oscar", status="adopted")
    assert [animal.name for animal in staff.get(reverse("animal_list"), query).context["page"]] == names


def test_it_needs_few_queries_for_many_dogs(staff, photos, django_assert_max_num_queries):
    for number, photo in enumerate(photos):
        a_dog(f"Dog {number}", photo)
    for page in (reverse("animal_list"), reverse("animal_suggestions"), reverse("animal", args=[photos[0].pk])):
        with django_assert_max_num_queries(12):
            staff.get(page)


@pytest.fixture
def answered(photos):
    """Two beagles, a terrier and a photo without an answer, all sent in one go."""
    rows = Photo.objects.filter
    beagle = Breed.objects.get(slug="beagle")
    beagles = rows(pk__in=[photo.pk for photo in photos[:2]])
    beagles.update(status="done", decision="breed", breed=beagle, group="scenthounds")
    rows(pk=photos[2].pk).update(status="done", decision="group", group="terriers")
    return photos


def suggested(client) -> list[set]:
    return [set(group.photos) for group in client.get(reverse("animal_suggestions")).context["groups"]]


def test_it_suggests_photos_of_one_go_with_one_answer_as_one_dog(staff, answered):
    assert suggested(staff) == [set(answered[:2])]


def test_it_suggests_nothing_across_a_pause_or_two_people(staff, answered, bruno):
    Photo.objects.filter(pk=answered[0].pk).update(uploaded_at=timezone.now() - timedelta(minutes=11))
    assert suggested(staff) == []
    Photo.objects.filter(pk=answered[0].pk).update(uploaded_at=timezone.now(), uploaded_by=bruno)
    assert suggested(staff) == []


def taken(*photos, seconds: list[int]) -> None:
    for photo, second in zip(photos, seconds, strict=True):
        Photo.objects.filter(pk=photo.pk).update(
            taken_at=timezone.now() - timedelta(hours=1) + timedelta(seconds=second)
        )


def test_it_suggests_photos_that_nobody_has_looked_at_yet_by_the_clock_of_the_camera(staff, photos):
    taken(*photos, seconds=[0, 300, 20, 310])
    assert suggested(staff) == [{photos[1], photos[3]}, {photos[0], photos[2]}]
    assert "l’une peu après l’autre" in staff.get(reverse("animal_suggestions")).content.decode()


def test_it_divides_what_was_taken_together_where_sure_answers_differ(staff, answered):
    taken(*answered, seconds=[0, 10, 20, 30])
    assert suggested(staff) == [set(answered[2:]), set(answered[:2])]  # what has no answer goes with the last


def test_it_keeps_together_what_looks_nearly_the_same_whatever_the_answers(staff, answered):
    taken(*answered, seconds=[0, 10, 20, 200])
    for photo, dhash in zip(answered, (0x0F1E2D3C4B5A6978, 0x0F1E2D3C4B5A6979, 0x0F1E2D3C4B5A697B, 0), strict=True):
        Fingerprint.objects.record(photo, dhash)
    assert suggested(staff) == [set(answered[:3])]


def test_it_joins_a_group_with_a_breed_of_that_group(staff, answered):
    Photo.objects.filter(pk=answered[2].pk).update(group="scenthounds")
    taken(*answered[:3], seconds=[0, 10, 20])
    assert suggested(staff) == [set(answered[:3])]


def test_it_does_not_guess_where_neither_clock_nor_answer_says_anything(staff, photos):
    assert suggested(staff) == []


def test_it_suggests_groups_within_one_upload(staff, answered, anne):
    batch = Import.objects.upload_of(anne, None)
    other = upload_into(batch, upload(jpeg(50), "a.jpg")).photo
    another = upload_into(batch, upload(jpeg(51), "b.jpg")).photo
    taken(other, another, seconds=[0, 5])
    page = staff.get(reverse("import_suggestions", args=[batch.pk]))
    assert [set(group.photos) for group in page.context["groups"]] == [{other, another}]
    assert reverse("import_suggestions", args=[batch.pk]) in staff.get(batch.get_absolute_url()).content.decode()


def test_it_suggests_no_photo_that_is_filed(staff, answered):
    file(staff, answered[:1], name="Rex")
    assert suggested(staff) == []


def test_it_makes_a_thumbnail_once_and_removes_it_with_the_photo(
    staff, photos, stored_files, django_capture_on_commit_callbacks
):
    photo, address = photos[0], reverse("photo_file", args=[photos[0].pk, "small"])
    assert staff.get(address).status_code == 404
    with Image.open(photo.image.open("rb")) as image:
        content = io.BytesIO()
        image.resize((1024, 768)).save(content, "JPEG")
    photo.keep_look(content.getvalue(), 0)
    photo.save(update_fields=["preview"])
    for _ in range(2):
        with Image.open(io.BytesIO(staff.get(address).getvalue())) as thumbnail:
            assert (thumbnail.format, thumbnail.size) == ("JPEG", (240, 180))
    assert photo.thumbnail_name(240) in stored_files()
    with django_capture_on_commit_callbacks(execute=True):
        photo.delete_with_files()
    assert not any(photo.sha256 in name for name in stored_files())
