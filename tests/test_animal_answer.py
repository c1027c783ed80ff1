"""One answer for one animal, from the answers to its photos."""

from dataclasses import replace

import numpy as np
import pytest
from django.utils.translation import override

from breeds.fusion import fuse_answers
from breeds.models import Breed, ClassifierVersion, Prediction, pack_floats, unpack_floats
from breeds.tasks import classify_photos
from shelter.models import Animal, Photo
from tests.support.factories import a_dog, a_photo, an_answered_photo

pytestmark = pytest.mark.django_db

BEAGLE, BASSET, EITHER = [0.95, 0.05, 0], [0.05, 0.95, 0], [0.6, 0.4, 0]


@pytest.fixture
def rex():
    return a_dog()


@pytest.fixture
def answered(anne, classifier, rex):
    """File a photo under Rex that is answered with these probabilities (beagle, basset, dingo)."""

    def file(probs, energy=9.0) -> Photo:
        classifier.answer = replace(classifier.answer, probs=np.array(probs), energy=energy)
        return an_answered_photo(anne, animal=rex)

    return file


@pytest.fixture
def next_version(classifier):
    def take_over(version="fake-2"):
        classifier.answer = replace(classifier.answer, version=version)

    return take_over


def again(photo, *, probs=BEAGLE):
    photo.enqueue()
    assert classify_photos() == 1


def test_it_fuses_the_photos_of_an_animal(rex, answered):
    photos = [answered(BEAGLE), answered([0.65, 0.35, 0])]

    answer = rex.answer

    assert (answer.decision, answer.label, answer.group) == ("breed", "beagle", "scenthounds")
    assert answer.photos == tuple(photo.pk for photo in photos)
    assert (answer.left_out, answer.odd, answer.warning) == ((), (), "")
    assert answer.probability == answer.candidates[0]["probability"] == pytest.approx(0.856, abs=0.001)


def test_it_says_it_in_words_with_its_reasons(rex, answered):
    answered(BEAGLE), answered(BEAGLE)

    with override("fr"):
        assert Animal.objects.get().answer.words == "Ressemble à un beagle (95,0\u00a0%)"
        assert Animal.objects.get().answer.why == [
            "«\u00a0beagle\u00a0» atteint 95,0\u00a0%. Flair nomme une race à partir de 70,0\u00a0%."
        ]
    with override("en"):
        assert Animal.objects.get().answer.words == "Looks like a beagle (95.0%)"


def test_it_has_no_answer_for_an_animal_without_answered_photos(rex, anne, classifier):
    assert rex.answer is None
    a_photo(anne, animal=rex)
    assert Animal.objects.get().answer is None


def test_it_warns_of_a_photo_that_seems_to_show_another_dog(rex, answered):
    answered(BEAGLE), answered(EITHER)
    intruder = answered([0.001, 0.999, 0])
    answered(BEAGLE)

    assert rex.answer.odd == (intruder.pk,)
    with override("fr"):
        assert rex.answer.warning.startswith("Autre chien")


def test_it_warns_of_two_photos_that_disagree(rex, answered):
    pair = answered(BEAGLE), answered(BASSET)

    assert rex.answer.odd == tuple(photo.pk for photo in pair)
    with override("fr"):
        assert "ces deux photos" in rex.answer.warning


def test_it_leaves_out_a_photo_without_a_dog(rex, answered):
    answered(BEAGLE)
    lawn = answered(BASSET, energy=1.0)

    assert (rex.answer.label, rex.answer.left_out, rex.answer.odd) == ("beagle", (lawn.pk,), ())


def test_it_leaves_out_a_photo_in_which_a_person_saw_no_dog(rex, answered):
    answered(BEAGLE)
    lawn = answered(BASSET)
    Photo.objects.filter(pk=lawn.pk).update(source=Photo.Source.HUMAN, decision="not_a_dog", breed=None)

    assert (rex.answer.label, rex.answer.odd) == ("beagle", ())
    assert lawn.pk not in rex.answer.photos


def test_it_leaves_alone_what_people_decided(rex, answered):
    photo = answered(BEAGLE)
    basset = Breed.objects.get(slug="basset")
    Photo.objects.filter(pk=photo.pk).update(source=Photo.Source.HUMAN, decision="breed", breed=basset)

    assert rex.answer.label == "beagle"
    assert Photo.objects.get(pk=photo.pk).breed == basset


def test_it_takes_the_newest_answer_to_each_photo(rex, answered, classifier):
    photo = answered(BASSET)
    classifier.answer = replace(classifier.answer, probs=np.array(BEAGLE))
    again(photo)

    assert (rex.answer.label, rex.answer.photos) == ("beagle", (photo.pk,))


def test_it_never_mixes_versions_and_takes_the_one_that_answered_most_photos(rex, answered, next_version):
    photos = [answered(BEAGLE), answered(BEAGLE)]
    next_version()
    answered(BASSET)
    assert (rex.answer.version.version, rex.answer.label) == ("fake-1", "beagle")

    again(photos[0])
    newer = Animal.objects.get().answer
    assert newer.version.version == "fake-2"
    assert len(newer.photos) == 2


def test_it_needs_no_more_queries_for_more_photos(rex, answered, django_assert_num_queries):
    for _ in range(4):
        answered(BEAGLE)

    with django_assert_num_queries(1):
        assert len(rex.answer.photos) == 4


def test_it_cannot_fuse_the_answers_of_a_version_whose_thresholds_were_not_kept(rex, answered):
    answered(BEAGLE)
    ClassifierVersion.objects.update(thresholds={}, label_groups=[])

    assert rex.answer is None


def test_it_fuses_only_answers_that_kept_their_probabilities(rex, answered):
    answered(BEAGLE)
    older = answered(BASSET)
    Prediction.objects.filter(photo=older).update(probs=None, embedding=None)

    assert len(rex.answer.photos) == 1


def test_it_fuses_nothing_from_nothing():
    assert fuse_answers([]) is None


def test_it_keeps_floats_in_two_bytes_each():
    values = np.array([0.1, 1e-9, 70_000.0, -1e9])

    packed = pack_floats(values)

    assert (len(packed), pack_floats(None)) == (8, None)
    np.testing.assert_allclose(unpack_floats(memoryview(packed)), [0.1, 0, 65504, -65504], rtol=1e-3)
    assert packed[:2] == b"\x66\x2e"  # 0.1 in IEEE 754 half precision is 0x2E66; the low byte comes first
