"""The composition on machines of its own, some of which are cut off. Only `make cluster-test` runs it.

It needs root, network namespaces, and Debian's nginx, PostgreSQL, Redis and Swift: see `.ci/cluster-test`.
"""

import importlib.util
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from http.cookiejar import CookieJar
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.cluster.composition import SECRETS, composition, status_of
from tests.support.pictures import encoded, picture
from tests.support.serving import PASSWORD, ROOT, wait_until

spec = importlib.util.spec_from_file_location("flair_client", ROOT / "clients" / "python" / "flair_client.py")
flair_client = importlib.util.module_from_spec(spec)
sys.modules["flair_client"] = flair_client
spec.loader.exec_module(flair_client)

MEASURED, PHOTOS, MORE = 48, 160, 24
HOLD_A_ROW = """
import time
from django.db import transaction
from breeds.models import Prediction
while True:
    with transaction.atomic():
        row = Prediction.objects.select_for_update(skip_locked=True).filter(status="pending", attempts=0).first()
        if row:
            print(row.pk, flush=True)
            time.sleep(3600)
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def began():
    return time.monotonic()


@pytest.fixture(scope="module")
def flair(began):
    folder = Path(tempfile.mkdtemp(prefix="flair-cluster-"))
    folder.chmod(0o755)  # the database and nginx are other users
    try:
        with composition(folder / "machines") as running:
            say(began, "all services answer")
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def token(flair):
    flair.manage("shell", "--command", f"""
