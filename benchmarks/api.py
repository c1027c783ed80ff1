"""Requests per second and latencies of `predict/` and `photos/`, side by side with other ways to serve the classifier.

    python -m benchmarks.api                     # 1, 8 and 32 clients, against LitServe and Flask + model.predict
    python -m benchmarks.api --requests 20 --clients 1 4 --against litserve

All servers run at once, as `make run` and `benchmarks.rival_…` start them, and are asked in turn: only one has work at
a time, and a machine that is slow for a while is slow for all. A client sends its next request when it has the answer
to the one before; a 429 is waited out and counts into the latency. Each request carries other bytes. Photos of more
than 1 MB are more than LitServe can hand from its web process to its worker.

`cpu` is the processor time per request of all processes that answered: what remains comparable where the machine has
other work. Of `photos/` it leaves out Flair's worker, which goes on after the answer.
"""

import argparse
import http.client
import io
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.serving import ROOT, free_port, serving, wait_until

BOUNDARY = "flair-benchmark"
RIVALS = {"litserve": "LitServe", "flask": "Flask + model.predict", "gunicorn": "gunicorn alone"}
CALLS = {"predict": ("predict/", False), "photos": ("photos/ (stored)", True)}  # title, is the photo kept


@dataclass
class Server:
    """One way to serve. `keeps` are the form fields that make it store the photo, at `keep_path`."""

    name: str
    port: int
    predict_path: str = "/predict/"
    keep_path: str = "/predict/"
    keeps: str = "keep"
    headers: dict[str, str] = field(default_factory=dict)
    processes: Callable[[], list[int]] = list
    settle: Callable[[], object] = bool  # comes back when nothing of what it was sent is still at work

    def cpu(self) -> float:
        """Milliseconds of processor time that its processes have used up to now."""
        return sum(map(_cpu_of, self.processes()))


def _cpu_of(pid: int) -> float:
    try:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:  # it has ended, or this is no Linux
        return 0.0
    return sum(map(int, used)) * 1000 / os.sysconf("SC_CLK_TCK")


def _below(root: int) -> list[int]:
    """A process and all that it has started, they and theirs."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout.split()
    parents, found = dict(zip(map(int, listing[::2]), map(int, listing[1::2]), strict=True)), [root]
    for parent in found:
        found += [pid for pid, its in parents.items() if its == parent]
    return found


@dataclass(frozen=True)
class Cell:
    """What one server did with one number of clients; latencies and `cpu`, of all requests, in milliseconds."""

    per_second: float
    latencies: list[float]
    busy: int
    failed: int
    cpu: float = 0.0

    def percentile(self, share: int) -> float:
        return statistics.quantiles(self.latencies, n=100)[share - 1] if len(self.latencies) > 1 else self.latencies[0]


def photos(width: int, height: int) -> list[bytes]:
    """Four photos with the detail of real ones."""
    made = []
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        made.append(stream.getvalue())
    return made


_numbers = itertools.count(random.randrange(2**48))


def other_bytes(photo: bytes) -> bytes:
    """The same picture under another hash: a comment behind the start of the JPEG."""
    comment = str(next(_numbers)).encode()
    return photo[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + photo[2:]


def form(photo: bytes, extra: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{extra}"\r\n\r\n1\r\n' if extra else ""
    head += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
    return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


class Load:
    """`clients` threads that send `requests` photos between them, as fast as the answers come."""

    def __init__(self, server: Server, keeps: bool, shown: list[bytes], requests: int):
        self.server, self.left = server, iter(range(requests))
        self.path = server.keep_path if keeps else server.predict_path
        self.bodies = [(photo, server.keeps if keeps else "") for photo in shown]
        self.lock = threading.Lock()
        self.latencies, self.busy, self.failed = [], 0, 0

    def run(self, clients: int) -> Cell:
        threads = [threading.Thread(target=self._client) for _ in range(clients)]
        used, started = self.server.cpu(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        cpu = self.server.cpu() - used
        return Cell(len(self.latencies) / seconds, self.latencies or [float("nan")], self.busy, self.failed, cpu)

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **self.server.headers}
        while (number := self._next()) is not None:
            photo, extra = self.bodies[number % len(self.bodies)]
            body, started = form(other_bytes(photo), extra), time.perf_counter()
            while (status := self._ask(connection, body, headers)) == 429:
                with self.lock:
                    self.busy += 1
            with self.lock:
                if status in (200, 201):
                    self.latencies.append((time.perf_counter() - started) * 1000)
                else:
                    self.failed += 1
        connection.close()

    def _next(self) -> int | None:
        with self.lock:
            return next(self.left, None)

    def _ask(self, connection, body: bytes, headers: dict[str, str]) -> int:
        try:
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        if response.status == 429:
            time.sleep(float(response.getheader("Retry-After") or 1))
        return response.status


def started_rival(stack: ExitStack, name: str) -> Server:
    """In a process group of its own, to be ended as a whole, but in this session, as Flair is.

    Linux shares the processors out between sessions first: another one would get more, or less, than Flair.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.rival_{name}", str(port)],
        cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}, process_group=0,
    )  # fmt: skip
    stack.callback(_end, process)
    server = Server(RIVALS[name], port)
    server.processes = lambda: _below(process.pid)
    warm_up = photos(320, 240)[:1]
    wait_until(lambda: not Load(server, False, warm_up, 1).run(1).failed, 180, f"an answer of {name}")
    return server


