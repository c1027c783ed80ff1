"""A whole Flair on services of its own: SQLite and a folder, or PostgreSQL and Redis where the tests run on those."""

import http.client
import io
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import ExitStack, contextmanager
from functools import partial
from http.cookiejar import CookieJar
from pathlib import Path

import redis

from tests.support.own_services import (
    Postgres,
    Redis,
    kill,
    mount_small,
    open_folder,
    postgres_of_its_own,
    redis_of_its_own,
)
from tests.support.pictures import jpeg
from tests.support.serving import PASSWORD, Flair, serving, wait_until

# Everything that tests ask of the rows and files, by one process: how each photo was answered, and what fsck finds.
CENSUS = """
import json
from datetime import timedelta
from breeds.models import Prediction
from shelter.operations.consistency import Consistency
from shelter.models import Photo
answers = {pk: [] for pk in Photo.objects.values_list("pk", flat=True)}
for pk, *facts in Prediction.objects.values_list("photo", "status", "attempts", "error"):
    answers[pk].append(facts)
found = []
for finding in list(Consistency(grace=timedelta(0), verify_hashes=True).findings()):
    found.append(str(finding))
    Consistency(grace=timedelta(0)).repair(finding)
left = [str(finding) for finding in Consistency(grace=timedelta(0)).findings()]
print(json.dumps({"answers": answers, "found": found, "left": left}))
"""


class Stack:
    """`flair`, with what it stands on. `disks` are small ones, unless `no_disk` says why none could be mounted."""

    def __init__(self, disks: dict[str, Path], no_disk: str, database: Postgres | None, broker: Redis | None):
        self.disks, self.no_disk, self.database, self.broker = disks, no_disk, database, broker
        self.flair: Flair
        self.token: str

    # -- the broker ---------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> Path:
        return Path(self.flair.environment["FLAIR_DATA_DIR"]) / "queue"

    def wipe_broker(self) -> None:
        """`FLUSHALL`, or the folder away in one step: workers write to it."""
        if self.broker:
            redis.Redis.from_url(self.broker.url).flushall()
        elif self.queue.exists():
            shutil.rmtree(self.queue.rename(self.queue.with_name("wiped")))

    @contextmanager
    def broker_down(self):
        """`kill -9` of Redis, or no folder and none to be made. It comes back empty."""
        if self.broker:
            self.broker.kill()
        else:
            self.wipe_broker()
            self._block_queue()
        try:
            yield
        finally:
            self.broker.start() if self.broker else self.queue.unlink()

    def _block_queue(self) -> None:
        while not self.queue.is_file():  # a worker may be quicker and make the folder again
            shutil.rmtree(self.queue, ignore_errors=True)
            try:
                with self.queue.open("x"):
                    return
            except FileExistsError:
                continue

    def hints(self) -> int:
        """Messages that wait for a worker and tell it to look for photos."""
        if self.broker:
            messages = redis.Redis.from_url(self.broker.url).lrange("celery", 0, -1)
        else:
            messages = [_text_of(path) for path in self.queue.glob("*.celery.msg")]
        return sum(b"breeds.tasks.classify_photos" in message for message in messages)

    # -- the database -------------------------------------------------------------------------------------------------

    def kill_everything(self) -> None:
        """All that have the SQLite file open: nearer to `kill -9` of that database one cannot come."""
        kill(self.flair.processes("gunicorn") + self.flair.processes("celery"))

    # -- what people and scripts send ---------------------------------------------------------------------------------

    def send(self, seed: int) -> int:
        return self.flair.api("POST", "/photos/", self.token, jpeg(seed))["id"]

    def send_until_taken(self, seed: int, refusals: list) -> int:
        """The number of the photo. A server that is away may break a connection; one that is there says 503, no 500."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                return self.send(seed)
            except urllib.error.HTTPError as answer:
                check_refusal(answer)
                refusals.append(answer.code)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        raise AssertionError(f"Expected photo {seed} to be taken within 300 s.")

    def send_archive(self, seeds: range) -> int:
        """The number of an import that has just begun: some files are settled and others are not."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for seed in seeds:
                archive.writestr(f"Rex/{seed}.jpg", jpeg(seed))
        body, kind = _multipart({"archive": stream.getvalue()})
        headers = {"Content-Type": kind, "Authorization": f"Token {self.token}"}
        request = urllib.request.Request(f"{self.flair.url}/api/v1/imports/", body, headers)
        number = json.load(urllib.request.urlopen(request, timeout=60))["id"]
        wait_until(lambda: self.imported(number).get("counts", {}).get("accepted"), 60, "a photo of the import")
        return number

    def imported(self, number: int) -> dict:
        """The import as the API shows it; nothing while the web server is being started again."""
        try:
            return self.flair.api("GET", f"/imports/{number}/", self.token)
        except OSError:
            return {}

    def browser(self, language: str):
        """Call it with the fields of the upload page, logged in: returns the page. Raises `HTTPError`."""
        cookies = CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        opener.addheaders = [("Accept-Language", language)]

        def post(path: str, **fields: str | bytes) -> str:
            token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
            body, kind = _multipart(fields | {"csrfmiddlewaretoken": token})
            request = urllib.request.Request(self.flair.url + path, body, {"Content-Type": kind})
            return opener.open(request, timeout=60).read().decode()

        opener.open(f"{self.flair.url}/accounts/login/", timeout=60).read()
        post("/accounts/login/", username="admin", password=PASSWORD)
        opener.open(f"{self.flair.url}/", timeout=60).read()
        return partial(post, "/")

    # -- what has become of it ----------------------------------------------------------------------------------------

    def all_is_answered(self, ids: list[int], seconds: int = 300) -> list[str]:
        """Every photo has one answer, or failed after three attempts and says why; rows and files agree.

        Returns what fsck had to mend: whoever is killed while it writes leaves a file without a name, and no row.
        """
        wait_until(lambda: not self.pending(), seconds, "an answer to every photo")
        census = json.loads(self.flair.python(CENSUS).stdout)
        answers = {int(pk): facts for pk, facts in census["answers"].items()}
        assert set(ids) <= set(answers)
        for facts in answers.values():
            assert len(facts) == 1, facts
            [(status, attempts, error)] = facts
            assert status == "done" or (status == "failed" and attempts == 3 and error), facts
        assert all("/.partial-" in finding for finding in census["found"]), census["found"]
        assert census["left"] == []
        return census["found"]

    def pending(self) -> list:
        """Some photo that waits for an answer, or nothing."""
        try:
            return self.flair.api("GET", "/photos/?status=pending&page_size=1", self.token)["results"]
        except OSError:  # being started again
            return ["unknown"]


