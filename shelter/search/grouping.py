"""Which photos that are filed under no dog probably show the same one: by time, look and answer, as far as known.

Nothing here waits for the classifier: a camera's own clock groups photos that nobody has looked at yet, and what the
classifier says later divides or joins the groups. Sure answers that differ divide a burst, unless two photos look
nearly the same; one answer joins bursts of one go.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from breeds.models import Decision
from shelter.models import Photo, PhotoQuerySet

RECENT = 600
PAUSE = timedelta(minutes=10)  # ends what one person sends, or takes of one dog, in one go
BURST = timedelta(minutes=2)  # photos of one dog follow each other; the walk to the next kennel takes longer
LIKE_BITS = 10  # of 64: the same scene a moment later


@dataclass(frozen=True)
class Group:
    """Photos in the order in which they were taken or, where cameras do not say, sent."""

    photos: list[Photo]

    @property
    def first(self) -> Photo:
        return self.photos[0]

    @property
    def named(self) -> Photo | None:
        """A photo whose answer says what dog it is, the surest one."""
        named = [photo for photo in self.photos if _answer(photo)]
        return max(named, key=lambda photo: photo.probability or 1.0, default=None)

    @property
    def is_burst(self) -> bool:
        """Was every photo taken shortly after the one before?"""
        taken = [photo.taken_at for photo in self.photos]
        return None not in taken and all(later - earlier <= BURST for earlier, later in pairwise(taken))


def suggest_groups(photos: PhotoQuerySet, limit: int = 24) -> list[Group]:
    """Among the newest photos, those that one person sent in one go and that belong together, newest first."""
    dogs = photos.exclude(uploaded_by=None).exclude(decision=Decision.NOT_A_DOG)
    related = dogs.select_related("breed", "second_breed", "uploaded_by", "fingerprint")
    groups = [group for go in _goes(related.order_by("-pk")[:RECENT]) for group in _joined(_bursts(go))]
    groups = sorted((group for group in groups if len(group) > 1), key=lambda group: -max(photo.pk for photo in group))
    return [Group(group) for group in groups[:limit]]


def _goes(photos: Iterable[Photo]) -> list[list[Photo]]:
    """What one person sent without a long pause. `photos` come in the order in which they were sent, or against it."""
    open_goes: dict[int, list[Photo]] = {}
    goes = []
    for photo in photos:
        go = open_goes.get(photo.uploaded_by_id)
        if go and abs(go[-1].uploaded_at - photo.uploaded_at) <= PAUSE:
            go.append(photo)
        else:
            open_goes[photo.uploaded_by_id] = go = [photo]
            goes.append(go)
    return goes


def _bursts(go: list[Photo]) -> list[list[Photo]]:
    """Photos that a camera took one shortly after the other and that nothing says to be of two dogs; else, alone."""
    bursts: list[list[Photo]] = []
    for photo in sorted(go, key=lambda photo: (_moment(photo), photo.pk)):
        if bursts and _continues(bursts[-1], photo):
            bursts[-1].append(photo)
        else:
            bursts.append([photo])
    return bursts


def _continues(burst: list[Photo], photo: Photo) -> bool:
    last = burst[-1]
    if last.taken_at is None or photo.taken_at is None or photo.taken_at - last.taken_at > BURST:
        return False
    return _look_alike(last, photo) or all(_may_be_one_dog(other, photo) for other in burst)


def _joined(bursts: list[list[Photo]]) -> list[list[Photo]]:
    """Bursts with one and the same answer, and no long pause between them, as one."""
    joined: list[list[Photo]] = []
    newest: dict[tuple, list[Photo]] = {}
    for burst in bursts:
        answers = {answer for photo in burst if (answer := _answer(photo))}
        answer = answers.pop() if len(answers) == 1 else None
        group = newest.get(answer) if answer else None
        if group and _moment(burst[0]) - _moment(group[-1]) <= PAUSE:
            group += burst
        else:
            joined.append(burst)
            if answer:
                newest[answer] = burst
    return joined


def _moment(photo: Photo) -> datetime:
    return photo.taken_at or photo.uploaded_at


def _answer(photo: Photo) -> tuple | None:
    """What was said of a photo, as far as it names a breed or a group."""
    return (photo.breed_id, photo.second_breed_id, photo.group) if photo.breed_id or photo.group else None


def _may_be_one_dog(one: Photo, other: Photo) -> bool:
    """Does nothing that is known speak against it? A group agrees with the breeds in it."""
    if not _answer(one) or not _answer(other):
        return True
    if one.breed_id and other.breed_id:
        return _answer(one) == _answer(other)
    return one.group == other.group


def _look_alike(one: Photo, other: Photo) -> bool:
    prints = [getattr(photo, "fingerprint", None) for photo in (one, other)]
    return None not in prints and prints[0].bits_to(prints[1]) <= LIKE_BITS