def _end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, 15)
        process.wait(20)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        process.kill()


def print_table(call: str, clients: int, cells: dict[str, Cell]) -> None:
    print(f"\n{call}, {clients} client{'s' if clients > 1 else ''}")
    print(f"{'':24} per second     p50     p95     p99     cpu  (ms)   429s  failed   Flair: throughput   p95   cpu")
    ours = cells["Flair"]
    for name, cell in cells.items():
        cpu, our_cpu = (shown.cpu / len(shown.latencies) for shown in (cell, ours))
        ratio = f"{ours.per_second / cell.per_second:12.2f}×{cell.percentile(95) / ours.percentile(95):12.2f}×"
        ratio += f"{cpu / our_cpu:6.2f}×" if our_cpu else ""
        print(
            f"{name:24}{cell.per_second:11.1f}{cell.percentile(50):8.0f}{cell.percentile(95):8.0f}"
            f"{cell.percentile(99):8.0f}{cpu:8.1f}{cell.busy:13}{cell.failed:8}   {'' if cell is ours else ratio}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300, help="of each server in each cell")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--rounds", type=int, default=3, help="each cell is measured so often, in turn; the parts add up"
    )
    parser.add_argument("--calls", nargs="+", choices=list(CALLS), default=list(CALLS))
    parser.add_argument("--against", nargs="*", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--size", type=int, nargs=2, default=(1600, 1200), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--photos", type=Path, nargs="*", help="JPEG files to send instead of made ones")
    given = parser.parse_args()
    shown = [path.read_bytes() for path in given.photos] if given.photos else photos(*given.size)
    os.environ |= {f"FLAIR_API_RATE_{scope}": str(10**9) for scope in ("READ", "UPLOAD", "REVIEW")}
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
        flair = stack.enter_context(serving(data, FLAIR_SWEEP_SECONDS="10"))  # as by default; tests sweep more often
        key = flair.token()
        port = int(flair.environment["PORT"])
        drains: list[float] = []
        ours = Server("Flair", port, "/api/v1/predict/", "/api/v1/photos/", "", {"Authorization": f"Token {key}"})
        ours.processes, ours.settle = lambda: flair.processes("gunicorn"), lambda: drains.append(drained(flair, key))
        servers = [ours]
        servers += [started_rival(stack, name) for name in given.against]
        size = statistics.mean(map(len, shown)) / 1000
        print(f"{len(shown)} photos of {size:.0f} kB, {given.requests} requests a cell, {os.cpu_count()} cores")
        for call in given.calls:
            title, keeps = CALLS[call]
            for clients in given.clients:
                print_table(title, clients, measured(servers, keeps, shown, given.requests, clients, given.rounds))
        if "photos" not in given.calls:
            return
        print(
            "\nFlair answers `photos/` when the photo is safe and queued; the others when they have classified it too."
        )
        print(f"Its worker had answered everything at most {max(drains):.1f} s after the last upload of a part.")


def measured(servers, keeps: bool, shown, requests: int, clients: int, rounds: int) -> dict[str, Cell]:
    for server in servers:
        Load(server, keeps, shown, 48).run(16)  # so that every process and thread has loaded what it needs
        server.settle()
    parts = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            parts[server.name].append(Load(server, keeps, shown, max(1, requests // rounds)).run(clients))
            server.settle()
    return {name: joined(cells) for name, cells in parts.items()}


def joined(cells: list[Cell]) -> Cell:
    seconds = sum(len(cell.latencies) / cell.per_second for cell in cells if cell.per_second)
    latencies = [latency for cell in cells for latency in cell.latencies]
    busy, failed, cpu = (sum(getattr(cell, name) for cell in cells) for name in ("busy", "failed", "cpu"))
    return Cell(len(latencies) / seconds, latencies, busy, failed, cpu)


def drained(flair, token: str) -> float:
    """Seconds until its worker has answered all photos."""
    started = time.perf_counter()
    wait_until(
        lambda: not flair.api("GET", "/photos/?status=pending&page_size=1", token)["results"], 600, "all answers"
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
