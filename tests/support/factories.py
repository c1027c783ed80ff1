"""Accounts, files, photos, answers, reviews and dogs for tests, made by the product's own code."""

from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile

from breeds.models import Breed, Review
from breeds.tasks import classify_photos
from shelter.intake.uploads import upload_photo
from shelter.models import Animal, Photo
from tests.support.pictures import jpeg


def an_account(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, password="un-mot-de-passe")
    user.groups.set([Group.objects.get(name=group) for group in groups])
    return user


def upload(content: bytes | None = None, name: str = "rex.jpg", media_type: str = "image/jpeg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, jpeg() if content is None else content, media_type)


def a_photo(user: User | None, seed: int | None = None, name: str = "rex.jpg", **options) -> Photo:
    """A photo that waits for its answer; `options` are those of `upload_photo`.

    `seed` makes its picture: without it the number of photos so far, so that no two are alike.
    """
    content = jpeg(Photo.objects.count() if seed is None else seed)
    return upload_photo(upload(content, name), user=user, **options).photo


def answer_all() -> None:
    """Classify every waiting photo."""
    while classify_photos():
        pass


def an_answered_photo(user: User | None, *arguments, **options) -> Photo:
    photo = a_photo(user, *arguments, **options)
    answer_all()
    return Photo.objects.get(pk=photo.pk)


def a_review(photo: Photo, by: User, verdict: str = "correct", breed: str = "", **fields) -> Review:
    """`breed` is a slug. "confirm" confirms the newest answer."""
    if verdict == "confirm":
        fields.setdefault("prediction", photo.newest_answer)
    named = Breed.objects.get(slug=breed) if breed else None
    return Review.objects.record(photo, by=by, verdict=verdict, breed=named, **fields).review


def a_reviewed_photo(user: User, breed: str, **options) -> Photo:
    """A photo with an answer, which its uploader then named as `breed`."""
    photo = an_answered_photo(user, **options)
    a_review(photo, user, breed=breed)
    return Photo.objects.get(pk=photo.pk)


def a_dog(name: str = "Rex", *photos: Photo, **fields) -> Animal:
    """A dog with these photos filed under it."""
    animal = Animal.objects.create(name=name, **fields)
    Photo.objects.filter(pk__in=[photo.pk for photo in photos]).file_under(animal)
    return animal
