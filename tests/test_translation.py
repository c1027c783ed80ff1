"""French is what most people see: nothing untranslated, nothing stale."""

from pathlib import Path

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings

FOLDER = Path(settings.BASE_DIR) / "locale" / "fr" / "LC_MESSAGES"


@pytest.fixture(scope="module")
def catalogue():
    with (FOLDER / "django.po").open("rb") as file:
        return read_po(file, locale="fr", abort_invalid=True)


def sentences(messages) -> dict[str, str]:
    """Plural forms, which come as lists or tuples, as one text each."""

    def text(forms) -> str:
        return forms if isinstance(forms, str) else "|".join(forms)

    return {text(message.id): text(message.string) for message in messages if message.id}


def test_it_has_a_french_sentence_for_every_english_one(catalogue):
    assert [message.id for message in catalogue if message.id and (not message.string or message.fuzzy)] == []


def test_its_compiled_file_holds_what_the_source_says(catalogue):
    with (FOLDER / "django.mo").open("rb") as file:
        assert sentences(read_mo(file)) == sentences(catalogue)


def test_it_keeps_the_placeholders_of_every_sentence(catalogue):
    assert [(message.id, list(errors)) for message in catalogue if (errors := list(message.check(catalogue)))] == []
