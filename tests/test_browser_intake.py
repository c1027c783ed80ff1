"""Sending photos in Chromium when it is hard: many at once, in a tunnel, without scripts. And nothing may jump."""

# ruff: noqa: F811  (fixtures that are imported are also arguments)

import base64
import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.support.pictures import drawn_dog, encoded, jpeg, picture
from tests.support.serving import PASSWORD, paused, wait_until
from tests.test_browser import (  # noqa: F401  (the fixtures)
    ANSWER,
    DESKTOP,
    SECONDS,
    Gate,
    chromium,
    complaints,
    flair,
    forgive_broken_connections,
    log_in,
    page,
    photo_file,
    picture_for_docs,
    send,
)
from tests.test_browser_pages import PHONE, barriers_on

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# What moves on a page without anybody having touched it (https://web.dev/articles/cls): below 0.1 is good.
WATCH_SHIFTS = """
  window.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
"""
MOST_SHIFT = 0.05

DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const { name, content } of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  }
  for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def drop(page: Page, *files: dict) -> None:
    """As from a file manager, somewhere on the page."""
    page.evaluate(
        DROP, [{"name": file["name"], "content": base64.b64encode(file["buffer"]).decode()} for file in files]
    )


def small_jpeg(seed: int) -> bytes:
    return encoded(picture(seed, (96, 72)), "JPEG")


def names_in_the_index(page: Page, start: str) -> list[str]:
    found = page.evaluate("fetch('/api/v1/photos/?page_size=200').then((r) => r.json()).then((p) => p.results)")
    return sorted(photo["original_name"] for photo in found if photo["original_name"].startswith(start))


def test_the_page_of_a_dog_leads_to_photos_that_are_filed_there(page):
    log_in(page)
    page.goto("/animals/new/")
    page.locator("[name=name]").fill("Ophélie des Photos")
    page.get_by_role("button", name="Enregistrer").click()
    page.get_by_role("link", name="Ajouter des photos").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Ajouter des photos de Ophélie des Photos")
    send(page, photo_file("ophelie.jpg", jpeg(7950)))
    expect(page.locator(".receipt.accepted")).to_have_count(1, timeout=30 * SECONDS)
    page.get_by_role("link", name="Ophélie des Photos").first.click()
    expect(page.locator("#photos [data-photo]")).to_have_count(1)


def test_it_sends_photos_that_were_chosen_before_its_script_had_come(page):
    log_in(page)
    held = []
    page.route(re.compile(r"/upload[^/]*\.js"), lambda route: held.append(route))
    page.goto("/", wait_until="commit")
    send(page, photo_file("hâtive.jpg", jpeg(7900)))
    wait_until(lambda: held or page.wait_for_timeout(50), 20, "the page to ask for its script")
    expect(page.locator("li.receipt")).to_have_count(0)
    held[0].continue_()
    expect(page.locator("li.receipt.accepted")).to_contain_text("hâtive.jpg")
    assert page.locator("input[type=file]").evaluate_all("all => all.map(({ files }) => files.length)") == [0, 0]


def test_it_answers_two_hundred_photos_that_are_dropped_at_once(page):
    log_in(page)
    questions = []
    page.on("request", lambda request: questions.append(request.url) if "/answers/" in request.url else None)
    start = time.monotonic()
    drop(page, *[photo_file(f"foule-{seed:03}.jpg", small_jpeg(7000 + seed)) for seed in range(200)])
    expect(page.locator("li.receipt.accepted")).to_have_count(200, timeout=180 * SECONDS)
    expect(page.locator(".batch-text")).to_have_text("Envoi : 200 sur 200")
    expect(page.locator("[data-awaited]")).to_have_count(0, timeout=240 * SECONDS)
    expect(page.locator("li.receipt.accepted .answer-words", has_text=ANSWER)).to_have_count(200)
    assert len(questions) < 2 * (time.monotonic() - start)  # one after the other, for all that wait
    page.get_by_role("link", name="Les ranger par chien").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Photos sans fiche")


