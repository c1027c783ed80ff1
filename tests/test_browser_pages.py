"""Dogs, search and account in Chromium: the paths that need scripts, and no barrier that axe can find."""

# ruff: noqa: F811  (fixtures that are imported are also arguments)

import re
from contextlib import suppress
from importlib import resources

import pytest
from django.urls import NoReverseMatch, reverse
from playwright.sync_api import Page, expect

from tests.support.pictures import drawn_dog, encoded
from tests.test_browser import (  # noqa: F401  (the fixtures)
    ANSWER,
    DESKTOP,
    SECONDS,
    chromium,
    complaints,
    flair,
    log_in,
    page,
    photo_file,
    picture_for_docs,
    send,
)
from tests.test_permissions import ADMIN_MODELS, ADMIN_PAGES, PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
PHONE = {"width": 360, "height": 780}
LONG_NAME = "Llanfairpwllgwyngyllgogerychwyrndrobwlll"


def file_two_photos(page: Page, dog: str) -> None:
    """Send two photos, choose both in the list, and file them under a dog."""
    files = [photo_file(f"{dog}-{coat}.jpg", encoded(drawn_dog(coat), "JPEG")) for coat in COATS[dog]]
    send(page, *files)
    answers = page.locator("li.receipt.accepted .answer-words", has_text=ANSWER)
    expect(answers).to_have_count(2, timeout=60 * SECONDS)
    page.goto("/photos/?filed=no")
    bar = page.locator("#filing")
    expect(bar).to_be_hidden()
    for file in files:
        page.get_by_label(f"Choisir {file['name']}").check()
    with page.expect_response("**/animals/names/*"):
        bar.get_by_label("Classer les photos choisies dans la fiche de").fill(dog)
    page.wait_for_load_state("networkidle")
    bar.get_by_role("button", name="Classer").click()
    expect(page.locator(".messages")).to_contain_text(f"2 photos sont classées dans la fiche de {dog}.")


def barriers_on(page: Page) -> dict[tuple, list]:
    """(colour scheme,) -> what axe finds on the page in it; empty where it finds nothing."""
    barriers = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(AXE)
        found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
        barriers |= {(scheme,): [(rule["id"], rule["nodes"][0]["html"]) for rule in found]} if found else {}
    page.emulate_media(color_scheme="light")
    return barriers


COATS = {
    "Éclair": ["#a8632f", "#d9a441"], "Noisette": ["#5b3a21", "#efe6d6"], "Pirate": ["#20201e", "#c9c4b8"],
    "Caramel": ["#8c4a1f", "#e0b070"], LONG_NAME: ["#6b5b4b", "#b5651d"],
}  # fmt: skip


def order_of(page: Page) -> list[str]:
    return [item.get_attribute("data-photo") for item in page.locator("[data-photo]").all()]


@pytest.mark.parametrize("page", [DESKTOP], indirect=True)
def test_it_files_photos_under_a_dog_and_finds_it_again(page):
    log_in(page)
    file_two_photos(page, "Éclair")
    page.goto("/photos/?q=ECLAIR")
    expect(page.locator(".photo-card")).to_have_count(2)
    page.goto("/animals/?q=eclair")
    page.locator(".photo-card", has_text="Éclair").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Éclair")
    first, second = order_of(page)
    page.locator(f"[data-photo='{first}'] .menu summary").click()
    page.get_by_role("button", name="La reculer d’une place").first.click()
    page.wait_for_url(re.compile(r"/animals/\d+/#photos$"))
    assert order_of(page) == [second, first]
    with page.expect_response(lambda response: "/photo/" in response.url and response.request.method == "POST"):
        page.locator(f"[data-photo='{first}'] .photo-card").drag_to(
            page.locator(f"[data-photo='{second}'] .photo-card")
        )
    page.reload()
    assert order_of(page) == [first, second]


@pytest.mark.parametrize("page", [PHONE, DESKTOP], ids=["phone", "desktop"], indirect=True)
def test_axe_finds_no_barrier(page, request):
    size = request.node.callspec.id
    log_in(page)
    name = {"phone": "Noisette", "desktop": "Caramel"}[size]
    file_two_photos(page, name)
    page.goto("/animals/")
    dog = page.locator(".photo-card", has_text=name).get_attribute("href")
    page.goto(dog)
    photo = page.locator("[data-photo] .photo-card").first.get_attribute("href")
    addresses = {
        "dogs": "/animals/", "dog": dog, "dog-edit": f"{dog}edit/", "suggestions": "/animals/suggestions/",
        "search": "/photos/", "no-match": "/photos/?q=licorne", "photo-page": photo,
        "lookalikes": f"{photo}lookalikes/", "found": "/lookalikes/", "account": "/account/", "breeds": "/breeds/",
        "upload-page": "/", "imports": "/imports/", "import": "/imports/1/", "dog-new": "/animals/new/",
        "import-dogs": "/imports/1/suggestions/", "password": "/accounts/password_change/",
        "review": "/review/", "grid": "/review/grid/", "quality": "/review/quality/",
        "versions": "/models/", "version": "/models/1/", "activate": "/models/1/activate/",
    }  # fmt: skip
    barriers = {}
    for name, address in addresses.items():
        page.goto(address)
        page.wait_for_load_state("networkidle")
        if name in ("dogs", "dog", "search"):
            picture_for_docs(page, f"{name}-{size}")
        if name == "found":
            file = photo_file("perdu.jpg", encoded(drawn_dog("#a8632f"), "JPEG"))
            page.locator("input[type=file]").set_input_files([file])
            page.get_by_role("button", name="Chercher").click()
            expect(page.locator(".cards li").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        barriers |= {(name, *where): found for where, found in barriers_on(page).items()}
    assert barriers == {}


@pytest.mark.parametrize("page", [PHONE, DESKTOP], ids=["phone", "desktop"], indirect=True)
def test_axe_finds_no_barrier_for_who_is_not_logged_in(page):
    barriers = {}
    for address in ("/accounts/login/", "/accounts/password_reset/", "/accounts/password_reset/done/"):
        page.goto(address)
        barriers |= {(address, *where): found for where, found in barriers_on(page).items()}
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), address
    assert barriers == {}


