"""Searches taken along, as a table and as pictures."""

import csv
import io
import tracemalloc
import zipfile

import pytest
from django.core.files.base import ContentFile
from django.urls import reverse

from breeds.models import Breed
from shelter.models import Animal, Photo
from shelter.search.exports import csv_of, harmless, zip_of
from tests.support.factories import a_dog, a_photo
from tests.support.pictures import jpeg


@pytest.fixture
def photos(anne, breeds):
    """A Brittany filed under Rex with a preview, and a waiting photo whose name is a formula."""
    brittany, waiting = a_photo(anne, name="a.jpg"), a_photo(anne, name="=HYPERLINK(1).jpg")
    Photo.objects.filter(pk=brittany.pk).update(
        status="done", decision="breed", breed=Breed.objects.get(slug="brittany_spaniel"), group="pointing_dogs",
        probability=0.61584, source="human", animal=a_dog("Rex; dit « Léo »"),
    )  # fmt: skip
    brittany.keep_look(jpeg(1), 0)
    brittany.save(update_fields=["preview"])
    return [brittany, waiting]


def exported(client, name: str, language: str = "fr", **query) -> bytes:
    response = client.get(reverse(name), query, headers={"Accept-Language": language})
    assert response.streaming
    return response.getvalue()


def rows_of(content: bytes, delimiter: str) -> list[dict]:
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), delimiter=delimiter))


def test_it_writes_a_table_for_a_french_spreadsheet(staff, photos):
    row = rows_of(exported(staff, "photo_csv", decision="breed"), ";")[0]
    assert (row["Chien"], row["Race"]) == (Animal.objects.get().numbered, "épagneul breton")
    assert row["Probabilité"] == "0,6158"
    assert row["Vérifiée"] == "oui"
    assert row["Adresse"] == f"http://testserver/photos/{photos[0].pk}/"


def test_it_writes_a_table_for_an_english_spreadsheet(staff, photos):
    rows = rows_of(exported(staff, "photo_csv", "en", sort="oldest"), ",")
    assert [row["Breed"] for row in rows] == ["Brittany spaniel", ""]
    assert [row["Probability"] for row in rows] == ["0.6158", ""]


def test_it_exports_what_is_shown_and_no_more(staff, photos):
    assert len(rows_of(exported(staff, "photo_csv"), ";")) == 2
    assert len(rows_of(exported(staff, "photo_csv", q="rex"), ";")) == 1


@pytest.mark.parametrize("cell", ["=1+1", "+33 6", "-2", "@SUM(A1)", " =1", "\t=1", "＝1"])
def test_it_writes_no_cell_that_a_spreadsheet_would_run(cell):
    assert harmless(cell) == f"'{cell}"


def test_it_leaves_other_cells_alone_and_guards_file_names(staff, photos):
    rows = rows_of(exported(staff, "photo_csv", sort="oldest"), ";")
    assert [row["Nom du fichier"] for row in rows] == ["a.jpg", "'=HYPERLINK(1).jpg"]
    assert harmless("épagneul-breton") == "épagneul-breton"


def test_it_packs_pictures_by_answer_with_the_table(staff, photos):
    with zipfile.ZipFile(io.BytesIO(exported(staff, "photo_zip", sort="oldest"))) as archive:
        assert archive.testzip() is None
        picture = f"epagneul-breton/{photos[0].pk}-rex-dit-leo.jpg"
        assert archive.namelist() == [picture, "photos.csv"]
        assert archive.read(picture) == jpeg(1)
        assert [row["Image"] for row in rows_of(archive.read("photos.csv"), ";")] == [picture, ""]


def test_it_packs_the_rest_where_a_file_is_gone(staff, photos):
    photos[0].preview.storage.delete(photos[0].preview.name)
    with zipfile.ZipFile(io.BytesIO(exported(staff, "photo_zip"))) as archive:
        assert archive.namelist() == ["photos.csv"]
        assert len(rows_of(archive.read("photos.csv"), ";")) == 2


def test_it_says_when_a_zip_would_be_too_large(staff, photos, monkeypatch):
    monkeypatch.setattr("shelter.pages.search.MOST_IN_A_ZIP", 1)
    page = staff.get(reverse("photo_zip"), follow=True)
    assert "au plus" in str(next(iter(page.context["messages"])))
    assert staff.get(reverse("photo_zip"), {"q": "rex"}).streaming


def many(photo: Photo, count: int) -> None:
    copies = []
    for number in range(count):
        copy = Photo.objects.get(pk=photo.pk)
        copy.pk, copy.sha256, copy._state.adding = None, f"{number:064d}", True
        copies.append(copy)
    Photo.objects.bulk_create(copies)


@pytest.mark.parametrize("write", [csv_of, zip_of])
def test_it_holds_no_more_in_memory_for_many_photos_than_for_some(photos, write):
    """1,500 pictures of 200 kB are 300 MB, sent with a peak of less than a tenth of that."""
    photos[0].preview.storage.delete(photos[0].preview.name)
    photos[0].preview.save("large.jpg", ContentFile(bytes(200_000)), save=False)
    photos[0].save(update_fields=["preview"])
    many(photos[0], 1500)
    tracemalloc.start()
    try:
        sent = sum(len(part) for part in write(Photo.objects.order_by("pk"), "fr", "http://testserver"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent > (300_000_000 if write is zip_of else 300_000)
    assert peak < 30_000_000
