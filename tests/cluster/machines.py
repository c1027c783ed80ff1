"""Machines without containers: a network namespace each, with one wire to a switch that can be pulled out."""

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

PREFIX = "flair-"
SWITCH = f"{PREFIX}switch"
CLONE_NEWNET = 0x40000000


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A host name, an address, a folder, and the processes that were started on it."""

    def __init__(self, name: str, number: int, folder: Path):
        self.name, self.address, self.folder = name, f"10.77.0.{number}", folder
        self.namespace, self.port = PREFIX + name, f"port{number}"
        self.processes: list[subprocess.Popen] = []
        folder.mkdir(parents=True)

    def plug_in(self) -> None:
        ip("netns", "add", self.namespace)
        ip("-n", SWITCH, "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("-n", SWITCH, "link", "set", self.port, "master", "bridge", "up")
        ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.namespace, "link", "set", device, "up")

    def cut_off(self) -> None:
        """What is sent to it or by it is lost without a word, as behind a switch that lost its power."""
        ip("-n", SWITCH, "link", "set", self.port, "down")

    def reconnect(self) -> None:
        ip("-n", SWITCH, "link", "set", self.port, "up")

    def command(self, arguments: Iterable) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *map(str, arguments)]

    def start(self, *arguments, environment: dict[str, str] | None = None, user: str = "") -> subprocess.Popen:
        """A process that stays; what it says goes to `<its name>.log` in the machine's folder."""
        as_user = ["runuser", "-u", user, "--"] if user else []
        with (self.folder / f"{Path(str(arguments[0])).name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command([*as_user, *arguments]), env=environment, cwd=self.folder if user else None,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, *arguments, environment: dict[str, str] | None = None, user: str = "", seconds: int = 180) -> str:
        """What a command prints that comes to an end; raises `AssertionError` where it fails."""
        as_user = ["runuser", "-u", user, "--"] if user else []
        done = subprocess.run(
            self.command([*as_user, *arguments]), env=environment, cwd="/" if user else None, capture_output=True,
            text=True, timeout=seconds,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def pids(self) -> list[int]:
        listing = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True).stdout
        return [int(pid) for pid in listing.split()]

    def processor_seconds(self) -> float:
        """What its processes, and those that they have waited for, have used so far."""
        ticks = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_megabytes(self) -> float:
        """What its processes hold in memory; what they share is divided among them."""
        kilobytes = 0
        for pid in self.pids():
            try:
                kilobytes += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
            except (FileNotFoundError, ProcessLookupError, TypeError):
                continue
        return kilobytes / 1000

    def stop(self) -> None:
        """Every process is told to end, as `docker compose stop` does, and is waited for."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=90)
        self.processes.clear()

    def kill(self) -> None:
        """Every process on it at once, as when the power fails."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.processes:
            process.wait(timeout=20)
        self.processes.clear()

    @contextmanager
    def entered(self):
        """This thread, and those that it starts, are on this machine meanwhile, as far as the network goes."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.namespace}").open() as here:
            _set_network(here)
            try:
                yield
            finally:
                _set_network(home)


def _set_network(namespace) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "Expected to enter a network namespace; that needs root.")


@contextmanager
def network(names: list[str], folder: Path):
    """{name: Machine}: all on one switch, each known to all by its name. Needs root; nothing of it stays."""
    machines = {name: Machine(name, number, folder / name) for number, name in enumerate(names, 2)}
    hosts = "".join(f"{machine.address} {name}\n" for name, machine in machines.items())
    settings = [Path("/etc/netns") / machine.namespace for machine in machines.values()]
    try:
        ip("netns", "add", SWITCH)
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        for machine, files in zip(machines.values(), settings, strict=True):
            files.mkdir(parents=True, exist_ok=True)
            (files / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")  # `ip netns exec` puts it over /etc/hosts
            machine.plug_in()
        yield machines
    finally:
        for machine in machines.values():
            machine.kill()
            subprocess.run(["ip", "netns", "delete", machine.namespace], capture_output=True)
        subprocess.run(["ip", "netns", "delete", SWITCH], capture_output=True)
        for files in settings:
            _remove(files)


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if folder.exists():
        folder.rmdir()
