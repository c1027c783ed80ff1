"""The tables of `breeds`, a file for each reason to change. Other packages import from here alone."""

from breeds.models.append_only import AppendOnly, AppendOnlyError, AppendOnlyQuerySet
from breeds.models.breeds import Breed, BreedGroup, Decision
from breeds.models.leases import lease_end, lease_is_over
from breeds.models.photos import (
    BLIND_ONE_IN,
    AnsweredPhoto,
    AnsweredPhotoQuerySet,
    photo_model,
    standing_reviews_prefetch,
)
from breeds.models.predictions import Prediction, pack_floats, unpack_floats
from breeds.models.reviews import Recorded, Review, ReviewRefused
from breeds.models.turns import ReviewTurn
from breeds.models.versions import Activation, ClassifierVersion, ShadowAnswer

__all__ = [
    "BLIND_ONE_IN", "Activation", "AnsweredPhoto", "AnsweredPhotoQuerySet", "AppendOnly", "AppendOnlyError",
    "AppendOnlyQuerySet", "Breed", "BreedGroup", "ClassifierVersion", "Decision", "Prediction", "Recorded",
    "Review", "ReviewRefused", "ReviewTurn", "ShadowAnswer", "lease_end", "lease_is_over", "pack_floats",
    "photo_model", "standing_reviews_prefetch", "unpack_floats",
]  # fmt: skip
