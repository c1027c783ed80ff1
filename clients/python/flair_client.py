#!/usr/bin/env python3
"""A client of Flair's API in one file, on Python 3.11 or newer and its standard library alone. Copy it where you like.

    from flair_client import Flair

    flair = Flair("http://localhost:8000", token="flair_…")
    print(flair.predict("rex.jpg")["words"]["en"])
    for result in flair.upload_folder("photos/"):
        print(result.path, result.outcome, result.photo_id)

or from a terminal, with the token in `FLAIR_TOKEN`:

    python flair_client.py --url http://localhost:8000 upload photos/ --jobs 4

Whatever fails on the way is tried again, and nothing is done twice: photos are known by their content, other calls
carry an `Idempotency-Key`. An upload that was interrupted goes on where it was when it is started again.
"""

import argparse
import hashlib
import http.client
import json
import mimetypes
import os
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

PASSING = {429, 502, 503, 504}  # statuses after which the same call may do
CHECKED_AT_ONCE = 500
CHUNK = 1 << 20


class Words(TypedDict):
    fr: str
    en: str


class Candidate(TypedDict):
    label: str
    probability: float


class Answer(TypedDict):
    """What the classifier says of a photo; `reviewed` is the human decision, which counts before all else."""

    format: int
    reviewed: dict[str, Any] | None
    decision: Literal["breed", "group", "unsure", "not_a_dog", ""]
    label: str
    group: str
    probability: float | None
    candidates: list[Candidate]
    words: Words | None
    reasons: list[dict[str, Any]]
    thresholds: dict[str, float | None] | None
    mask: list[str] | None
    model: dict[str, str] | None
    timings: dict[str, float] | None
    status: NotRequired[Literal["pending", "running", "done", "failed"]]


class Photo(TypedDict):
    id: int
    status: Literal["pending", "done", "failed"]
    original_name: str
    sha256: str
    animal: int | None
    decision: str
    breed: str | None
    group: str
    probability: float | None
    source: Literal["model", "human", ""]
    prediction: Answer | None
    review: dict[str, Any] | None


@dataclass(frozen=True)
class Result:
    """What became of one file: `known` was there before, `refused` says why in `code` and `detail`."""

    path: Path
    outcome: Literal["accepted", "known", "refused"]
    photo_id: int | None = None
    code: str = ""
    detail: str = ""


class FlairError(Exception):
    """A problem that the server told (RFC 9457). `code` is stable; `status` is 0 where no server answered."""

    def __init__(self, status: int, problem: dict[str, Any]):
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail', '')}".strip())
        self.status, self.problem = status, problem
        self.code: str = problem.get("code", "")
        self.detail: str = problem.get("detail", "")


