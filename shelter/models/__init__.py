"""The tables of the shelter, a module for each kind of row. Other packages import from here."""

from shelter.models.animals import Animal
from shelter.models.fingerprints import Fingerprint
from shelter.models.imports import Import, ImportItem
from shelter.models.kept_answers import KeptAnswer
from shelter.models.photos import Photo, PhotoQuerySet
from shelter.models.removals import Removal
from shelter.models.saved_searches import SavedSearch
from shelter.models.tokens import ApiToken
from shelter.models.webhooks import Delivery, Event, Webhook
from shelter.models.workers import WorkerSeen

__all__ = [
    "Animal", "ApiToken", "Delivery", "Event", "Fingerprint", "Import", "ImportItem", "KeptAnswer", "Photo",
    "PhotoQuerySet", "Removal", "SavedSearch", "Webhook", "WorkerSeen",
]  # fmt: skip
