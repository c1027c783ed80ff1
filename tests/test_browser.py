"""The path of a volunteer, in Chromium, against the real web server and the real worker.

`FLAIR_SCREENSHOTS=docs/screenshots make test-all` writes the pictures of the documentation on the way.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.serving import PASSWORD, serving
from tests.support import drawn_dog, encoded, jpeg

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
SECONDS = 1000
ANSWER = re.compile(r"Ressemble à|Race indéterminée|Aucun chien")


@pytest.fixture(scope="module")
def flair(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("browser") / "data") as flair:
        yield flair


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    assert path, "Expected Debian's chromium. Received: none on the PATH."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, flair, request):
    """A French browser; the console must stay silent."""
    viewport = getattr(request, "param", DESKTOP)
    context = chromium.new_context(locale="fr-FR", viewport=viewport, base_url=flair.url)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(20 * SECONDS)
    yield page
    context.close()
    assert complaints == []


def log_in(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Nom d’utilisateur").fill("admin")
    page.get_by_label("Mot de passe").fill(PASSWORD)
    page.get_by_role("button", name="Se connecter").click()
    page.wait_for_url("**/")


def photo_file(name: str, content: bytes) -> dict:
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


def send(page: Page, *files: dict) -> None:
    page.locator("input[type=file][multiple]").first.set_input_files(list(files))


def picture_for_docs(page: Page, name: str) -> None:
    if folder := os.environ.get("FLAIR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize("page", [PHONE, DESKTOP], ids=["phone", "desktop"], indirect=True)
def test_it_shows_the_answer_to_an_uploaded_picture_without_a_reload(page, request):
    size = request.node.callspec.id
    log_in(page)
    coat = {"phone": "#a8632f", "desktop": "#d9a441"}[size]
    send(page, photo_file(f"rex-{size}.jpg", encoded(drawn_dog(coat), "JPEG")))
    receipt = page.locator("li.receipt.accepted", has_text=f"rex-{size}.jpg")
    expect(receipt.locator(".answer-words")).to_have_text(ANSWER, timeout=30 * SECONDS)
    picture_for_docs(page, f"upload-{size}")
    receipt.get_by_role("link", name="Ouvrir la fiche de la photo").click()
    expect(page.locator(".answer-words")).to_have_text(ANSWER)
    picture_for_docs(page, f"photo-{size}")
    page.goto("/photos/")
    picture_for_docs(page, f"photos-{size}")


def test_it_gives_every_file_of_a_batch_its_receipt(page):
    log_in(page)
    good = [photo_file(f"chien-{seed}.jpg", jpeg(seed)) for seed in range(5)]
    send(page, *good, photo_file("contrat.jpg", b"%PDF-1.7 not a photo"), photo_file("coupee.jpg", jpeg(7)[:900]))
    expect(page.locator("li.receipt.accepted")).to_have_count(5)
    expect(page.locator("li.receipt.refused")).to_have_count(2)
    expect(page.locator("li.receipt.refused", has_text="contrat.jpg")).to_contain_text("n’est pas une photo")
    expect(page.locator("li.receipt.accepted .answer-words", has_text=ANSWER)).to_have_count(5, timeout=60 * SECONDS)


def test_it_says_that_a_photo_is_already_there(page):
    log_in(page)
    send(page, photo_file("une-fois.jpg", jpeg(100)))
    expect(page.locator("li.receipt.accepted")).to_have_count(1)
    page.goto("/")
    send(page, photo_file("deux-fois.jpg", jpeg(100)))
    expect(page.locator("li.receipt.known")).to_contain_text("Déjà envoyée")


def test_it_finds_photos_by_breed_and_files_them_under_a_dog(page):
    log_in(page)
    send(page, photo_file("filou.jpg", encoded(drawn_dog("#3b2a20"), "JPEG")))
    page.locator("li.receipt.accepted").get_by_role("link", name="Ouvrir la fiche de la photo").click()
    page.get_by_label("Nom du chien").fill("Filou")
    page.get_by_role("button", name="Classer la photo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Filou")
    page.goto("/photos/?q=filou")
    expect(page.locator("main")).to_contain_text("Filou")


def test_it_speaks_english_too(page):
    log_in(page)
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("link", name="Breeds").first).to_be_visible()


@pytest.mark.parametrize("page", [{"width": 360, "height": 740}], ids=["small-phone"], indirect=True)
def test_it_corrects_a_photo_on_a_small_phone_as_soon_as_its_answer_is_there(page):
    log_in(page)
    send(page, photo_file("teckel.jpg", encoded(drawn_dog("#7d4a2a"), "JPEG")))
    page.locator("li.receipt.accepted").get_by_role("link", name="Ouvrir la fiche de la photo").click()
    expect(page.locator(".answer-words")).to_have_text(ANSWER, timeout=60 * SECONDS)
    said = page.locator("#review details")
    if said.get_attribute("open") is None:
        said.locator("summary").click()
    picture_for_docs(page, "review-phone")
    page.get_by_label("Sa race").fill("teckel")
    page.get_by_label("Sa race").press("Enter")
    expect(page.locator(".answer-words")).to_have_text("C’est un teckel (confirmé par admin)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_reviews_photos_with_keys_alone(page):
    log_in(page)
    send(page, *(photo_file(f"file-{seed}.jpg", jpeg(seed)) for seed in (200, 201)))
    expect(page.locator("li.receipt.accepted .answer-words", has_text=ANSWER)).to_have_count(2, timeout=60 * SECONDS)
    page.goto("/review/")
    picture_for_docs(page, "queue-desktop")
    first = page.locator("input[name=photo]").get_attribute("value")
    page.keyboard.press("?")
    expect(page.locator("#keys dl")).to_be_visible()
    page.keyboard.press("n")
    expect(page.locator(".messages")).to_contain_text("Il n’y a pas de chien sur cette photo")
    expect(page.locator("input[name=photo]")).not_to_have_value(first)
    page.keyboard.press("z")
    expect(page.locator("input[name=photo]")).to_have_value(first)
    page.keyboard.press("b")
    page.keyboard.type("carlin")
    page.keyboard.press("Enter")
    expect(page.locator(".messages")).to_contain_text("C’est un carlin")
