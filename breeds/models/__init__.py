"""The tables of `breeds`, a file for each reason to change. Other packages import from here alone."""

from breeds.models.breeds import Breed, BreedGroup, Decision
from breeds.models.predictions import Prediction, lease_is_over, pack_floats, unpack_floats
from breeds.models.reviews import AppendOnly, Recorded, Review, ReviewRefused
from breeds.models.turns import ReviewTurn
from breeds.models.versions import Activation, ClassifierVersion, ShadowAnswer

__all__ = [
    "Activation",
    "AppendOnly",
    "Breed",
    "BreedGroup",
    "ClassifierVersion",
    "Decision",
    "Prediction",
    "Recorded",
    "Review",
    "ReviewRefused",
    "ReviewTurn",
    "ShadowAnswer",
    "lease_is_over",
    "pack_floats",
    "unpack_floats",
]
