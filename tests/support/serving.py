"""Start Flair as `make run` does, in processes of its own on a data folder of its own."""

import atexit
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "un-mot-de-passe"


def wait_until(condition, seconds: float, what: str):
    """Poll `condition` until it is true and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"Expected {what} within {seconds} s.")


class Flair:
    """A running Flair. The account is `admin` with `PASSWORD`."""

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.url = f"http://127.0.0.1:{environment['PORT']}"
        self.output = Path(environment["FLAIR_DATA_DIR"] + ".log")  # not on its disk, which a test may fill
        self.supervisor = None

    def start(self) -> None:
        """What it prints goes to a file: a pipe that nobody reads is full after 500 requests, and all stands still."""
        self.manage("prepare", "--port", self.environment["PORT"])
        with self.output.open("ab") as output:  # a pipe that nobody empties would stop every process that logs
            self.supervisor = subprocess.Popen(
                [Path(sys.executable).with_name("supervisord"), "--configuration", ROOT / "supervisord.conf"],
                cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        wait_until(self.is_serving, 60, "an answer of /healthz")

    def stop(self) -> str:
        """As Ctrl-C does."""
        self.supervisor.send_signal(signal.SIGINT)
        self.supervisor.wait(timeout=60)
        return self.output.read_text(errors="replace")

    def is_serving(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/healthz", timeout=5).status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run `code` in a process of its own, with the tables, files and queue of this Flair."""
        command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", code]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stderr
        return done

    def token(self) -> str:
        return self.manage("create_token", "admin", "--scope", "read", "--scope", "upload").split()[-1]

    def processes(self, pattern: str) -> list[int]:
        """Process ids below this Flair whose command line contains `pattern`."""
        listing = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True).stdout
        rows = (line.split(maxsplit=1) for line in listing.splitlines())
        ours = f"FLAIR_DATA_DIR={self.environment['FLAIR_DATA_DIR']}".encode()
        return [int(pid) for pid, args in rows if pattern in args and ours in _environment_of(pid)]

    def api(self, method: str, path: str, token: str, image: bytes | None = None) -> dict:
        headers, body = {"Authorization": f"Token {token}"}, None
        if image is not None:
            boundary = secrets.token_hex(8)
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
            body = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        request = urllib.request.Request(f"{self.url}/api/v1{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


def _environment_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def own_database(url: str, template: str = "template1"):
    """A database of its own on the server of `url`, or none where there is no server."""
    if not url:
        yield {}
        return
    name = f"flair_serving_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield {"DATABASE_URL": url.rsplit("/", 1)[0] + "/" + name}
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def prepared() -> dict[str, str]:
    """Variables of a Flair that was prepared on an empty folder and an empty database, once per process of tests.

    The others begin with a copy of it, which saves each of them the tables and the compressing of static files.
    """
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flair-prepared-"))
    database = stack.enter_context(own_database(os.environ.get("DATABASE_URL", "")))
    environment = os.environ | database | {
        "DJANGO_SETTINGS_MODULE": "shelter.settings",
        "FLAIR_DATA_DIR": folder,
        "FLAIR_ADMIN_PASSWORD": PASSWORD,
        "PORT": str(free_port()),
    }  # fmt: skip
    Flair(environment).manage("prepare", "--port", environment["PORT"])
    return environment


@contextmanager
def paused(flair, pattern: str = "celery") -> Iterator[None]:
    """Its processes of that name stand still meanwhile: they hold what they hold, and say nothing."""
    pids = flair.processes(pattern)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def serving(data_dir: Path, **variables: str):
    """Start Flair on the services that the tests themselves run on, or on others by variables; stop it in the end."""
    template = prepared()
    shutil.copytree(template["FLAIR_DATA_DIR"], data_dir, dirs_exist_ok=True)
    name = template.get("DATABASE_URL", "").rpartition("/")[2]
    with own_database(os.environ.get("DATABASE_URL", ""), name) as database:
        environment = os.environ | database | {
            "DJANGO_SETTINGS_MODULE": "shelter.settings",
            "FLAIR_DATA_DIR": str(data_dir),
            "FLAIR_ADMIN_PASSWORD": PASSWORD,
            "FLAIR_BIND": "127.0.0.1",
            "FLAIR_SWEEP_SECONDS": "2",
            # Redis counts calls by token, and the first token of every test has the same number.
            **{f"FLAIR_API_RATE_{scope}": "100000" for scope in ("READ", "UPLOAD", "REVIEW")},
            "PORT": str(free_port()),
            "USER": subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        flair = Flair(environment | variables)
        try:
            flair.start()
            yield flair
        finally:
            if flair.supervisor and flair.supervisor.poll() is None:
                flair.stop()
