"""Made rows for trying Flair out at size: many photos of a few drawn dogs, with answers, records and people."""

import hashlib
import io
import random
from collections.abc import Callable
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone
from PIL import Image, ImageDraw

from breeds.classifier import active_version
from breeds.models import Breed, Decision, Prediction, Review
from breeds.words import fold
from shelter.models import Animal, Photo

AT_ONCE = 2000
PHOTOS_A_DOG = 6
PEOPLE = ["demo-anne", "demo-bruno", "demo-chloe", "demo-david"]
NAMES = [
    "Rex", "Bella", "Élodie", "Filou", "Câline", "Médor", "Zoé", "Oscar", "Luna", "Noël", "Réglisse", "Pépère",
    "Tina", "Gaïa", "Éclair", "Ulysse", "Nala", "Max", "Ruby", "Simba", "Milo", "Naïs", "Pirate", "Java", "Roxy",
    "Titus", "Volt", "Iris", "Léo", "Maya", "Snoopy", "Chaussette", "Biscuit", "Hermès", "Kali", "Opale", "Praline",
]  # fmt: skip
COATS = ["#a8632f", "#d9a441", "#3b2a20", "#8a8f94", "#efe6d6", "#6b4423", "#c98f5a", "#2f2f33"]


def seed(count: int, report: Callable[[int], None] = lambda done: None, randomness: int = 0) -> None:
    """Add `count` photos and what belongs to them; `report` hears how many there are so far."""
    rng = random.Random(randomness)
    version = active_version()
    breeds = list(Breed.objects.filter(slug__in=version.labels, wild=False))
    users = get_user_model().objects
    people = [users.get_or_create(username=name)[0] for name in PEOPLE]
    files = [store_picture(coat) for coat in COATS]
    start = Photo.objects.count()
    for first in range(0, count, AT_ONCE):
        numbers = range(start + first, start + min(first + AT_ONCE, count))
        with transaction.atomic():
            animals = Animal.objects.bulk_create(made_animal(rng) for _ in range(max(1, len(numbers) // PHOTOS_A_DOG)))
            photos = [made_photo(number, rng, animals, breeds, people, files) for number in numbers]
            photos = Photo.objects.bulk_create(photos)
            answers = Prediction.objects.bulk_create(made_prediction(photo, rng, breeds, version) for photo in photos)
            review_some([answer for answer in answers if answer.decision], rng, breeds, people)
        report(first + len(numbers))


def made_animal(rng: random.Random) -> Animal:
    today = timezone.localdate()
    arrived = today - timedelta(days=rng.randrange(900))
    return Animal(
        name=rng.choice(NAMES),
        status=rng.choices(Animal.Status.values, [50, 10, 30, 5, 5])[0],
        sex=rng.choice(Animal.Sex.values),
        born_on=arrived - timedelta(days=rng.randrange(60, 4000)),
        born_about=rng.random() < 0.7,
        arrived_on=arrived,
    )


def made_photo(number: int, rng: random.Random, animals, breeds, people, files) -> Photo:
    """Answered, but for 1 in 200, which failed. None waits: no worker shall be busy with drawings."""
    breed = rng.choice(breeds)
    decision = rng.choices([Decision.BREED, Decision.GROUP, Decision.UNSURE, Decision.NOT_A_DOG], [60, 20, 15, 5])[0]
    failed = rng.random() < 0.005
    image, preview, size = rng.choice(files)
    sent = timezone.now() - timedelta(minutes=max(0, 1_000_000 - 10 * number) + rng.random())
    return Photo(
        animal=rng.choice(animals) if rng.random() < 0.8 else None,
        image=image,
        preview=preview,
        original_name=f"demo-{number}.jpg",
        sha256=hashlib.sha256(f"demo {number}".encode()).hexdigest(),
        size=size,
        width=1200,
        height=900,
        media_type="image/jpeg",
        uploaded_by=rng.choice(people),
        uploaded_at=sent,
        updated_at=sent,
        status=Photo.Status.FAILED if failed else Photo.Status.DONE,
        decision="" if failed else decision,
        breed=breed if decision == Decision.BREED and not failed else None,
        group=breed.group if decision in (Decision.BREED, Decision.GROUP) and not failed else "",
        probability=None if failed else round(rng.betavariate(5, 2), 4),
        source="" if failed else Photo.Source.MODEL,
    )


def made_prediction(photo: Photo, rng: random.Random, breeds, version) -> Prediction:
    failed = photo.status == Photo.Status.FAILED
    best = [photo.breed or rng.choice(breeds), *rng.sample(breeds, 2)]
    probability = photo.probability or 0.0
    shares = [probability, (1 - probability) * 0.6, (1 - probability) * 0.2]
    return Prediction(
        photo=photo,
        version=None if failed else version,
        status=Prediction.Status.FAILED if failed else Prediction.Status.DONE,
        error_code="undecodable" if failed else "",
        created_at=photo.uploaded_at,
        finished_at=photo.uploaded_at,
        decision=photo.decision,
        label=photo.breed.slug if photo.breed else "",
        group=photo.group,
        probability=photo.probability,
        candidates=[
            {"label": breed.slug, "probability": share}
            for breed, share in zip(best, sorted(shares, reverse=True), strict=True)
            if not failed
        ],
    )


def review_some(answers: list[Prediction], rng: random.Random, breeds, people) -> None:
    """One photo in 20 that the classifier answered, and one in three of those that are shown blind."""
    chosen = [a for a in answers if rng.random() < (1 / 3 if a.photo.hides(a) else 1 / 20)]
    reviews = Review.objects.bulk_create(made_review(answer, rng, breeds, people) for answer in chosen)
    for review in reviews:
        review.photo.follow(review)
    Photo.objects.bulk_update([review.photo for review in reviews], Photo.INDEX, batch_size=200)


def made_review(answer: Prediction, rng: random.Random, breeds, people) -> Review:
    """Right in five of six cases, as far as a person can tell."""
    is_right, blind = rng.random() < 5 / 6, answer.photo.hides(answer)
    breed = answer.photo.breed if answer.photo.breed and is_right else rng.choice(breeds)
    verdict = Review.Verdict.CORRECT
    if not is_right and rng.random() < 0.3:
        verdict = Review.Verdict.CANNOT_TELL
    elif is_right and answer.decision == Decision.NOT_A_DOG:
        verdict = Review.Verdict.NOT_A_DOG
    elif is_right and not blind and answer.decision in (Decision.BREED, Decision.GROUP):
        verdict = Review.Verdict.CONFIRM
    if answer.decision == Decision.GROUP and verdict == Review.Verdict.CONFIRM:
        breed = None
    names_breed = verdict in (Review.Verdict.CORRECT, Review.Verdict.CONFIRM)
    return Review(
        photo=answer.photo,
        prediction=answer,
        verdict=verdict,
        breed=breed if names_breed else None,
        group=(breed.group if breed else answer.group) if names_breed else "",
        blind=blind,
        by=rng.choice(people),
        created_at=min(timezone.now(), answer.photo.uploaded_at + timedelta(hours=rng.randrange(1, 200))),
    )


def store_picture(coat: str) -> tuple[str, str, int]:
    """(name of the original, name of the preview, bytes) of a drawn dog."""
    content = drawn_dog(coat)
    names = [f"{folder}/demo/{fold(coat)}.jpg" for folder in ("originals", "previews")]
    original, preview = (default_storage.save(name, ContentFile(content)) for name in names)
    return original, preview, len(content)


def drawn_dog(coat: str) -> bytes:
    """A JPEG of a sitting dog on a meadow."""
    image = Image.new("RGB", (600, 450), "#c4dbe8")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 310, 600, 450), fill="#86a562")
    for box in ((210, 190, 390, 440), (220, 70, 380, 230), (200, 400, 260, 445), (340, 400, 400, 445)):
        draw.ellipse(box, fill=coat)
    for left in (188, 352):
        draw.ellipse((left, 80, left + 60, 200), fill="#4f3320")
    draw.ellipse((258, 150, 342, 228), fill="#f5ece0")
    for left in (258, 320):
        draw.ellipse((left, 122, left + 20, 144), fill="#1d130c")
    draw.ellipse((284, 158, 316, 182), fill="#1d130c")
    draw.arc((276, 172, 324, 212), 20, 160, fill="#1d130c", width=4)
    stream = io.BytesIO()
    image.resize((1200, 900), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=85)
    return stream.getvalue()
