"""The least that an answer costs behind Flair's own web server, for `benchmarks.api`: gunicorn and the classifier.

    python -m benchmarks.rival_gunicorn 9003

As many photos at work as there are cores, the others in line. `keep=1` in the form writes the photo to the disk before
it is classified. The form is cut open where this benchmark's clients put the photo; no framework, accounts, checks,
queue or database. No rival: what is between it and Flair is what these cost.
"""

import json
import os
import sys
import threading
from functools import cache

from benchmarks.rivals import BUNDLED, keep
from ml.serving.inference import Classifier

# fmt: off
GUNICORN = [
    "--worker-class", "gthread", "--threads", "48", "--timeout", "120", "--no-control-socket", "--log-level", "error",
]
# fmt: on

_places = threading.Semaphore(os.cpu_count() or 1)
_loading = threading.Lock()


@cache
def _loaded() -> Classifier:
    return Classifier.load(BUNDLED)


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    head = body.index(b"\r\n\r\n", body.index(b"filename="))
    content = body[head + 4 : body.rindex(b"\r\n--")]
    if b'name="keep"' in body[:head]:
        keep(content)
    with _loading:
        classifier = _loaded()
    with _places:
        found = classifier.classify(content, keeps_look=False)
    answer = {"label": found.label, "decision": found.decision, "probability": found.probability}
    answer = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


if __name__ == "__main__":
    command = [sys.executable, "-m", "gunicorn", "benchmarks.rival_gunicorn:app", *GUNICORN]
    os.execv(sys.executable, [*command, "--bind", f"127.0.0.1:{sys.argv[1]}"])
