"""`shelter.Photo` fills in what `breeds` declares of a photo."""

import inspect

from breeds.models import AnsweredPhoto, photo_model
from shelter.models import Photo


def declared_only() -> set[str]:
    """The members of `AnsweredPhoto` that have no body of their own."""
    members = {name: getattr(member, "fget", member) for name, member in vars(AnsweredPhoto).items()}
    functions = {name: member for name, member in members.items() if inspect.isfunction(member)}
    return {name for name, function in functions.items() if "raise NotImplementedError" in inspect.getsource(function)}


def test_the_photo_model_is_the_photo_of_the_shelter():
    assert photo_model() is Photo


def test_photo_fills_in_every_member_that_is_only_declared():
    assert len(declared_only()) == 6
    assert declared_only() <= vars(Photo).keys()
