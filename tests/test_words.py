"""Reasons, decisions and dates as people read them."""

from dataclasses import asdict
from datetime import date, datetime

import pytest
from django import forms
from django.utils.formats import date_format
from django.utils.translation import override

from breeds import words
from breeds.models import Breed
from ml.serving.decision import NEVER, Because, Reason

NBSP = "\u00a0"

SAID = {
    Reason(Because.NO_DOG, 1.2, 2.0): (
        "Rien sur cette photo ne ressemble à un chien.",
        "Nothing in this photo looks like a dog.",
    ),
    Reason(Because.BREED_SURE, 0.912, 0.7762, ("brittany_spaniel",), 0.05): (
        "« épagneul breton » atteint 91,2 %. Flair nomme une race à partir de 77,6 %.",
        "“Brittany spaniel” reaches 91.2%. Flair names a breed from 77.6%.",
    ),
    Reason(Because.BREEDS_CLOSE, 0.45, 0.7, ("beagle", "pug"), 0.4): (
        "« beagle » est la race la plus probable (45,0 %), puis « carlin » (40,0 %). "
        "Flair nomme une race à partir de 70,0 %.",
        "“beagle” is the likeliest (45.0%), “pug” comes next (40.0%). Flair names a breed from 70.0%.",
    ),
    Reason(Because.BREED_NOT_SURE, 0.3, NEVER, ("pug",), 0.2): (
        "Aucune race ne se détache : la plus proche, « carlin », n’atteint que 30,0 %. "
        "Ce modèle ne nomme jamais une race de lui-même.",
        "No breed stands out: the closest, “pug”, reaches 30.0% only. This classifier names no breed on its own.",
    ),
    Reason(Because.UNFAMILIAR, 3.0, 10.0, ("beagle",)): (
        "« beagle » s’en rapproche le plus, mais ce chien est peut-être d’une race que Flair ne connaît pas.",
        "“beagle” comes closest, but this dog may be of a breed that Flair does not know.",
    ),
    Reason(Because.GROUP_SURE, 0.9, 0.8, ("terriers",)): (
        "Les races du groupe « terriers » atteignent ensemble 90,0 %. Flair nomme un groupe à partir de 80,0 %.",
        "The breeds of the group “terriers” together reach 90.0%. Flair names a group from 80.0%.",
    ),
    Reason(Because.GROUP_NOT_SURE, 0.5, NEVER, ("terriers",)): (
        "Aucun groupe ne se détache non plus : le plus proche, « terriers », n’atteint que 50,0 %. "
        "Ce modèle ne nomme jamais un groupe de lui-même.",
        "No group stands out either: the closest, “terriers”, reaches 50.0% only. "
        "This classifier names no group on its own.",
    ),
    Reason(Because.WILD_CANID_MASKED, 0.55, names=("dingo",)): (
        "Un canidé sauvage (dingo) semblait plus probable : 55,0 %. "
        "Flair n’en propose jamais pour un chien de refuge.",
        "A wild canid (dingo) seemed likelier: 55.0%. Flair never offers one for a shelter's dog.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("probability", "digits", "said"),
    [(0.6158, 1, "61.6%"), (0.9994, 1, "99.9%"), (0.99996, 1, "99.9%"), (1, 1, "100.0%"), (0.0, 1, "0.0%"),
     (0.997, 0, "100%"), (1, 0, "100%"), (1.01, 1, "101.0%")],
)  # fmt: skip
def test_it_rounds_no_probability_to_certainty_and_shares_as_usual(probability, digits, said):
    with override("en"):
        assert words.percent(probability, digits) == said


@pytest.mark.parametrize(
    ("reason", "french", "english"), [(r, *s) for r, s in SAID.items()], ids=[r.code for r in SAID]
)
def test_it_says_a_reason_in_both_languages(reason, french, english):
    said = words.in_languages(lambda: words.why([asdict(reason)])[0].replace(NBSP, " "))

    assert said == {"fr": french, "en": english}


def test_it_has_words_for_every_reason_that_there_is():
    assert {reason.code for reason in SAID} == set(Because)


def test_it_speaks_of_labels_and_groups_that_the_catalogue_lacks():
    reasons = [
        Reason(Because.BREED_SURE, 0.9, 0.7, ("village_dog",), 0.05),
        Reason(Because.GROUP_SURE, 0.9, 0.7, ("setters",)),
    ]
    with override("en"):
        first, second = words.why([asdict(reason) for reason in reasons])

    assert first.startswith("“village dog” reaches")
    assert "“setters”" in second


@pytest.mark.parametrize(
    ("language", "first", "second"),
    [("en", "American Staffordshire terrier, confirmed", "Poodle, confirmed"),
     ("fr", "American staffordshire terrier, confirmé", "Épagneul, confirmé")],
)  # fmt: skip
def test_it_begins_the_line_of_a_decision_with_a_capital(language, first, second):
    staffordshire = Breed(name_fr="american staffordshire terrier", name_en="American Staffordshire terrier")
    poodle = Breed(name_fr="épagneul", name_en="poodle")
    with override(language):
        assert words.decided("breed", staffordshire, None, "") == first
        assert words.decided("breed", poodle, None, "") == second


@pytest.mark.parametrize(
    ("language", "name", "written"),
    [("en", "DATE_FORMAT", "1 March 2026"), ("fr", "DATE_FORMAT", "1 mars 2026"),
     ("en", "DATETIME_FORMAT", "1 March 2026, 16:05"), ("fr", "DATETIME_FORMAT", "1 mars 2026 à 16 h 05"),
     ("en", "TIME_FORMAT", "16:05"), ("fr", "TIME_FORMAT", "16 h 05"),
     ("en", "SHORT_DATE_FORMAT", "1 Mar 2026"), ("fr", "SHORT_DATE_FORMAT", "01/03/2026"),
     ("en", "SHORT_DATETIME_FORMAT", "1 Mar 2026, 16:05"), ("fr", "SHORT_DATETIME_FORMAT", "01/03/2026 à 16 h 05")],
)  # fmt: skip
def test_it_writes_a_date_without_a_doubt_about_day_and_month(language, name, written):
    with override(language):
        assert date_format(datetime(2026, 3, 1, 16, 5), name).replace(NBSP, " ") == written


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("typed", ["2026-03-01", "01/03/2026"])
def test_it_reads_dates_of_the_browser_and_dates_with_the_day_first(language, typed):
    with override(language):
        assert forms.DateField().clean(typed) == date(2026, 3, 1)
        assert forms.DateTimeField().clean(f"{typed} 16:05").replace(tzinfo=None) == datetime(2026, 3, 1, 16, 5)