def test_it_waits_in_a_tunnel_and_goes_on_without_duplicates(page, complaints):
    log_in(page)
    gate = Gate(page, re.compile(r"/upload/check/$"))
    files = [photo_file(f"metro-{seed:02}.jpg", jpeg(7300 + seed)) for seed in range(12)]
    send(page, *files)
    expect(page.locator("li.receipt")).to_have_count(12)
    gate.open()
    expect(page.locator("li.receipt.accepted").nth(2)).to_be_visible(timeout=60 * SECONDS)
    page.context.set_offline(True)
    expect(page.locator(".batch-text")).to_contain_text("Pas de connexion", timeout=30 * SECONDS)
    assert page.locator("li.receipt.accepted").count() < 12
    page.context.set_offline(False)
    expect(page.locator("li.receipt.accepted")).to_have_count(12, timeout=90 * SECONDS)
    expect(page.locator("li.receipt.known")).to_have_count(0)
    expect(page.locator("[data-awaited]")).to_have_count(0, timeout=90 * SECONDS)
    forgive_broken_connections(complaints)
    assert names_in_the_index(page, "metro") == [file["name"] for file in files]


def test_it_takes_up_a_page_that_was_closed_half_way_without_duplicates(page):
    log_in(page)
    gate = Gate(page, re.compile(r"/upload/check/$"))
    files = [photo_file(f"batterie-{seed}.jpg", jpeg(7400 + seed)) for seed in range(6)]
    send(page, *files[:3])
    gate.open()
    expect(page.locator("li.receipt.accepted")).to_have_count(3, timeout=60 * SECONDS)
    page.goto("/")  # the battery was empty: the same folder is chosen once more
    send(page, *files)
    expect(page.locator("li.receipt.accepted")).to_have_count(3, timeout=60 * SECONDS)
    expect(page.locator("li.receipt.known", has_text="Déjà envoyée")).to_have_count(3)
    assert names_in_the_index(page, "batterie") == [file["name"] for file in files]


def test_it_pauses_one_file_alone(page):
    log_in(page)
    gate = Gate(page, re.compile(r"/upload/check/$"))
    files = [photo_file(f"seule-{seed}.jpg", jpeg(7500 + seed)) for seed in range(5)]
    send(page, *files)
    page.get_by_role("button", name="Pause seule-0.jpg").click()  # it is on its way already
    page.get_by_role("button", name="Pause seule-4.jpg").click()  # it waits
    expect(page.get_by_role("button", name="Reprendre seule-4.jpg")).to_be_visible()
    page.wait_for_timeout(500)
    gate.held = [route for route in gate.held if "seule-0.jpg" not in (route.request.post_data or "")]
    gate.open()
    expect(page.locator("li.receipt.accepted")).to_have_count(3, timeout=60 * SECONDS)
    expect(page.locator(".batch-text")).to_have_text("Envoi : 3 sur 5 · 2 en pause")
    page.get_by_role("button", name="Reprendre seule-0.jpg").click()
    expect(page.locator("li.receipt.accepted")).to_have_count(4, timeout=60 * SECONDS)
    page.locator("#batch").get_by_role("button", name="Reprendre").click()
    expect(page.locator("li.receipt.accepted")).to_have_count(5, timeout=60 * SECONDS)


WARNS = """() => {
  const leaving = new Event("beforeunload", { cancelable: true });
  window.dispatchEvent(leaving);
  return leaving.defaultPrevented;
}"""


def log_in_again(page: Page, password: str) -> None:
    asked = page.get_by_role("dialog", name="Vous n’êtes plus connecté(e).")
    asked.get_by_label("Nom d’utilisateur").fill("admin")
    asked.get_by_label("Mot de passe").fill(password)
    asked.get_by_role("button", name="Se connecter").click()


