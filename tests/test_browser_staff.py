"""What staff do between two uploads, in Chromium: take photos along, sort them, find a lost dog, come back in."""

# ruff: noqa: F811  (fixtures that are imported are also arguments)

import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Page, expect

from tests.support.pictures import drawn_dog, encoded
from tests.support.serving import wait_until
from tests.test_browser import ANSWER, SECONDS, chromium, complaints, flair, log_in, page, photo_file, send  # noqa: F401  (the fixtures)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OLD, NEW = "un-mot-de-passe", "un-tout-autre-mot"


def send_and_wait(page: Page, *files: dict) -> None:
    log_in(page)
    send(page, *files)
    answers = page.locator("li.receipt.accepted .answer-words", has_text=ANSWER)
    expect(answers).to_have_count(len(files), timeout=60 * SECONDS)


def dog_photo(name: str, coat: str, quality: int = 90, taken: str = "") -> dict:
    """`taken`: by the camera's clock."""
    exif = Image.Exif()
    if taken:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    return photo_file(name, encoded(drawn_dog(coat), "JPEG", quality=quality, exif=exif))


def log_in_as(page: Page, name: str, password: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Nom d’utilisateur").fill(name)
    page.get_by_label("Mot de passe").fill(password)
    page.get_by_role("button", name="Se connecter").click()


def downloaded(page: Page, link: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    return Path(download.value.path()).read_bytes()


def test_it_takes_along_what_a_search_shows_and_keeps_the_search(page):
    send_and_wait(page, dog_photo("a.jpg", "#a8632f"), dog_photo("b.jpg", "#efe6d6"))
    page.goto("/photos/?filed=no")
    shown = page.locator(".photo-card").count()
    assert shown >= 2

    assert len(downloaded(page, "Tableau (CSV)").decode("utf-8-sig").splitlines()) == shown + 1
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "Images et tableau (zip)"))) as packed:
        assert sum(name.endswith(".jpg") for name in packed.namelist()) == shown

    page.get_by_label("Garder cette recherche sous le nom").fill("À classer")
    page.get_by_role("button", name="Enregistrer").click()
    page.goto("/photos/")
    page.get_by_role("link", name="À classer").click()
    expect(page.locator(".photo-card")).to_have_count(shown)
    page.get_by_role("button", name=re.compile("À classer")).click()
    expect(page.get_by_role("link", name="À classer")).to_have_count(0)


def test_it_files_photos_that_were_suggested_as_one_dog_and_finds_it_by_another_photo(page, flair):
    send_and_wait(
        page,
        *(
            dog_photo(name, "#5b3a21", quality, f"2026:11:20 10:00:{quality - 40}")
            for name, quality in (("un.jpg", 92), ("deux.jpg", 70))
        ),
    )
    photos = "Photo.objects.filter(original_name__in=['un.jpg', 'deux.jpg'])"  # drawn dogs, which it takes for none
    flair.python(f"from shelter.models import Photo; {photos}.update(decision='unsure')")
    page.goto("/animals/suggestions/")
    group = page.locator(".groups > li", has=page.locator("[alt='un.jpg']"))
    expect(group.locator("input[type=checkbox]")).to_have_count(2)
    group.get_by_label("Nom du chien").fill("Caramel")
    group.get_by_role("button", name="Classer").click()
    expect(page.locator(".messages")).to_contain_text("2 photos sont classées dans la fiche de Caramel.")

    page.goto("/lookalikes/")
    page.locator("input[type=file]").set_input_files([dog_photo("perdu.jpg", "#5b3a21", 50)])
    page.get_by_role("button", name="Chercher").click()
    expect(page.locator(".cards li").first).to_contain_text("Caramel")


def test_it_shows_how_an_import_from_a_disk_went(page, flair, tmp_path):
    for number, coat in enumerate(["#2b2b2b", "#d9a441", "#8f8f8f"]):
        folder = tmp_path / "disque" / "Été"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(encoded(drawn_dog(coat), "JPEG", quality=80))
    (folder / "lisez-moi.txt").write_text("Ce n’est pas une photo.")
    flair.manage("import_photos", str(tmp_path / "disque"), "--user", "admin")

    log_in(page)
    page.goto("/imports/")
    page.locator("main a[href^='/imports/']", has_text="disque").first.click()
    expect(page.locator(".batch-text")).to_contain_text("4 fichiers sur 4")
    expect(page.locator(".figures")).to_contain_text("Pas une photo 1")
    expect(page.locator("main")).to_contain_text("Été, 3 photos")


def test_it_locks_out_who_guesses_and_lets_in_who_has_read_the_mail(page, flair, complaints):
    flair.python(
        "from django.contrib.auth.models import Group, User; "
        f"u = User.objects.create_user('zoe', 'zoe@example.org', '{OLD}'); "
        "u.groups.add(Group.objects.get(name='staff'))"
    )
    log_in_as(page, "zoe", OLD)
    expect(page).to_have_url("/")
    page.locator("details.account summary").click()
    page.get_by_role("button", name="Se déconnecter").click()
    for _ in range(10):
        log_in_as(page, "zoe", "devine")
    log_in_as(page, "zoe", OLD)
    expect(page.locator("main")).to_contain_text(re.compile("essais|tentatives"))
    complaints[:] = [said for said in complaints if "429" not in said]

    page.goto("/accounts/password_reset/")
    page.locator("input[type=email]").fill("zoe@example.org")
    page.get_by_role("button", name="M’envoyer le lien").click()
    page.wait_for_url("**/done/")
    link = re.compile(r"http://[^\s]+/accounts/reset/[^\s]+")
    wait_until(lambda: link.search(flair.output.read_text(errors="replace")), 20, "a mail")
    page.goto(link.findall(flair.output.read_text(errors="replace"))[-1])
    for field in page.locator("input[type=password]").all():
        field.fill(NEW)
    page.get_by_role("button", name="Changer mon mot de passe").click()
    page.wait_for_url("**/accounts/reset/done/")
    log_in_as(page, "zoe", NEW)
    expect(page).to_have_url("/")
    expect(page.locator("details.account summary")).to_contain_text("zoe")
    page.goto("/review/")
    expect(page.locator("main")).not_to_contain_text("Confirmer")  # the queue is for reviewers
    complaints[:] = [said for said in complaints if "403" not in said]
