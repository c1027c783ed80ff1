"""French is what most people see: nothing untranslated, nothing stale."""

import io
from pathlib import Path

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(settings.BASE_DIR)
FOLDER = ROOT / "locale" / "fr" / "LC_MESSAGES"
# As `makemessages` passes them to xgettext.
KEYWORDS = DEFAULT_KEYWORDS | {
    "gettext_noop": None,
    "gettext_lazy": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}


@pytest.fixture(scope="module")
def catalogue():
    with (FOLDER / "django.po").open("rb") as file:
        return read_po(file, locale="fr", abort_invalid=True)


def sentences(messages) -> dict[str, str]:
    """Plural forms, which come as lists or tuples, as one text each."""

    def text(forms) -> str:
        return forms if isinstance(forms, str) else "|".join(forms)

    return {text(message.id): text(message.string) for message in messages if message.id}


def sentences_in(source: str, *, is_template: bool) -> set:
    """(context, id or ids) of each sentence that a Python file or a template marks for translation."""
    if is_template:  # Python calls between lines that are blanked out, but keep their indentation
        source = "\n".join(line.lstrip() for line in templatize(source).splitlines())
    found = extract("python", io.BytesIO(source.encode()), keywords=KEYWORDS)
    return {(context, message) for _line, message, _comments, context in found}


def test_it_finds_sentences_in_code_and_templates():
    code = 'from x import gettext_lazy as _\n_("a")\nngettext("%(n)d b", "%(n)d bs", n)\npgettext("c", "d")\n'
    assert sentences_in(code, is_template=False) == {(None, "a"), (None, ("%(n)d b", "%(n)d bs")), ("c", "d")}
    template = "<p>\n  {% translate 'a' %}\n {% blocktranslate %}{{ n }} b{% endblocktranslate %} {{ _('c') }}</p>"
    assert sentences_in(template, is_template=True) == {(None, "a"), (None, "%(n)s b"), (None, "c")}


def test_it_has_the_sentences_of_code_and_templates_and_no_others(catalogue):
    """Otherwise run `make messages` and translate."""
    marked = set()
    for folder in ("shelter", "breeds", "templates"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".html", ".txt"):
                marked |= sentences_in(path.read_text(), is_template=path.suffix != ".py")
    translated = {(message.context, message.id) for message in catalogue if message.id}
    assert marked - translated == set()
    assert translated - marked == set()
    assert list(catalogue.obsolete) == []


def test_it_has_a_french_sentence_for_every_english_one(catalogue):
    assert [message.id for message in catalogue if message.id and (not message.string or message.fuzzy)] == []


def test_its_compiled_file_holds_what_the_source_says(catalogue):
    with (FOLDER / "django.mo").open("rb") as file:
        assert sentences(read_mo(file)) == sentences(catalogue)


def test_it_keeps_the_placeholders_of_every_sentence(catalogue):
    assert [(message.id, list(errors)) for message in catalogue if (errors := list(message.check(catalogue)))] == []
