"""The answer of a photo as its page shows it."""

import pytest
from django.urls import reverse

from breeds.models import Prediction
from shelter.pages.answers import shown_candidates
from tests.support.factories import an_answered_photo


def candidates(*probabilities: float) -> list[dict]:
    return [{"label": f"breed_{n}", "probability": probability} for n, probability in enumerate(probabilities)]


@pytest.mark.parametrize(
    ("probabilities", "count"),
    [((0.9, 0.0499, 0.01), 1), ((0.9, 0.05, 0.01), 2), ((0.4, 0.3, 0.2, 0.1), 3), ((0.04, 0.03, 0.02), 1), ((), 0)],
)
def test_candidates_from_five_percent_on_get_a_bar_and_the_first_always(probabilities, count):
    assert shown_candidates(candidates(*probabilities)) == candidates(*probabilities)[:count]


def test_the_page_of_a_photo_shows_no_bar_for_an_unlikely_breed(staff, anne, classifier):
    photo = an_answered_photo(anne)
    Prediction.objects.update(
        candidates=[{"label": "beagle", "probability": 0.9}, {"label": "basset", "probability": 0.02}]
    )
    page = staff.get(reverse("photo", args=[photo.pk]), headers={"Accept-Language": "en"}).content.decode()
    assert page.count("<meter") == 1