class Flair:
    """`retries`: how often a call is tried again; `timeout`: seconds for each attempt."""

    def __init__(self, url: str, token: str, *, timeout: float = 120, retries: int = 6):
        self.base = url.rstrip("/") + "/api/v1"
        self.timeout, self.retries = timeout, retries
        self._token = token

    # -- photos

    def predict(self, path: str | Path) -> Answer:
        """What the classifier says of a file; nothing is stored."""
        return cast(Answer, self._json("POST", "/predict/", files={"image": Path(path)}))

    def upload(self, path: str | Path, *, animal: int | None = None, wait: int = 0) -> Photo:
        """Store one photo; the photo that is known already where these bytes are. `wait`: seconds, at most 30."""
        return self._upload(Path(path), animal, wait)[1]

    def _upload(self, path: Path, animal: int | None, wait: int = 0) -> tuple[int, Photo]:
        fields = {} if animal is None else {"animal": str(animal)}
        query = {"wait": wait} if wait else {}
        with self._open("POST", "/photos/", query=query, fields=fields, files={"image": path}) as response:
            return response.status, json.load(response)

    def check(self, digests: Iterable[str]) -> dict[str, int]:
        """SHA-256 -> id, of those that are known."""
        known: dict[str, int] = {}
        digests = iter(digests)
        while some := list(islice(digests, CHECKED_AT_ONCE)):
            answer = self._json("POST", "/photos/check/", body={"sha256": some})
            known |= {row["sha256"]: row["id"] for row in answer["known"]}
        return known

    def upload_folder(self, *paths: str | Path, animal: int | None = None, jobs: int = 3) -> Iterator[Result]:
        """Store every file in folders (or files) that is not there yet, `jobs` at once; a result for each as it comes.

        Stopped anywhere, the same call goes on: what has arrived is recognised before it is sent.
        """
        with ThreadPoolExecutor(jobs) as pool:
            files = iter(files_of(paths))
            while some := list(islice(files, 100)):
                digests = dict(zip(some, pool.map(digest_of, some), strict=True))
                known = self.check(set(digests.values()))
                here = [path for path in some if digests[path] in known]
                yield from (Result(path, "known", known[digests[path]]) for path in here)
                yield from pool.map(lambda path: self._result(path, animal), [p for p in some if p not in set(here)])

    def _result(self, path: Path, animal: int | None) -> Result:
        try:
            status, photo = self._upload(path, animal)
        except FlairError as error:
            if error.status != 400 or "file" not in error.problem:
                raise
            return Result(path, "refused", None, error.code, error.detail)
        return Result(path, "accepted" if status == 201 else "known", photo["id"])

    def photo(self, photo_id: int, *, wait: int = 0) -> Photo:
        return cast(Photo, self._json("GET", f"/photos/{photo_id}/", query={"wait": wait} if wait else {}))

    def photos(self, **filters: Any) -> Iterator[Photo]:
        """All that the filters find, page after page: `photos(breed="beagle", ordering="-probability")`."""
        return self._rows("/photos/", filters)

    def predictions(self, photo_id: int) -> Iterator[Answer]:
        """What every version has said of a photo, the newest first."""
        return self._rows(f"/photos/{photo_id}/predictions/", {})

    def similar(self, photo_id: int, *, limit: int = 12) -> list[dict[str, Any]]:
        found = self._json("GET", f"/photos/{photo_id}/similar/", query={"limit": limit})
        return cast(list[dict[str, Any]], found["results"])

    def review(self, photo_id: int, verdict: str, **said: Any) -> dict[str, Any]:
        """`review(41, "correct", breed="beagle", reason="papers")`"""
        return self._json("POST", f"/photos/{photo_id}/reviews/", body={"verdict": verdict, **said})

    def withdraw(self, photo_id: int, review_id: int) -> None:
        """Take a decision back; the one before counts again, or the classifier."""
        self._open("DELETE", f"/photos/{photo_id}/reviews/{review_id}/").close()

    def file_under(self, photo_id: int, animal: int | None) -> Photo:
        return cast(Photo, self._json("PATCH", f"/photos/{photo_id}/", body={"animal": animal}))

    def export(self, path: str | Path, kind: Literal["csv", "zip", "jsonl"], **filters: Any) -> int:
        """Write what the filters find into a file, whole or not at all; returns its bytes."""
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        with (
            self._open("GET", "/photos/export/", query=filters | {"kind": kind}) as response,
            partial.open("wb") as file,
        ):
            while piece := response.read(CHUNK):
                file.write(piece)
        partial.replace(path)
        return path.stat().st_size

    # -- the rest of the domain

    def animals(self, **filters: Any) -> Iterator[dict[str, Any]]:
        return self._rows("/animals/", filters)

    def animal(self, animal_id: int) -> dict[str, Any]:
        return self._json("GET", f"/animals/{animal_id}/")

    def add_animal(self, name: str, **fields: Any) -> dict[str, Any]:
        return self._json("POST", "/animals/", body={"name": name, **fields})

    def breeds(self, **filters: Any) -> Iterator[dict[str, Any]]:
        return self._rows("/breeds/", filters)

    def models(self, **filters: Any) -> Iterator[dict[str, Any]]:
        return self._rows("/models/", filters)

    def send_archive(self, path: str | Path) -> dict[str, Any]:
        """Send a zip in pieces; returns its import, which then goes on by itself. Interrupted, call it again."""
        path = Path(path)
        facts = path.stat()
        announced = {"name": path.name, "size": facts.st_size, "stamp": str(facts.st_mtime_ns)}
        batch = self._json("POST", "/imports/", body=announced, is_repeatable=False)
        with path.open("rb") as file:
            while batch["status"] == "receiving":
                file.seek(batch["received"] * batch["part_bytes"])
                number, piece = batch["received"], file.read(batch["part_bytes"])
                batch = self._json("PUT", f"/imports/{batch['id']}/parts/{number}/", content=piece)
        return batch

    def batch(self, import_id: int) -> dict[str, Any]:
        """The progress of an import."""
        return self._json("GET", f"/imports/{import_id}/")

    def batch_items(self, import_id: int, **filters: Any) -> Iterator[dict[str, Any]]:
        """What became of each file of an import."""
        return self._rows(f"/imports/{import_id}/items/", filters)

    # -- the wire

    def _rows(self, path: str, filters: dict[str, Any]) -> Iterator[Any]:
        page = self._json("GET", path, query={"page_size": 200, **filters})
        while True:
            yield from page["results"]
            if not page["next"]:
                return
            cursor = urllib.parse.parse_qs(urllib.parse.urlsplit(page["next"]).query)["cursor"][0]
            page = self._json("GET", path, query={"page_size": 200, **filters, "cursor": cursor})

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._open(method, path, **options) as response:
            return cast(dict[str, Any], json.load(response))

    def _open(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        fields: dict[str, str] | None = None,
        files: dict[str, Path] | None = None,
        content: bytes | None = None,
        is_repeatable: bool = True,
    ) -> http.client.HTTPResponse:
        """The answer, once one has come. Raises `FlairError`."""
        headers, data = {"Authorization": f"Token {self._token}"}, content
        if files:
            data, headers["Content-Type"] = multipart(fields or {}, files)
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
            if is_repeatable:
                headers["Idempotency-Key"] = str(uuid.uuid4())
        elif content is not None:
            headers["Content-Type"] = "application/octet-stream"
        url = self.base + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        for attempt in range(self.retries + 1):
            try:
                request = urllib.request.Request(url, data, headers, method=method)
                return cast(http.client.HTTPResponse, urllib.request.urlopen(request, timeout=self.timeout))
            except urllib.error.HTTPError as error:
                problem, pause = problem_of(error), error.headers.get("Retry-After", "")
                if error.code not in PASSING or attempt == self.retries:
                    raise FlairError(error.code, problem) from None
                time.sleep(float(pause) if pause.isascii() and pause.isdecimal() else backoff(attempt))
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                if attempt == self.retries:
                    raise FlairError(0, {"code": "no_answer", "detail": str(error)}) from error
                time.sleep(backoff(attempt))
        raise AssertionError("unreachable")