def test_it_makes_a_key_and_revokes_it(page):
    log_in(page)
    page.goto("/account/")
    page.get_by_label("À quoi sert-elle ?").fill("Site")
    page.get_by_role("button", name="Créer une clé").click()
    assert page.locator(".key").inner_text().startswith("flair_")
    page.get_by_role("button", name="Révoquer Site").click()
    expect(page.locator(".messages")).to_contain_text("n’ouvre plus rien")
    expect(page.locator(".tokens")).to_have_count(0)


def pages_of_the_matrix(photo: str, animal: str) -> dict[str, str]:
    """{name: address} of all that `tests/test_permissions.py` lists and that can be opened."""
    numbers = {"photo": photo, "review_lookalikes": photo, "animal": animal}
    others = {
        "photo_file": [photo, "preview"], "password_reset_confirm": ["MQ", "set-password"],
        "admin:app_list": ["shelter"], "admin:auth_user_password_change": [1],
    }  # fmt: skip
    opened = [name for name, methods in (PAGES | ADMIN_PAGES).items() if methods.get("GET", (None, 0))[1] == 200]
    addresses = {}
    for name in opened:
        if "-" in name:
            continue  # calls of the API; `api_docs` is its page
        of = next((row for row in numbers if name == row or name.startswith(f"{row}_")), None)
        for arguments in [others.get(name, []), [numbers.get(of, 1)]]:
            with suppress(NoReverseMatch):
                addresses[name] = reverse(name, args=arguments)
                break
    for model in ADMIN_MODELS:
        addresses[model] = reverse(f"admin:{model}_changelist")
    addresses["admin photo"] = reverse("admin:shelter_photo_change", args=[photo])
    addresses["admin photo history"] = reverse("admin:shelter_photo_history", args=[photo])
    addresses["admin photo delete"] = reverse("admin:shelter_photo_delete", args=[photo])
    addresses["admin account"] = reverse("admin:auth_user_change", args=[1])
    addresses["admin new dog"] = reverse("admin:shelter_animal_add")
    return addresses


def test_no_page_asks_for_what_its_own_policy_refuses(page, complaints):
    """Those of the admin and of the API too: a script or style that the policy stops is an error on the console."""
    log_in(page)
    file_two_photos(page, "Pirate")
    page.goto("/animals/?q=pirate")
    animal = re.search(r"\d+", page.locator(".photo-card").first.get_attribute("href"))[0]
    page.goto(f"/animals/{animal}/")
    found, opened = {}, 0
    for name, address in pages_of_the_matrix(order_of(page)[0], animal).items():
        answer = page.request.get(address)
        assert answer.status == 200, (name, answer.status)
        if "text/html" not in answer.headers["content-type"] or "<html" not in answer.text():
            continue  # figures, files, parts of pages
        page.goto(address, wait_until="networkidle" if name in ("api_docs", "upload") else "load")
        opened += 1
        if complaints:
            found[name] = complaints.copy()
            complaints.clear()
    assert found == {}
    assert opened > 50


@pytest.mark.parametrize("page", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"])
def test_it_shows_what_the_api_can_do_in_its_width_and_without_a_complaint(page):
    page.goto("/api/v1/docs/")
    page.locator("#operations-predict-predict button").first.click()
    expect(page.locator("#operations-predict-predict .responses-wrapper")).to_contain_text("brittany_spaniel")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("page", [PHONE], indirect=True, ids=["phone"])
def test_a_long_name_without_a_space_widens_no_page_of_a_phone(page):
    log_in(page)
    file_two_photos(page, LONG_NAME)
    width = "document.documentElement.scrollWidth"
    widths = {"message": page.evaluate(width)}
    page.goto(f"/photos/?q={LONG_NAME}")
    photo = page.locator(".photo-card").first.get_attribute("href")
    page.goto("/animals/?q=Llan")
    record = page.locator(".photo-card").first.get_attribute("href")
    for address in (page.url, record, f"{record}edit/", photo, f"{photo}lookalikes/", "/photos/", "/", "/imports/"):
        page.goto(address)
        widths[address] = page.evaluate(width)
    assert set(widths.values()) == {PHONE["width"]}, widths