@pytest.mark.parametrize("page", [PHONE], ids=["phone"], indirect=True)
@pytest.mark.parametrize("cookie", ["sessionid", None], ids=["session", "all-cookies"])
def test_it_asks_for_the_password_and_goes_on_when_the_session_has_ended(page, complaints, cookie):
    log_in(page)
    page.context.clear_cookies(name=cookie)
    seed = 8000 if cookie else 8010
    files = [photo_file(f"fini-{seed + number}.jpg", jpeg(seed + number)) for number in range(5)]
    send(page, *files)
    asked = page.get_by_role("dialog")
    expect(asked.get_by_label("Nom d’utilisateur")).to_be_focused()
    expect(page.locator(".batch-text")).to_have_text("Envoi : 0 sur 5 · Vous n’êtes plus connecté(e).")
    expect(page.locator("li.receipt", has_text="En attente")).to_have_count(5)
    expect(page.locator("li.receipt.refused")).to_have_count(0)
    assert page.evaluate(WARNS)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert barriers_on(page) == {}
    log_in_again(page, "pas-le-bon")
    expect(asked.get_by_role("alert")).to_be_visible()
    expect(asked.get_by_label("Mot de passe")).to_be_focused()
    asked.get_by_role("button", name="Plus tard").click()
    expect(asked).to_be_hidden()
    page.locator("#batch").get_by_role("button", name="Se connecter").click()
    log_in_again(page, PASSWORD)
    expect(page.locator("li.receipt.accepted")).to_have_count(5, timeout=60 * SECONDS)
    expect(asked).to_be_hidden()
    expect(page.locator(".batch-text")).to_have_text("Envoi : 5 sur 5")
    assert not page.evaluate(WARNS)
    page.get_by_role("button", name="English").click()  # a form of this page that was there before
    expect(page.get_by_role("heading", level=1)).to_have_text("Upload photos")
    forgive_broken_connections(complaints)


def test_it_goes_on_with_an_archive_whose_session_has_ended(page):
    from tests.test_archives import zipped

    log_in(page)
    page.context.clear_cookies(name="sessionid")
    content = zipped({"1.jpg": jpeg(8030)})
    send(page, {"name": "fini.zip", "mimeType": "application/zip", "buffer": content})
    log_in_again(page, PASSWORD)
    expect(page.get_by_role("link", name="Suivre l’import")).to_be_visible(timeout=60 * SECONDS)


def test_it_says_on_the_upload_page_what_became_of_an_archive(page):
    from tests.test_archives import zipped

    log_in(page)
    whole = zipped({"a.jpg": jpeg(8090), "b.jpg": jpeg(8091)})
    for name, content in (("entier.zip", whole), ("abimee.zip", whole[:100])):
        send(page, {"name": name, "mimeType": "application/zip", "buffer": content})
    row = page.locator("li.receipt", has_text="entier.zip")
    expect(row).to_contain_text("Tout est arrivé · 2 fichiers sur 2", timeout=60 * SECONDS)
    expect(page.locator("li.receipt.refused", has_text="abimee.zip")).to_contain_text("Cet import a échoué")


def test_it_asks_for_nothing_when_another_tab_has_logged_in_anew(page, complaints):
    log_in(page)
    tab = page.context.new_page()
    tab.goto("/")
    tab.locator(".account > summary").click()
    tab.get_by_role("button", name="Se déconnecter").click()
    tab.wait_for_url("**/login/")
    log_in(tab)
    send(page, *[photo_file(f"onglet-{seed}.jpg", jpeg(8040 + seed)) for seed in range(5)])
    expect(page.locator("li.receipt.accepted")).to_have_count(5, timeout=60 * SECONDS)
    expect(page.get_by_role("dialog")).to_be_hidden()
    forgive_broken_connections(complaints)


def test_it_goes_on_when_another_tab_logs_in_while_it_asks(page):
    log_in(page)
    page.context.clear_cookies(name="sessionid")
    send(page, photo_file("autre-onglet.jpg", jpeg(8050)))
    page.get_by_role("dialog").get_by_label("Nom d’utilisateur").fill("adm")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back, but nobody has logged in
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("dialog").get_by_label("Nom d’utilisateur")).to_have_value("adm")
    log_in(page.context.new_page())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("li.receipt.accepted")).to_have_count(1, timeout=60 * SECONDS)
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_it_awaits_answers_again_once_somebody_has_logged_in(page, flair):
    log_in(page)
    with paused(flair):
        send(page, photo_file("patiente.jpg", jpeg(8070)))
        words = page.locator("li.receipt.accepted .answer-words")
        expect(words).to_have_text(re.compile("examine"))
        page.context.clear_cookies(name="sessionid")
        expect(words).to_have_text("Vous n’êtes plus connecté(e).")
        log_in(page.context.new_page())
        page.evaluate("awaitAnswers()")
        expect(words).to_have_text(re.compile("examine"))
    expect(words).to_have_text(ANSWER, timeout=60 * SECONDS)


