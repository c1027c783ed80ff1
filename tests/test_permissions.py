"""Who may open what. A new address without a row here fails the last test."""

import pytest
from django.urls import get_resolver, reverse

from breeds.models import ClassifierVersion
from shelter.animals import Animal
from shelter.imports import Import
from shelter.models import Photo
from shelter.uploads import upload_into
from tests.support import upload

# name of the address -> status for a stranger, for staff (Anne), for the administrator (Chloé)
PAGES = {
    "upload": (302, 200, 200),
    "import_list": (302, 200, 200),
    "import": (302, 200, 200),
    "import_progress": (302, 200, 200),
    "import_receipts": (302, 200, 200),
    "photo_list": (302, 200, 200),
    "photo": (302, 200, 200),
    "photo_answer": (302, 200, 200),
    "photo_file": (302, 302, 200),  # the original: Anne is sent to the preview
    "photo_csv": (302, 200, 200),
    "photo_zip": (302, 200, 200),
    "animal_list": (302, 200, 200),
    "animal": (302, 200, 200),
    "animal_new": (302, 200, 200),
    "animal_edit": (302, 200, 200),
    "animal_names": (302, 200, 200),
    "animal_suggestions": (302, 200, 200),
    "breed_list": (302, 200, 200),
    "account": (302, 200, 200),
    "lookalikes": (302, 200, 200),
    "photo_lookalikes": (302, 200, 200),
    "password_reset": (200, 200, 200),
    "password_reset_done": (200, 200, 200),
    "password_reset_confirm": (200, 200, 200),
    "password_reset_complete": (200, 200, 200),
    "password_change": (302, 200, 200),
    "password_change_done": (302, 200, 200),
    "login": (200, 200, 200),
    "healthz": (200, 200, 200),
    "schema": (200, 200, 200),
    "api_docs": (200, 200, 200),
    "photo-list": (401, 200, 200),
    "photo-detail": (401, 200, 200),
    "photo-similar": (401, 409, 409),  # it has no answer yet
    # these take POST alone
    "photo_review": (302, 405, 405),
    "review_withdraw": (302, 405, 405),
    "review_queue": (302, 403, 200),
    "review_grid": (302, 403, 200),
    "review_lookalikes": (302, 403, 200),
    "quality": (302, 403, 200),
    "model_list": (302, 403, 200),
    "model_progress": (302, 403, 200),
    "model": (302, 403, 200),
    "model_trial_progress": (302, 403, 200),
    "model_activate": (302, 403, 200),
    "model_try": (302, 403, 405),
    "model_again": (302, 403, 405),
    "review_later": (302, 405, 405),
    "review_undo": (302, 405, 405),
    "photo-reviews": (401, 405, 405),
    "photo-check": (401, 405, 405),
    "upload_check": (302, 405, 405),
    "import_dogs": (302, 405, 405),
    "import_part": (302, 405, 405),
    "make_token": (302, 405, 405),
    "revoke_token": (302, 405, 405),
    "save_search": (302, 405, 405),
    "delete_search": (302, 405, 405),
    "file_photos": (302, 405, 405),
    "animal_photo": (302, 405, 405),
    "logout": (405, 405, 405),
    "set_language": (302, 302, 302),
    "predict": (401, 405, 405),
}
ADMIN_PAGES = ["admin:index"] + [
    f"admin:{model}_changelist"
    for model in (
        "shelter_photo", "shelter_animal", "shelter_apitoken", "shelter_import", "admin_logentry",
        "breeds_breed", "breeds_prediction", "breeds_classifierversion", "breeds_review", "breeds_activation",
        "auth_user", "auth_group",
    )
]  # fmt: skip
PEOPLE = ["stranger", "anne", "chloe"]


@pytest.fixture
def photo(anne, breeds):
    photo = upload_into(Import.objects.upload_of(anne, None), upload()).photo
    Photo.objects.filter(pk=photo.pk).file_under(Animal.objects.create(name="Rex"))
    photo.refresh_from_db()
    return photo


def address(name: str, photo) -> str:
    if name.startswith("model_") or name == "model":
        ClassifierVersion.objects.get_or_create(pk=photo.pk, defaults={"image_size": 1})
    if name == "photo_file":
        return reverse(name, args=[photo.pk, "original"])
    if name.startswith("import") and name != "import_list":
        batch = photo.receipts.get().batch
        return reverse(name, args=[batch.pk, 0] if name == "import_part" else [batch.pk])
    if name in {"animal", "animal_edit", "animal_photo"}:
        return reverse(name, args=[photo.animal.pk])
    if name == "password_reset_confirm":
        return reverse(name, args=["MQ", "set-password"])
    of_one = name in {
        "photo", "photo_answer", "photo_lookalikes", "photo_review", "photo-detail", "photo-similar", "photo-reviews",
        "review_later", "review_lookalikes", "review_withdraw", "delete_search", "revoke_token", "model",
        "model_trial_progress", "model_activate", "model_try",
    }  # fmt: skip
    return reverse(name, args=[photo.pk] if of_one else [])


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("name", PAGES)
def test_it_opens_each_page_to_the_right_people(client, request, photo, name, person):
    if person != "stranger":
        client.force_login(request.getfixturevalue(person))
    assert client.get(address(name, photo)).status_code == PAGES[name][PEOPLE.index(person)]


@pytest.mark.parametrize(("person", "status"), [("stranger", 302), ("anne", 302), ("chloe", 200)])
@pytest.mark.parametrize("name", ADMIN_PAGES)
def test_it_opens_the_admin_to_administrators_alone(client, request, photo, classifier, name, person, status):
    classifier.row()
    if person != "stranger":
        client.force_login(request.getfixturevalue(person))
    assert client.get(reverse(name)).status_code == status


def test_it_shows_an_administrator_the_record_of_a_photo(client, chloe, photo):
    client.force_login(chloe)
    assert client.get(reverse("admin:shelter_photo_change", args=[photo.pk])).status_code == 200


def test_it_lets_an_administrator_send_photos_to_the_classifier_again(client, chloe, photo):
    photo.predictions.update(status="failed")
    client.force_login(chloe)
    client.post(reverse("admin:shelter_photo_changelist"), {"action": "classify_again", "_selected_action": [photo.pk]})
    assert photo.predictions.filter(status="pending").exists()


def test_it_answers_404_for_a_photo_that_is_not_there(staff, db):
    assert staff.get(reverse("photo", args=[999])).status_code == 404


def test_it_locks_an_account_for_a_while_after_many_wrong_passwords(client, anne, settings):
    for _ in range(settings.AXES_FAILURE_LIMIT):
        client.post(reverse("login"), {"username": "anne", "password": "wrong"})
    response = client.post(reverse("login"), {"username": "anne", "password": "un-mot-de-passe"})
    assert response.status_code == 429


def test_it_has_a_row_for_every_address():
    names = {
        pattern.name or "" for pattern in _flattened(get_resolver().url_patterns) if getattr(pattern, "name", None)
    }
    assert names == set(PAGES)


def _flattened(patterns):
    for pattern in patterns:
        if getattr(pattern, "app_name", None) == "admin":
            continue
        if hasattr(pattern, "url_patterns"):
            yield from _flattened(pattern.url_patterns)
        else:
            yield pattern


def test_it_sends_a_strict_content_security_policy(staff, db):
    policy = staff.get(reverse("upload"))["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
