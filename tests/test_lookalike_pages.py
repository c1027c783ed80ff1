"""Found or lost: a shortlist of dogs for a photo."""

from dataclasses import replace

import numpy as np
import pytest
from django.urls import reverse

from shelter.models import Photo
from tests.support.factories import a_dog, an_answered_photo, upload
from tests.support.pictures import jpeg

RED, REDDISH, GREEN = [10.0, 0, 0], [7.0, 1.0, 0], [0, 3.0, 0]


@pytest.fixture
def answered(anne, classifier):
    """Store a photo that is answered with these features."""

    def store(embedding, animal=None) -> Photo:
        classifier.answer = replace(classifier.answer, embedding=np.array(embedding))
        return an_answered_photo(anne, animal=animal)

    return store


def test_it_lists_each_dog_once_the_nearest_first(staff, answered, classifier, stored_files):
    rex, bella = a_dog("Rex"), a_dog("Bella")
    green, red, single = answered(GREEN, bella), answered(RED, rex), answered(REDDISH)
    answered(REDDISH, rex)
    before, count = stored_files(), Photo.objects.count()
    classifier.answer = replace(classifier.answer, embedding=np.array(RED))
    page = staff.post(reverse("lookalikes"), {"image": upload(jpeg(99), "trouvé.jpg")})
    assert [card.photo for card in page.context["cards"]] == [red, single, green]
    assert page.context["cards"][0].similarity == pytest.approx(1, abs=1e-3)
    assert page.context["searched"] == 4
    assert (stored_files(), Photo.objects.count()) == (before, count)


def test_it_lists_other_dogs_for_a_photo_of_the_index(staff, answered):
    rex = a_dog("Rex")
    red, other = answered(RED, rex), answered(REDDISH)
    answered(RED, rex)
    page = staff.get(reverse("photo_lookalikes", args=[red.pk]))
    assert [card.photo for card in page.context["cards"]] == [other]


@pytest.mark.parametrize(
    ("content", "message"), [(b"%PDF-1.7", "n’est pas une photo"), (jpeg(7)[:900], "incomplète"), (None, "obligatoire")]
)
def test_it_says_what_is_wrong_with_the_photo(staff, answered, content, message):
    data = {} if content is None else {"image": upload(content, "chien.jpg")}
    page = staff.post(reverse("lookalikes"), data)
    assert page.status_code == 422
    assert message in page.content.decode()


def test_it_shows_what_the_model_says_of_all_photos_of_a_dog(staff, answered):
    rex = a_dog("Rex")
    for embedding in (RED, GREEN):
        answered(embedding, rex)
    page = staff.get(rex.get_absolute_url())
    assert page.context["answer"].photos == tuple(rex.photos.order_by("pk").values_list("pk", flat=True))
    text = page.content.decode()
    assert "Ressemble à un beagle" in text
    assert "2 photos comptent ensemble." in text