def test_it_gives_up_on_a_page_that_may_not_send(page, complaints):
    """A fresh token does not help: neither an endless circle nor a question for the password."""
    log_in(page)
    page.route(re.compile(r"/upload/check/$"), lambda route: route.fulfill(status=403, body="no"))
    send(page, photo_file("interdite.jpg", jpeg(8060)))
    expect(page.locator("li.receipt.refused", has_text="Réessayez")).to_have_count(1)
    assert page.evaluate(WARNS)  # before somebody leaves: the file can be sent again
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_role("button", name="Réessayer interdite.jpg").click()
    expect(page.locator("li.receipt.accepted")).to_have_count(1, timeout=60 * SECONDS)
    assert not page.evaluate(WARNS)
    forgive_broken_connections(complaints)


def test_it_gives_up_on_an_archive_whose_pieces_it_may_not_send(page, complaints):
    log_in(page)
    page.route(re.compile(r"/parts/0/$"), lambda route: route.fulfill(status=403, body="no"))
    send(page, {"name": "interdite.zip", "mimeType": "application/zip", "buffer": b"PK interdite"})
    expect(page.get_by_role("button", name="Réessayer interdite.zip")).to_be_visible()
    forgive_broken_connections(complaints)


@pytest.mark.parametrize("page", [PHONE], ids=["phone"], indirect=True)
def test_its_progress_stays_in_sight_until_all_is_sent(page):
    log_in(page)
    gate = Gate(page, re.compile(r"/upload/check/$"))
    send(page, *[photo_file(f"place-{seed}.jpg", jpeg(8080 + seed)) for seed in range(6)])
    page.locator("li.receipt").last.scroll_into_view_if_needed()
    expect(page.locator("#batch")).to_be_in_viewport()
    gate.open()
    expect(page.locator("li.receipt.accepted")).to_have_count(6, timeout=60 * SECONDS)
    page.locator("li.receipt").last.scroll_into_view_if_needed()
    expect(page.locator("#batch")).not_to_be_in_viewport()


@pytest.mark.parametrize("page", [PHONE, DESKTOP], ids=["phone", "desktop"], indirect=True)
def test_nothing_jumps_while_photos_are_sent_and_answered(page, request):
    size = request.node.callspec.id
    page.add_init_script(WATCH_SHIFTS)
    log_in(page)
    first = {"phone": 7600, "desktop": 7700}[size]
    send(page, *[photo_file(f"calme-{size}-{seed}.jpg", jpeg(first + seed)) for seed in range(8)])
    expect(page.locator("li.receipt")).to_have_count(8)
    page.wait_for_timeout(300)
    page.evaluate("shifted = 0")  # the list itself came because somebody chose files; from here on nobody touches it
    expect(page.locator("li.receipt.accepted")).to_have_count(8, timeout=60 * SECONDS)
    expect(page.locator("[data-awaited]")).to_have_count(0, timeout=90 * SECONDS)
    shifts = {"/": page.evaluate("shifted")}
    for address in ("/photos/", "/animals/", "/animals/suggestions/", "/imports/", "/breeds/", "/account/"):
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(300)
        shifts[address] = page.evaluate("shifted")
    assert {address: shift for address, shift in shifts.items() if shift > MOST_SHIFT} == {}


