"""The way of the slide deck, for `benchmarks.api`: a Flask view that decodes the whole photo and calls `model.predict`.

    python -m benchmarks.rival_flask 9002

Behind gunicorn with threads and two processes, which is kinder than Flask's development server.
`keep=1` in the form writes the photo to the disk before it is classified. No accounts, checks, queue or database.
"""

import io
import os
import sys
from functools import cache

import flask
import numpy as np
from PIL import Image

from benchmarks.rivals import BUNDLED, keep
from ml.serving.checkpoint import load_checkpoint

# fmt: off
GUNICORN = [
    "--worker-class", "gthread", "--workers", "2", "--threads", "24", "--timeout", "120", "--log-level", "error",
]
# fmt: on

app = flask.Flask(__name__)


@cache
def loaded():
    """(network, its labels): by the first request, which is after the fork."""
    import keras

    return keras.models.load_model(BUNDLED / "model.keras", compile=False), load_checkpoint(BUNDLED).labels


@app.post("/predict/")
def predict():
    content = flask.request.files["image"].read()
    if "keep" in flask.request.form:
        keep(content)
    network, labels = loaded()
    side = network.input_shape[1]
    image = Image.open(io.BytesIO(content)).convert("RGB").resize((side, side))
    outputs = network.predict(np.asarray(image, np.float32)[None], verbose=0)
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return {"label": labels[int(np.argmax(logits[0]))].slug}


if __name__ == "__main__":
    command = [sys.executable, "-m", "gunicorn", "benchmarks.rival_flask:app", *GUNICORN]
    os.execv(sys.executable, [*command, "--bind", f"127.0.0.1:{sys.argv[1]}"])