from django.contrib.auth.models import User
User.objects.create_superuser("chloe", password="{PASSWORD}")
""")  # fmt: skip
    return flair.manage("create_token", "chloe", "--scope", "read", "--scope", "upload").split()[-1]


def say(began: float, what: str) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)


def photos(folder: Path, seeds: range, size: tuple[int, int] = (1600, 1200)) -> Path:
    """Drawn ones; or of `FLAIR_PHOTOS`, a folder, as many of the size that they have."""
    folder.mkdir()
    if source := os.environ.get("FLAIR_PHOTOS"):
        for path in islice(sorted(Path(source).rglob("*.jp*g")), seeds.start, seeds.stop):
            shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
        return folder
    for seed in seeds:
        (folder / f"{seed}.jpg").write_bytes(encoded(picture(seed, size), quality=90))
    return folder


def count(flair, sql: str) -> int:
    with flair.database() as connection:
        return connection.execute(sql).fetchone()[0]


def answered(flair) -> int:
    return count(flair, "SELECT count(*) FROM breeds_prediction WHERE status = 'done'")


class Sender(threading.Thread):
    """Sends a folder through nginx by the client that we ship, and keeps what it was told of each file."""

    def __init__(self, flair, token: str, folder: Path):
        super().__init__(daemon=True)
        self.client = flair_client.Flair(flair.url, token, timeout=15, retries=8)
        self.folder, self.results = folder, []
        self.start()

    def run(self) -> None:
        for result in self.client.upload_folder(self.folder, jobs=6):
            self.results.append(result)


def bytes_in(flair) -> tuple[int, int]:
    """(of rows and indexes, of files)."""
    tables = "relkind = 'r' AND relname ~ '^(shelter|breeds)_'"
    sizes = f"SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE {tables}"
    objects = (flair.machines["store"].folder / "devices" / "disk" / "objects").rglob("*.data")
    return int(count(flair, sizes)), sum(path.stat().st_size for path in objects)


def test_it_says_what_a_photo_costs_each_machine(flair, token, tmp_path, began):
    """Undisturbed. Five megapixels, as phones send them; the first few only warm up."""
    folder = photos(tmp_path / "measured", range(300, 300 + MEASURED), (2592, 1944))
    sent = sum(path.stat().st_size for path in folder.iterdir())
    Sender(flair, token, photos(tmp_path / "warm", range(400, 412))).join(120)
    wait_until(lambda: answered(flair) == 12, 120, "answers")
    before, started = bytes_in(flair), time.monotonic()
    used = {name: machine.processor_seconds() for name, machine in flair.machines.items()}
    sender = Sender(flair, token, folder)
    wait_until(lambda: answered(flair) == MEASURED + 12, 180, "answers")
    seconds = time.monotonic() - started
    sender.join(60)
    assert len(sender.results) == MEASURED
    size, rate = sent / MEASURED / 1e6, MEASURED / seconds
    say(began, f"{MEASURED} photos of {size:.2f} MB: {rate:.1f} a second, sent and answered")
    for name, machine in flair.machines.items():
        spent = (machine.processor_seconds() - used[name]) / MEASURED * 1000
        print(f"{name:>18}: {spent:4.0f} ms of processor a photo, {machine.resident_megabytes():5.0f} MB of memory")
    rows, files = ((after - first) / MEASURED / 1000 for after, first in zip(bytes_in(flair), before, strict=True))
    print(f"{'a photo':>18}: {rows:.1f} kB of rows and indexes, {files:.0f} kB of files")


def test_nothing_is_lost_though_machines_are_cut_off(flair, token, tmp_path, began):
    worker, web = flair.machines["worker-2"], flair.machines["web-2"]
    program = [sys.executable, ROOT / "manage.py", "shell", "--verbosity", "0", "--command", HOLD_A_ROW]
    worker.start("env", *program, environment=flair.environment("worker", worker))
    before = answered(flair)
    total = before + PHOTOS
    sender = Sender(flair, token, photos(tmp_path / "first", range(PHOTOS)))
    held = wait_until((worker.folder / "env.log").read_text, 60, "a row that somebody has locked")
    # One machine's processes hold eight rows at most: with nine in hand, both machines have some.
    running = "SELECT count(*) FROM breeds_prediction WHERE status = 'running'"
    wait_until(lambda: len(sender.results) >= 30 and count(flair, running) > 8, 120, "both machines at work")
    say(began, f"worker-2 and web-2 are cut off: {answered(flair)} answered, {count(flair, running)} in hand")
    worker.cut_off()
    web.cut_off()
    sender.join(180)
    say(began, f"{len(sender.results)} of {PHOTOS} files were taken in")
    assert [result for result in sender.results if result.photo_id is None] == []
    assert len({result.photo_id for result in sender.results}) == PHOTOS
    wait_until(lambda: answered(flair) == total, 180, f"{total} answers")
    say(began, "all are answered, though nobody came back")
    assert count(flair, "SELECT max(attempts) FROM breeds_prediction") == 2  # some were in the hands of worker-2
    assert count(flair, f"SELECT attempts FROM breeds_prediction WHERE id = {int(held.split()[0])}") == 1
    assert count(flair, "SELECT count(*) FROM breeds_prediction") == total
    assert count(flair, "SELECT count(*) FROM shelter_photo WHERE status = 'done'") == total


def test_a_machine_that_comes_back_works_on_and_one_without_power_is_not_missed(flair, token, tmp_path, began):
    flair.machines["worker-2"].reconnect()
    flair.machines["web-2"].reconnect()
    flair.machines["worker-1"].kill()
    flair.machines["web-1"].kill()
    say(began, "worker-2 and web-2 are back, worker-1 and web-1 lost their power")
    total = answered(flair) + MORE
    sender = Sender(flair, token, photos(tmp_path / "second", range(500, 500 + MORE)))
    sender.join(180)
    assert [result for result in sender.results if result.photo_id is None] == []
    assert len(sender.results) == MORE
    wait_until(lambda: answered(flair) == total, 120, f"{total} answers")
    say(began, f"{MORE} more photos are answered")
    assert count(flair, "SELECT count(*) FROM breeds_prediction") == total
    found = flair.manage("fsck", "--hashes", "--grace", "0")
    say(began, f"fsck: {found.strip().splitlines()[-1]}")


def test_both_web_servers_are_replaced_and_whoever_asks_meanwhile_notices_nothing(flair, began):
    """As `docs/operations.md` has it: one after the other, each as it is told to end, and the next once it is ready."""
    flair.start_web("web-1")  # which had lost its power
    statuses, is_over = [], threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            statuses.append(status_of(f"{flair.url}/accounts/login/"))

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for name in ("web-1", "web-2"):
            flair.machines[name].stop()
            flair.start_web(name)
    finally:
        is_over.set()
        for reader in readers:
            reader.join(30)
    say(began, f"both web servers were replaced while {len(statuses)} pages were asked for")
    assert set(statuses) == {200}


def test_a_photo_comes_out_of_the_bucket_for_who_is_logged_in_alone(flair, token, began):
    """Two machines that are back, nginx, a signed address, and a store that verifies it."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    photo = count(flair, "SELECT max(id) FROM shelter_photo")
    address = f"{flair.url}/photos/{photo}/preview/"
    assert "/accounts/login/" in browser.open(address, timeout=20).url
    page = browser.open(f"{flair.url}/accounts/login/", timeout=20).read().decode()
    secret = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    form = {"username": "chloe", "password": PASSWORD, "csrfmiddlewaretoken": secret}
    browser.open(f"{flair.url}/accounts/login/", urlencode(form).encode(), timeout=20)
    with browser.open(address, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.read(2) == b"\xff\xd8"
    say(began, "a preview came out of the store")


def test_no_log_of_any_machine_holds_a_secret(flair, token):
    secrets = {token, PASSWORD, *SECRETS.values()} - {SECRETS["FLAIR_S3_ACCESS_KEY"]}
    logs = [path for machine in flair.machines.values() for path in machine.folder.glob("*.log")]
    assert sum(path.stat().st_size for path in logs) > 10_000
    for path in logs:
        said = path.read_text(errors="replace")
        assert [secret for secret in secrets if secret in said] == [], path.name