@pytest.mark.parametrize("page", [PHONE, DESKTOP], ids=["phone", "desktop"], indirect=True)
def test_axe_finds_no_barrier_among_receipts_of_every_kind(page, complaints, request):
    size = request.node.callspec.id
    log_in(page)
    good = {"phone": 7800, "desktop": 7850}[size]
    send(page, photo_file("un.jpg", jpeg(good)))
    expect(page.locator("[data-awaited]")).to_have_count(0, timeout=90 * SECONDS)
    gate = Gate(page, re.compile(r"/upload/check/$"))
    send(
        page,
        photo_file("encore.jpg", jpeg(good)),
        photo_file("contrat.jpg", b"%PDF-1.7"),
        photo_file("deux.jpg", jpeg(good + 1)),
        photo_file("attend.jpg", jpeg(good + 2)),
    )
    page.get_by_role("button", name="Pause attend.jpg").click()
    gate.open()
    expect(page.locator("li.receipt.known")).to_have_count(1, timeout=60 * SECONDS)
    expect(page.locator("li.receipt.refused")).to_have_count(1)
    expect(page.locator("[data-awaited]")).to_have_count(0, timeout=90 * SECONDS)
    page.route(re.compile(r"/upload/check/$"), lambda route: route.fulfill(status=503, body="down"))
    send(page, photo_file("panne.jpg", jpeg(good + 3)))
    expect(page.locator("li.receipt.refused", has_text="Réessayez")).to_have_count(1)
    forgive_broken_connections(complaints)
    picture_for_docs(page, f"receipts-{size}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert barriers_on(page) == {}
    page.on("dialog", lambda dialog: dialog.accept())  # a file is still held


# -- without scripts --------------------------------------------------------------------------------------------------


@pytest.fixture
def bare_page(chromium, flair):
    """A French phone whose browser runs no scripts."""
    context = chromium.new_context(locale="fr-FR", viewport=PHONE, base_url=flair.url, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(20 * SECONDS)
    yield page
    context.close()


def test_it_sends_finds_and_files_photos_without_scripts(bare_page, tmp_path):
    page = bare_page
    log_in(page)
    files = [tmp_path / f"sans-script-{coat[1:]}.jpg" for coat in ("#714a22", "#c7a06b")]
    for file in files:
        file.write_bytes(encoded(drawn_dog(f"#{file.stem[-6:]}"), "JPEG"))
    page.locator("input[type=file][multiple]").set_input_files(files)
    page.get_by_role("button", name="Envoyer").click()
    expect(page.locator("li.receipt.accepted")).to_have_count(2)
    page.locator("li.receipt").first.get_by_role("link", name="Voir la réponse").click()
    for _ in range(60):  # whoever has no scripts reloads
        if ANSWER.search(page.locator(".answer-words").inner_text()):
            break
        page.wait_for_timeout(1000)
        page.reload()
    expect(page.locator(".answer-words")).to_have_text(ANSWER)
    page.get_by_label("Nom du chien").fill("Sansonnet")
    page.get_by_role("button", name="Classer la photo").click()
    expect(page.get_by_role("link", name="Ouvrir la fiche de Sansonnet")).to_be_visible()

    page.goto("/photos/")
    page.get_by_label("Race, groupe ou nom du chien").fill("sansonnet")
    page.get_by_role("button", name="Chercher").click()
    expect(page.locator(".photo-card")).to_have_count(1)
    page.locator(".facets > summary").click()
    page.get_by_role("link", name=re.compile("Avec une fiche")).click()
    expect(page.locator(".photo-card")).to_have_count(1)
    page.goto("/photos/?filed=no")
    page.locator("#sort").select_option("oldest")
    page.get_by_role("button", name="Trier").click()
    expect(page).to_have_url(re.compile("sort=oldest"))

    page.goto("/photos/?filed=no")
    page.get_by_label(re.compile("Choisir sans-script")).first.check()
    page.get_by_label("Classer les photos choisies dans la fiche de").fill("Sansonnet")
    page.get_by_role("button", name="Classer", exact=True).click()
    page.goto("/animals/?q=sansonnet")
    page.locator(".photo-card").click()
    expect(page.locator("[data-photo]")).to_have_count(2)
    page.locator("[data-photo]").nth(1).locator("summary").click()
    page.get_by_role("button", name="En faire la photo principale").last.click()
    expect(page.locator(".messages")).to_contain_text("représente")
    page.get_by_role("link", name="Modifier la fiche").click()
    page.get_by_label("Notes").fill("Aime les vélos.")
    page.get_by_role("button", name="Enregistrer").click()
    expect(page.locator("main")).to_contain_text("Aime les vélos.")


def test_it_takes_an_archive_and_a_language_without_scripts(bare_page, tmp_path):
    from tests.test_archives import zipped

    page = bare_page
    log_in(page)
    page.goto("/imports/")
    packed = tmp_path / "vieux.zip"
    packed.write_bytes(zipped({"Pacha/1.jpg": jpeg(7950), "Pacha/2.jpg": jpeg(7951)}))
    page.get_by_label("Archive zip", exact=True).set_input_files(packed)
    page.get_by_role("button", name="Envoyer").click()
    for _ in range(60):
        if "Tout est arrivé" in page.locator("#import-progress").inner_text():
            break
        page.wait_for_timeout(1000)
        page.reload()
    page.get_by_role("button", name="Classer ces photos").click()
    page.goto("/animals/?q=pacha")
    expect(page.locator(".photo-card")).to_have_count(1)
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dogs")
