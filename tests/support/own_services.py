"""Disks, databases and brokers that a test starts for itself, and may fill, kill and start again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.serving import free_port, wait_until


def mount_small(path: Path, size: str) -> str:
    """Mount a file system of its own at `path`; what `mount` says where nobody may, empty where it is there."""
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", path]
    try:
        return subprocess.run(command, capture_output=True, text=True).stderr.strip()
    except FileNotFoundError as error:
        return str(error)


@contextmanager
def small_disk(path: Path, size: str):
    """A file system of its own, of `size`; the test is skipped where nobody may mount one."""
    if error := mount_small(path, size):
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(child) for child in found.split()]


class Redis:
    """A Redis that keeps nothing on disk: who kills it, wipes it."""

    def __init__(self):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.server = None

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        wait_until(self.answers, 20, "an answer of Redis")

    def kill(self) -> None:
        self.server.kill()
        self.server.wait()

    def answers(self) -> bool:
        try:
            return redis.Redis(port=self.port).ping()
        except redis.ConnectionError:
            return False


class Postgres:
    """A cluster in a folder of its own. PostgreSQL refuses to run as root, so that root runs it as another."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.url = f"postgres://flair@127.0.0.1:{self.port}/postgres"
        self.user = (
            next((name for name in ("postgres", "nobody") if _is_user(name)), None) if not os.geteuid() else None
        )
        self.server = None

    def create(self) -> None:
        """Small segments of the log, so that a small disk is soon full."""
        self.folder.mkdir(mode=0o700)
        if self.user:
            shutil.chown(self.folder, self.user)
        options = ["--no-sync", "--auth=trust", "--username=flair", "--encoding=UTF8", "--wal-segsize=1"]
        self._run("initdb", "--pgdata", self.folder, *options, check=True)

    def start(self) -> None:
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "min_wal_size": "2MB", "max_wal_size": "8MB", "shared_buffers": "16MB", "max_connections": 60,
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + 60
        while not self.answers():  # what is left of a killed one may hold its memory for another moment
            assert time.monotonic() < deadline, "Expected an answer of PostgreSQL within 60 s."
            if self.server is None or self.server.poll() is not None:
                program = _programs() / "postgres"
                with (self.folder.parent / "postgres.log").open("ab") as log:
                    self.server = subprocess.Popen(
                        [program, "-D", self.folder, *arguments],
                        user=self.user, cwd="/", stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
                    )  # fmt: skip
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def backends(self) -> list[int]:
        """The processes that serve Flair."""
        with psycopg.connect(self.url, connect_timeout=5) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            return [pid for (pid,) in connection.execute(query)]

    def kill(self) -> None:
        """`kill -9` of the postmaster and of every process of it."""
        pids = [self.server.pid, *children_of(self.server.pid)]
        kill(pids)
        self.server.wait()

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--pgdata", self.folder, "--mode", mode)
        self.server.wait(30)

    def _run(self, program: str, *arguments, check: bool = False) -> None:
        subprocess.run([_programs() / program, *arguments], user=self.user, cwd="/", capture_output=True, check=check)


def _is_user(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def _programs() -> Path:
    """Where the newest installed PostgreSQL has its programs: Debian puts only a few of them on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "initdb")]
    return found[-1].parent


@contextmanager
def postgres_of_its_own(folder: Path):
    postgres = Postgres(folder)
    postgres.create()
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


@contextmanager
def redis_of_its_own():
    server = Redis()
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def open_folder():
    """A folder that any user may reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="flair-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)
