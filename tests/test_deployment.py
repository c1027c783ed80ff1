"""The image and the topology, as far as they can be checked where no container engine is."""

import json
import re
import shlex

import pytest
import yaml
from django.conf import settings

from tests.support.serving import ROOT

INSTRUCTIONS = {"FROM", "RUN", "CMD", "EXPOSE", "ENV", "COPY", "USER", "WORKDIR"}
OF_IMAGES = {"postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def read_by_settings() -> set[str]:
    source = (ROOT / "shelter" / "settings.py").read_text()
    return set(re.findall(r"\benv\.\w+\(\s*\"(\w+)\"", source))


def ours(compose: dict) -> dict[str, dict]:
    return {name: service for name, service in compose["services"].items() if service["image"] == "flair"}


def test_it_has_two_web_servers_several_workers_and_what_they_need(compose):
    assert set(compose["services"]) == {
        "prepare", "web-1", "web-2", "worker", "nginx", "postgres", "redis", "store",
    }  # fmt: skip
    assert compose["services"]["worker"]["deploy"]["replicas"] >= 2


def test_it_sets_only_variables_that_settings_read(compose):
    for name, service in ours(compose).items():
        assert set(service["environment"]) <= read_by_settings(), name
    for name, known in OF_IMAGES.items():
        assert set(compose["services"][name]["environment"]) == known


def test_it_gives_every_process_the_same_environment(compose):
    assert len({json.dumps(service["environment"], sort_keys=True) for service in ours(compose).values()}) == 1


def test_it_asks_for_every_secret_and_has_a_default_for_the_rest():
    text = (ROOT / "compose.yaml").read_text()
    variables = re.findall(r"(?<!\$)\$\{(\w+)(:[?-])?", text)
    assert all(kind for _name, kind in variables)
    assert {name for name, kind in variables if kind == ":?"} == {
        "FLAIR_SECRET_KEY", "POSTGRES_PASSWORD", "FLAIR_S3_SECRET_KEY",
    }  # fmt: skip
    documented = (ROOT / "docs" / "operations.md").read_text()
    assert [name for name, _kind in variables if name not in documented] == []


def test_it_names_only_services_volumes_and_configs_that_are_there(compose):
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(compose["volumes"])
        assert {config["source"] for config in service.get("configs", [])} <= set(compose["configs"])
    text = (ROOT / "compose.yaml").read_text() + (ROOT / "nginx.conf").read_text()
    addresses = set(re.findall(r"(?:@|//|server )([a-z][\w-]*):\d+", text))
    assert addresses - {"localhost"} <= set(compose["services"])


def test_it_pins_the_version_of_every_image(compose, instructions):
    images = [service["image"] for service in compose["services"].values() if service["image"] != "flair"]
    images += [value.split()[0] for word, value in instructions if word == "FROM"]
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*", image) for image in images), images


def test_its_store_is_described_in_json(compose):
    identity = json.loads(compose["configs"]["store"]["content"])["identities"][0]
    flair = compose["services"]["web-1"]["environment"]
    (pair,) = identity["credentials"]
    assert (pair["accessKey"], pair["secretKey"]) == (flair["FLAIR_S3_ACCESS_KEY"], flair["FLAIR_S3_SECRET_KEY"])


def test_its_proxy_reads_the_configuration_that_the_tests_try(compose):
    """In `tests/test_media.py` and `tests/support/cluster.py`, with real nginx."""
    assert compose["configs"]["nginx"] == {"file": "nginx.conf"}
    assert compose["services"]["web-1"]["environment"]["FLAIR_MEDIA_BY_PROXY"] == "true"


def test_it_builds_from_what_is_there_and_runs_as_nobody_in_particular(instructions):
    assert {word for word, _value in instructions} == INSTRUCTIONS
    for word, value in instructions:
        if word == "COPY" and not value.startswith("--from"):
            *sources, _target = shlex.split(value)
            assert all((ROOT / source).exists() for source in sources), value
    words = [word for word, _value in instructions]
    assert words.index("USER") < words.index("CMD")
    assert dict(instructions)["USER"] != "root"
    assert json.loads(dict(instructions)["CMD"])[0] == "gunicorn"


def test_it_takes_every_package_of_flair_into_the_image_and_no_secret(instructions):
    copied = {value.split()[0] for word, value in instructions if word == "COPY"}
    assert {"ml", "breeds", "shelter", "static", "templates", "locale", "manage.py", "requirements.txt"} <= copied
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".data", ".git", ".venv"} <= set(ignored)


def test_its_web_server_and_worker_are_those_of_make_run(compose, instructions):
    """The same options, but for addresses and logs."""
    supervised = (ROOT / "supervisord.conf").read_text()
    for word in ("--worker-class", "gthread", "--preload", "--threads"):
        assert word in dict(instructions)["CMD"]
        assert word in supervised
    for word in compose["services"]["worker"]["command"]:
        assert word in supervised
    ours = dict(re.findall(r'(MALLOC_\w+)="(\d+)"', supervised))
    in_image = dict(re.findall(r"(MALLOC_\w+)=(\d+)", " ".join(value for word, value in instructions if word == "ENV")))
    assert ours
    assert ours == in_image


def test_every_file_names_the_same_number_of_threads(compose, instructions):
    def numbers(pattern: str, *path: str) -> list[str]:
        found = re.findall(pattern, ROOT.joinpath(*path).read_text())
        assert found, path
        return found

    command = json.loads(dict(instructions)["CMD"])
    threads = command[command.index("--threads") + 1]
    assert {
        *numbers(r"--threads (\d+)", "supervisord.conf"),
        *numbers(r"of its (\d+) threads", "shelter", "settings.py"),
        *numbers(r"(\d+) threads of each web server", "compose.yaml"),
        *numbers(r"of the (\d+) threads of each web process", "docs", "operations.md"),
        *numbers(r"(\d+) per web server", "docs", "scaling.md"),
    } == {threads}
    assert int(threads) > settings.PREDICT_PLACES + settings.WAIT_PLACES

    web_servers = [name for name in ours(compose) if name.startswith("web-")]
    assert len(web_servers) * int(threads) < int(compose["services"]["postgres"]["command"][-1].split("=")[1])
