"""The same classifier behind LitServe, one worker per core, as short as it can be: for `benchmarks.api`.

    python -m benchmarks.rival_litserve 9001

`keep=1` in the form writes the photo to the disk before it is classified. No accounts, checks, queue or database.
"""

import os
import sys

import litserve

from benchmarks.rivals import BUNDLED, keep
from ml.serving.inference import Classifier


class Service(litserve.LitAPI):
    def setup(self, device):
        self.classifier = Classifier.load(BUNDLED)

    def decode_request(self, request):
        content = request["image"].file.read()
        if "keep" in request:
            keep(content)
        return content

    def predict(self, content):
        found = self.classifier.classify(content, keeps_look=False)
        return {"label": found.label, "decision": found.decision, "probability": found.probability}

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Service(api_path="/predict/"), accelerator="cpu", workers_per_device=os.cpu_count(), timeout=60
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
