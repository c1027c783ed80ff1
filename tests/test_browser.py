"""The path of a volunteer, in Chromium, against the real web server and the real worker.

`FLAIR_SCREENSHOTS=docs/screenshots make test-all` writes the pictures of the documentation on the way.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.pictures import drawn_dog, encoded, jpeg
from tests.support.serving import PASSWORD, paused, serving
from tests.test_archives import zipped

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
def complaints():
    """What the console said; a test that breaks the connection itself takes out what that must cause."""
    return []


@pytest.fixture
def page(chromium, flair, request, complaints):
    """A French browser; the console must stay silent."""
    viewport = getattr(request, "param", DESKTOP)
    context = chromium.new_context(locale="fr-FR", viewport=viewport, base_url=flair.url)
    page = context.new_page()
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
    expect(page).to_have_url("/")
    page.wait_for_load_state()  # or a file would be dropped on a page whose script has not come


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
    none_yet = page.get_by_text("Pas encore de photo.")
    expect(none_yet).to_be_visible(visible=size == "phone")  # the phone sends the first photo of this server
    send(page, photo_file(f"rex-{size}.jpg", encoded(drawn_dog(coat), "JPEG")))
    receipt = page.locator("li.receipt.accepted", has_text=f"rex-{size}.jpg")
    expect(receipt.locator(".answer-words")).to_have_text(ANSWER, timeout=30 * SECONDS)
    expect(none_yet).to_be_hidden()
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


def test_it_keeps_what_is_being_said_while_the_answer_comes(page, flair):
    """The panel is sent anew with the answer: on a phone the text would be gone, and the keyboard with it."""
    log_in(page)
    with paused(flair):
        send(page, photo_file("braque.jpg", encoded(drawn_dog("#6b4a3a"), "JPEG")))
        page.locator("li.receipt.accepted").get_by_role("link", name="Ouvrir la fiche de la photo").click()
        breed = page.get_by_label("Sa race")
        breed.press_sequentially("tec")
    with page.expect_response(lambda response: re.search(r"/photos/\d+/$", response.url)):
        expect(page.locator(".answer-words")).to_have_text(ANSWER, timeout=60 * SECONDS)
    breed.press_sequentially("kel")
    expect(breed).to_have_value("teckel")
    expect(breed).to_be_focused()
    breed.press("Enter")
    expect(page.locator(".answer-words")).to_have_text("C’est un teckel (confirmé par admin)")


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


# -- sending many files ----------------------------------------------------------------------------------------------


class Gate:
    """Holds back what is posted to an address until the test opens it."""

    def __init__(self, page: Page, pattern: re.Pattern):
        self.is_open, self.held = False, []
        page.route(pattern, self.meet)

    def meet(self, route) -> None:
        if self.is_open:
            route.continue_()
        else:
            self.held.append(route)

    def open(self) -> None:
        self.is_open = True
        for route in self.held:
            route.continue_()


def forgive_broken_connections(complaints: list[str]) -> None:
    complaints[:] = [text for text in complaints if not text.startswith("Failed to load resource")]


def test_it_sends_thirty_files_a_few_at_a_time_with_pause_and_filterable_receipts(page):
    log_in(page)
    gate = Gate(page, re.compile(r"/upload/check/$"))
    good = [photo_file(f"meute-{seed}.jpg", jpeg(2000 + seed)) for seed in range(26)]
    bad = [photo_file(f"rebut-{number}.jpg", b"%PDF" + bytes([number])) for number in range(3)]
    send(page, *good, *bad, photo_file("encore.jpg", jpeg(2000)))
    expect(page.locator(".batch-text")).to_have_text("Envoi : 0 sur 30")
    page.wait_for_timeout(500)
    assert len(gate.held) == 3  # a few in flight, the others wait

    page.locator("#batch").get_by_role("button", name="Pause").click()
    gate.open()
    expect(page.locator(".batch-text")).to_contain_text("Envoi : 3 sur 30 · En pause")
    expect(page.locator("li.receipt", has_text="En pause")).to_have_count(27)

    page.locator("#batch").get_by_role("button", name="Reprendre").click()
    expect(page.locator("li.receipt.accepted")).to_have_count(26, timeout=60 * SECONDS)
    expect(page.locator("li.receipt.refused")).to_have_count(3)
    expect(page.locator("li.receipt.known")).to_have_count(1)

    page.get_by_role("button", name="Refusées 3").click()
    expect(page.locator("li.receipt:visible")).to_have_count(3)
    with page.expect_download() as download:
        page.get_by_role("link", name="Télécharger").click()
    table = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(table) == 31
    assert sum("refusée" in line for line in table) == 3


def test_it_goes_on_by_itself_after_a_lost_connection_and_makes_no_duplicates(page, flair, complaints):
    log_in(page)
    lost = []

    def lose_the_answer(route):
        """The server takes the photo; the browser never hears of it."""
        if route.request.method != "POST" or len(lost) >= 2:
            return route.continue_()
        lost.append(route.request.url)
        route.fetch()
        return route.abort("connectionreset")

    page.route(f"{flair.url}/", lose_the_answer)
    send(page, *[photo_file(f"tunnel-{seed}.jpg", jpeg(3000 + seed)) for seed in range(6)])
    expect(page.locator("li.receipt.accepted")).to_have_count(6, timeout=60 * SECONDS)
    assert len(lost) == 2
    forgive_broken_connections(complaints)
    expect(page.locator("li.receipt.known")).to_have_count(0)
    page.unroute_all(behavior="ignoreErrors")
    page.goto("/photos/")
    names = page.evaluate("fetch('/api/v1/photos/?page_size=200').then((r) => r.json()).then((p) => p.results)")
    assert sorted(photo["original_name"] for photo in names if photo["original_name"].startswith("tunnel")) == [
        f"tunnel-{seed}.jpg" for seed in range(6)
    ]


def test_it_goes_on_by_itself_when_the_server_says_that_it_will_be_back(page, complaints):
    log_in(page)
    away = []

    def be_away(route):
        if away:
            return route.continue_()
        away.append(route.request.url)
        return route.fulfill(status=503, headers={"Retry-After": "30"}, body="unavailable")

    page.route(re.compile(r"/upload/check/$"), be_away)
    send(page, photo_file("retour.jpg", jpeg(4100)))
    expect(page.locator("li.receipt.accepted")).to_have_count(1, timeout=60 * SECONDS)
    assert len(away) == 1
    page.unroute_all(behavior="ignoreErrors")
    forgive_broken_connections(complaints)


def test_it_offers_to_retry_what_the_server_could_not_take(page, complaints):
    log_in(page)
    page.route(re.compile(r"/upload/check/$"), lambda route: route.fulfill(status=503, body="down"))
    send(page, *[photo_file(f"panne-{seed}.jpg", jpeg(4000 + seed)) for seed in range(2)])
    expect(page.locator("li.receipt.refused", has_text="Réessayez")).to_have_count(2)
    page.unroute_all(behavior="ignoreErrors")
    forgive_broken_connections(complaints)
    page.locator("#batch").get_by_role("button", name="Réessayer").click()
    expect(page.locator("li.receipt.accepted")).to_have_count(2, timeout=60 * SECONDS)


def test_it_takes_a_zip_from_the_upload_page_and_files_its_folders_under_dogs(page):
    log_in(page)
    packed = zipped(
        {f"{dog}/{seed}.jpg": jpeg(5000 + seed) for seed, dog in enumerate(["Noisette", "Noisette", "Gaïa"])}
    )
    send(page, {"name": "refuge.zip", "mimeType": "application/zip", "buffer": packed})
    page.get_by_role("link", name="Suivre l’import").click(timeout=60 * SECONDS)
    expect(page.locator("#import-progress")).to_contain_text("Tout est arrivé", timeout=60 * SECONDS)
    page.reload()
    expect(page.get_by_label("Noisette, 2 photos")).to_have_value("Noisette")
    page.get_by_label("Gaïa, 1 photo").fill("Gaïa la douce")
    page.get_by_role("button", name="Classer ces photos").click()
    expect(page.get_by_label("Noisette, 2 photos")).to_have_count(0)
    page.goto("/photos/?q=Gaïa la douce")
    expect(page.locator(".photo-card")).to_have_count(1)
