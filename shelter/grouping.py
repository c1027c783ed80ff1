"""Which photos that are filed under no dog probably show the same one."""

from dataclasses import dataclass
from datetime import timedelta

from shelter.models import Photo, PhotoQuerySet

RECENT = 600
PAUSE = timedelta(minutes=10)


@dataclass(frozen=True)
class Group:
    photos: list[Photo]

    @property
    def first(self) -> Photo:
        return self.photos[0]


def suggest_groups(photos: PhotoQuerySet, limit: int = 24) -> list[Group]:
    """Among the newest photos, those that one person sent in one go and that got the same answer, newest first.

    A pause of ten minutes ends a go. Photos whose breed and group are both unknown are not guessed at.
    """
    answered = photos.exclude(breed=None, group="").exclude(uploaded_by=None)
    newest = answered.select_related("breed", "second_breed", "uploaded_by").order_by("-pk")
    open_groups: dict[tuple, list[Photo]] = {}
    groups: list[list[Photo]] = []
    for photo in newest[:RECENT]:
        key = (photo.uploaded_by_id, photo.breed_id, photo.second_breed_id, photo.group)
        group = open_groups.get(key)
        if group and abs(group[-1].uploaded_at - photo.uploaded_at) <= PAUSE:
            group.append(photo)
        else:
            open_groups[key] = group = [photo]
            groups.append(group)
    return [Group(group[::-1]) for group in groups if len(group) > 1][:limit]
