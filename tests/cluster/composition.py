"""compose.yaml without containers: its services with their own environment and commands, each on a machine of its own.

What is not theirs: images (programs come from Debian and the virtual environment), health checks (we wait ourselves),
and the store, which is OpenStack Swift here (`tests/cluster/swift.py`), as SeaweedFS has no package.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import yaml

from tests.cluster.machines import Machine, network
from tests.cluster.swift import start_swift
from tests.support.serving import ROOT, wait_until

SERVICES = ["postgres", "redis", "store", "web-1", "web-2", "worker-1", "worker-2", "nginx", "client"]
WORKER_PROCESSES = 2  # of each of the two machines
SECRETS = {
    "FLAIR_SECRET_KEY": "fifty-characters-that-are-made-for-this-test-alone-0",
    "POSTGRES_PASSWORD": "pgpassword",
    "FLAIR_S3_ACCESS_KEY": "flair:flair",
    "FLAIR_S3_SECRET_KEY": "s3secret",
}


def composed(variables: dict[str, str]) -> dict:
    """The services of compose.yaml with every `${…}` filled in, as `docker compose config` prints them."""

    def value(match: re.Match) -> str:
        if match[0] == "$$":
            return "$"
        name, kind, default = match.groups()
        assert name in variables or kind == "-", f"Expected {name}."
        return variables.get(name, default)

    def filled(part):
        if isinstance(part, dict):
            return {name: filled(inner) for name, inner in part.items()}
        if isinstance(part, list):
            return [filled(inner) for inner in part]
        return re.sub(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}", value, part) if isinstance(part, str) else part

    return filled(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


class Composition:
    """All services, running. `machines` by name; the ports of the composition."""

    def __init__(self, machines: dict[str, Machine]):
        self.machines = machines
        self.services = composed(SECRETS | {"FLAIR_ALLOWED_HOSTS": f"{machines['nginx'].address},localhost"})
        self.url = f"http://{machines['nginx'].address}"

    def environment(self, service: str, machine: Machine) -> dict[str, str]:
        """What the composition gives the service, and the folder of this machine in place of the image's own."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "HOME": str(machine.folder),
            "FLAIR_DATA_DIR": str(machine.folder / "data"),
            "FLAIR_WORKER_PROCESSES": str(WORKER_PROCESSES),
            **self.services[service]["environment"],
        }

    def start(self) -> None:
        self._start_database()
        redis = self.machines["redis"]
        redis.start(*self.services["redis"]["command"], "--bind", "0.0.0.0", "--protected-mode", "no")
        start_swift(self.machines["store"], SECRETS["FLAIR_S3_ACCESS_KEY"], SECRETS["FLAIR_S3_SECRET_KEY"])
        wait_until(lambda: status_of(f"http://{self.machines['store'].address}:8333/healthcheck") == 200, 60, "Swift")
        web = self.machines["web-1"]
        wait_until(lambda: self._prepares(web), 120, "tables and a bucket")
        for name in ("web-1", "web-2"):
            self.start_web(name)
        for name in ("worker-1", "worker-2"):
            self.start_worker(name)
        self._start_nginx()
        wait_until(lambda: status_of(f"{self.url}/healthz") == 200, 60, "an answer through nginx")

    def _start_database(self) -> None:
        machine, programs = self.machines["postgres"], max(Path("/usr/lib/postgresql").glob("*/bin"))
        settings, data = self.services["postgres"]["environment"], machine.folder / "data"
        password = machine.folder / "password"
        password.write_text(settings["POSTGRES_PASSWORD"])
        machine.run("chown", "-R", "postgres", machine.folder)
        user = settings["POSTGRES_USER"]
        machine.run(
            programs / "initdb", "-D", data, "-U", user, f"--pwfile={password}", "--auth=scram-sha-256", user="postgres"
        )
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.0.0/24 scram-sha-256\n")
        machine.start(
            programs / "postgres", "-D", data, "-c", "listen_addresses=*", "-c",
            f"unix_socket_directories={machine.folder}", user="postgres",
        )  # fmt: skip
        wait_until(lambda: self._has_database(settings["POSTGRES_DB"]), 60, "PostgreSQL")

    def _has_database(self, name: str) -> bool:
        try:
            with self.database("postgres") as connection:
                connection.execute(f"CREATE DATABASE {name}")
        except psycopg.OperationalError:
            return False
        return True

    def database(self, name: str = "flair") -> psycopg.Connection:
        address, password = self.machines["postgres"].address, SECRETS["POSTGRES_PASSWORD"]
        return psycopg.connect(f"postgres://flair:{password}@{address}:5432/{name}", autocommit=True)

    def _prepares(self, machine: Machine) -> bool:
        """As `restart: on-failure` has it."""
        try:
            prepare = self.services["prepare"]["command"]
            machine.run("env", "-C", ROOT, *prepare, environment=self.environment("prepare", machine))
        except AssertionError as error:
            (machine.folder / "prepare.log").write_text(str(error))
            return False
        return True

    def start_web(self, name: str) -> None:
        machine = self.machines[name]
        statics = machine.folder / "data" / "static"
        if not statics.exists():  # the image has them
            statics.parent.mkdir(exist_ok=True)
            statics.symlink_to(self.machines["web-1"].folder / "data" / "static")
        dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
        command = json.loads(re.search(r"^CMD (\[.*\])", dockerfile, re.MULTILINE)[1])
        machine.start(
            f"{Path(sys.executable).parent}/{command[0]}", "--chdir", ROOT, *command[1:],
            environment=self.environment(name, machine),
        )  # fmt: skip
        wait_until(lambda: status_of(f"http://{machine.address}:8000/readyz", "localhost") == 200, 60, f"{name}")

    def start_worker(self, name: str) -> None:
        machine, (program, *rest) = self.machines[name], self.services["worker"]["command"]
        machine.start(
            f"{Path(sys.executable).parent}/{program}", "--workdir", ROOT, *rest,
            environment=self.environment("worker", machine),
        )  # fmt: skip

    def _start_nginx(self) -> None:
        machine = self.machines["nginx"]
        paths = "".join(
            f"{of}_temp_path {machine.folder}/{of};\n" for of in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = machine.folder / "main.conf"
        main.write_text(f"pid {machine.folder}/pid;\nevents {{}}\nhttp {{\n{paths}include {ROOT / 'nginx.conf'};\n}}\n")
        machine.start("/usr/sbin/nginx", "-c", main, "-e", "stderr", "-g", "daemon off;")

    def manage(self, *arguments: str) -> str:
        machine = self.machines["web-1"]
        command = [sys.executable, ROOT / "manage.py", *arguments]
        return machine.run(*command, environment=self.environment("web-1", machine))


def status_of(address: str, host: str = "") -> int:
    """0 where nobody answers."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def composition(folder: Path):
    """A running `Composition`, seen from a machine of its own; nothing of it stays."""
    with ExitStack() as stack:
        machines = stack.enter_context(network(SERVICES, folder))
        stack.enter_context(machines["client"].entered())
        running = Composition(machines)
        running.start()
        yield running