def backoff(attempt: int) -> float:
    """Seconds, doubled with each attempt, with some chance in it so that many clients do not come back at once."""
    return min(30.0, 0.5 * float(2**attempt)) * (0.5 + random.random())


def problem_of(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        problem = json.loads(error.read())
    except (ValueError, OSError):
        problem = None
    return problem if isinstance(problem, dict) else {"detail": error.reason}


def multipart(fields: dict[str, str], files: dict[str, Path]) -> tuple[bytes, str]:
    """(body, content type) of a form with files."""
    boundary, parts = uuid.uuid4().hex, []
    for name, value in fields.items():
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, path in files.items():
        shown = path.name.replace("\\", "_").replace('"', "%22").replace("\r", " ").replace("\n", " ")
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{shown}"\r\n'
        parts += [f"{head}Content-Type: {kind}\r\n\r\n".encode("utf-8", "replace"), path.read_bytes(), b"\r\n"]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Every file below folders, in order, but those that are hidden; a file that is named comes as it is."""
    for path in map(Path, paths):
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                if found.is_file() and not any(p.startswith(".") for p in found.relative_to(path).parts):
                    yield found
        else:
            yield path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Send dog photos to Flair, and ask it about them.")
    parser.add_argument("--url", default=os.environ.get("FLAIR_URL", "http://localhost:8000"))
    parser.add_argument("--token", default=os.environ.get("FLAIR_TOKEN"), help="default: FLAIR_TOKEN")
    verbs = parser.add_subparsers(dest="verb", required=True)
    predict = verbs.add_parser("predict", help="what each photo looks like; nothing is stored")
    predict.add_argument("paths", nargs="+")
    upload = verbs.add_parser("upload", help="store photos and folders of them; start it again and it goes on")
    upload.add_argument("paths", nargs="+")
    upload.add_argument("--animal", type=int, help="number of the record to file them under")
    upload.add_argument("--jobs", type=int, default=3, help="files on their way at once (default: 3)")
    export = verbs.add_parser("export", help="write what filters find into a file")
    export.add_argument("path")
    export.add_argument("--kind", choices=["csv", "zip", "jsonl"], default="csv")
    export.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args(arguments)
    if not given.token:
        parser.error("Expected a token in FLAIR_TOKEN or --token. Received: none.")
    flair = Flair(given.url, given.token)
    try:
        return {"predict": _predict, "upload": _upload, "export": _export}[given.verb](flair, given)
    except FlairError as error:
        print(error, file=sys.stderr)
        return 1


def _predict(flair: Flair, given: argparse.Namespace) -> int:
    for path in files_of(given.paths):
        answer = flair.predict(path)
        print(f"{path}: {answer['words']['en'] if answer['words'] else answer['decision']}")
    return 0


def _upload(flair: Flair, given: argparse.Namespace) -> int:
    refused = 0
    for result in flair.upload_folder(*given.paths, animal=given.animal, jobs=given.jobs):
        refused += result.outcome == "refused"
        print(f"{result.path}: {result.outcome} {result.photo_id or result.detail}".rstrip())
    return 1 if refused else 0


def _export(flair: Flair, given: argparse.Namespace) -> int:
    filters = dict(pair.split("=", 1) for pair in given.filter)
    print(f"{given.path}: {flair.export(given.path, given.kind, **filters)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