def check_refusal(answer: urllib.error.HTTPError) -> None:
    body = answer.read()
    assert answer.code == 503, (answer.code, body)
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["code"] == "unavailable"


def _text_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _multipart(fields: dict[str, str | bytes]) -> tuple[bytes, str]:
    parts = []
    for name, value in fields.items():
        is_file = isinstance(value, bytes)
        file_name = "archive.zip" if name == "archive" else "rex.jpg"
        disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if is_file else "")
        head = f"--flair-parts\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        parts.append(head + (value if is_file else value.encode()) + b"\r\n")
    return b"".join([*parts, b"--flair-parts--\r\n"]), "multipart/form-data; boundary=flair-parts"


@contextmanager
def whole_stack():
    """Start everything; database and data folder on small disks of their own."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        disks = {name: folder / name for name in ("database", "data")}
        no_disk = ""
        for disk in disks.values():
            if error := mount_small(disk, "192m"):
                no_disk = error
            else:
                stack.callback(subprocess.run, ["umount", "--lazy", disk], check=True)
        database = broker = None
        variables = {"DJANGO_SETTINGS_MODULE": "tests.support.settings_short_leases"}
        if os.environ.get("DATABASE_URL"):
            database = stack.enter_context(postgres_of_its_own(disks["database"] / "cluster"))
            variables["DATABASE_URL"] = database.url
        else:
            variables["DATABASE_URL"] = f"sqlite:///{disks['database'] / 'flair.sqlite3'}"
        if os.environ.get("REDIS_URL"):
            broker = stack.enter_context(redis_of_its_own())
            variables["REDIS_URL"] = broker.url
        whole = Stack(disks, no_disk, database, broker)
        whole.flair = stack.enter_context(serving(disks["data"], **variables))
        whole.token = whole.flair.token()
        yield whole
