"""Two other ways to serve the same classifier, as short as they can be, for `benchmarks.api`.

    python -m benchmarks.rivals litserve 9001
    python -m benchmarks.rivals flask 9002

`litserve`: LitServe around Flair's own `Classifier`, one worker per core. `flask`: the way of the slide deck, a Flask
view that decodes the whole photo and calls Keras' `model.predict`; behind gunicorn with as many processes and threads
as Flair has, which is kinder than its development server. Both answer `/predict/`, and `/photos/` by writing the file
to a disk and predicting before they answer; neither has accounts, checks or a database.
"""

import io
import os
import sys
import tempfile
import uuid
from pathlib import Path

CHECKPOINT = Path(__file__).resolve().parent.parent / "ml" / "bundled"
FOLDER = Path(tempfile.gettempdir())


def keep(content: bytes) -> None:
    path = FOLDER / f"flair-rival-{os.getpid()}-{uuid.uuid4().hex}.jpg"
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def litserve(port: int) -> None:
    import litserve as ls

    class Service(ls.LitAPI):
        def setup(self, device):
            from ml.inference import Classifier

            self.classifier = Classifier.load(CHECKPOINT)

        def decode_request(self, request):
            content = request["image"].file.read()
            if "keep" in request:
                keep(content)
            return content

        def predict(self, content):
            found = self.classifier.classify(content)
            return {"label": found.label, "decision": found.decision, "probability": found.probability}

        def encode_response(self, output):
            return output

    server = ls.LitServer(
        Service(api_path="/predict/"), accelerator="cpu", workers_per_device=os.cpu_count(), timeout=60
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


def flask_app():
    """For `gunicorn benchmarks.rivals:flask_app()`; the network is loaded by the first request, after the fork."""
    import json

    import flask
    import numpy as np
    from PIL import Image

    app, loaded = flask.Flask("deck"), {}
    labels = [label["slug"] for label in json.loads((CHECKPOINT / "labels.json").read_text())]

    @app.post("/predict/")
    def predict():
        import keras

        if "model" not in loaded:
            loaded["model"] = keras.models.load_model(CHECKPOINT / "model.keras", compile=False)
        content = flask.request.files["image"].read()
        if "keep" in flask.request.form:
            keep(content)
        side = loaded["model"].input_shape[1]
        image = Image.open(io.BytesIO(content)).convert("RGB").resize((side, side))
        outputs = loaded["model"].predict(np.asarray(image, np.float32)[None], verbose=0)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        best = int(np.argmax(logits[0] if not isinstance(logits, list) else logits[0][0]))
        return {"label": labels[best]}

    return app


def flask(port: int) -> None:
    options = ["--workers", "2", "--threads", "8", "--worker-class", "gthread", "--timeout", "120"]
    bind = ["--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "benchmarks.rivals:flask_app()", *options, *bind])


if __name__ == "__main__":
    {"litserve": litserve, "flask": flask}[sys.argv[1]](int(sys.argv[2]))
