"""What the tests of the web side share: pictures made by code, and a classifier that needs no network."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image, ImageDraw

from breeds.models import ClassifierVersion
from ml.images.imagefile import inspect_image
from ml.serving.decision import Because, Candidate, Label, Reason, Thresholds
from ml.serving.inference import Classification


def picture(seed: int = 0, size: tuple[int, int] = (320, 240), mode: str = "RGB") -> Image.Image:
    """Soft random blobs: never twice the same bytes for two seeds."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def drawn_dog(coat: str = "#a8632f", size: tuple[int, int] = (1200, 900)) -> Image.Image:
    """A dog's head on a meadow, for pages and screenshots."""
    scale = 4 * size[0] // 1200
    image = Image.new("RGB", (300, 225), "#bcd7e8")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 160, 300, 225), fill="#7fa05a")
    draw.ellipse((85, 120, 215, 290), fill=coat)
    draw.ellipse((92, 30, 208, 160), fill=coat)
    draw.ellipse((118, 92, 182, 158), fill="#f2e6d8")
    for left in (72, 188):
        draw.ellipse((left, 42, left + 40, 132), fill="#5c3518")
    for left in (122, 164):
        draw.ellipse((left, 76, left + 14, 92), fill="#20150d")
        draw.ellipse((left + 3, 78, left + 8, 83), fill="white")
    draw.ellipse((138, 104, 162, 121), fill="#20150d")
    draw.arc((132, 110, 150, 136), 20, 160, fill="#20150d", width=2)
    draw.arc((150, 110, 168, 136), 20, 160, fill="#20150d", width=2)
    return image.resize((300 * scale, 225 * scale), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, image_format: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def jpeg(seed: int = 0, **options) -> bytes:
    return encoded(picture(seed), "JPEG", **options)


def upload(content: bytes | None = None, name: str = "rex.jpg", media_type: str = "image/jpeg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, jpeg() if content is None else content, media_type)


class FakeClassifier:
    """Answers every readable photo with `label`; raises what `errors` holds for a photo's bytes."""

    def __init__(self, label="beagle", decision="breed", group="scenthounds", probability=0.9, version="fake-1"):
        self.answer = Classification(
            decision=decision,
            label=label if decision == "breed" else "",
            group=group if decision in ("breed", "group") else "",
            probability=probability,
            candidates=(Candidate(label, probability), Candidate("basset", 0.05)),
            version=version,
            milliseconds=7.0,
            preview=jpeg(1),
            dhash=0x0F1E2D3C4B5A6978,
            reasons=(Reason(Because.BREED_SURE, probability, 0.7, (label,), 0.05),),
            energy=9.0,
            probs=np.array([probability, 1 - probability, 0.0]),
            embedding=np.array([1.0, 2.0, 3.0], np.float32),
        )
        self.errors: dict[bytes, Exception] = {}
        self.seen: list[bytes] = []

    def classify(self, image_bytes: bytes, top_k: int = 5, *, keeps_look: bool = True) -> Classification:
        self.seen.append(image_bytes)
        if image_bytes in self.errors:
            raise self.errors[image_bytes]
        inspect_image(image_bytes)
        return self.answer

    def row(self) -> ClassifierVersion:
        checkpoint = SimpleNamespace(
            version=self.answer.version,
            name="fake",
            folder=SimpleNamespace(resolve=lambda: "nowhere"),
            preprocessing="fake-way-in-1",
            backbone="none",
            image_size=224,
            labels=[
                Label("beagle", "scenthounds"),
                Label("basset", "scenthounds"),
                Label("dingo", "wild_canids", wild=True),
            ],
            thresholds=Thresholds(energy=2.0, breed=0.7, group=0.8),
        )
        return ClassifierVersion.objects.register(checkpoint)


class Receiver:
    """A server that remembers what it was sent and answers what `answers` holds, then 204."""

    def __init__(self):
        self.got, self.answers = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", receiver.url)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/flair?a=1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def messages(self) -> list[dict]:
        return [json.loads(body) for _headers, body in self.got]
