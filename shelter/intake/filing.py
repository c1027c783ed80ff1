"""Photos filed under dogs as they come in: by the folders of an import, or on the page of a dog."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext

from breeds.audit import log_change
from shelter.models import Animal, Import, Photo


def file_under_names(batch: Import, names: dict[str, str], by) -> list[str]:
    """Photos of an import, by the name its folder suggests, under the dogs of these names, new ones if need be.

    Photos that are under a dog already stay there. So do those of a folder whose name does not say which dog is meant:
    returns a sentence for each of these.
    """
    unclear = []
    with transaction.atomic():
        for suggested, name in names.items():
            items = batch.items.filter(dog=suggested, photo__animal=None, photo__isnull=False)
            photos = Photo.objects.filter(pk__in=items.values("photo"), animal=None)
            if not photos.exists():
                continue
            try:
                animal = Animal.objects.called(name)
            except ValidationError as error:
                unclear += error.messages
            else:
                animal, filed = animal or Animal.objects.create(name=name[:100]), list(photos)
                photos.file_under(animal)
                log_change(by, filed, gettext("Filed under %(name)s.") % {"name": animal.numbered})
    return unclear


def file_if_free(photo: Photo, animal: Animal, by) -> None:
    """File a photo under a dog, unless it is filed under a dog already."""
    if Photo.objects.filter(pk=photo.pk, animal=None).file_under(animal):
        photo.animal = animal
        log_change(by, [photo], gettext("Filed under %(name)s.") % {"name": animal.numbered})
