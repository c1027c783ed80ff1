"""Stand-ins: a classifier without a network, and a server that receives webhooks."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np

from breeds.models import ClassifierVersion
from ml.images.imagefile import inspect_image
from ml.serving.decision import Because, Candidate, Label, Reason, Thresholds
from ml.serving.inference import Classification
from tests.support.pictures import jpeg


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
