"""Which tests need database and broker, and how a run of all of them is divided between processes.

The database that pytest-django makes has a name per process already; folders and ports are new for every test.
"""

import ast
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = {"breeds", "celery", "django", "kombu", "psycopg", "redis", "rest_framework", "shelter"}
WITHOUT_ROWS = ("breeds.management.commands.", "django.core.management")  # the commands around `ml`


@cache
def is_pure(module: Path) -> bool:
    """Whether a file of tests, and every other one that it imports, knows neither Django nor our packages on it."""
    names = {name for name in _imported(module.read_text()) if not name.startswith(WITHOUT_ROWS)}
    ours = {HERE / f"{name.split('.')[1]}.py" for name in names if name.startswith("tests.")}
    return not SERVICES & {name.partition(".")[0] for name in names} and all(map(is_pure, ours))


def _imported(source: str) -> set[str]:
    """Full names of all modules that are imported anywhere in the source."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return names


def slow_first(items: list) -> None:
    """Files with slow tests in front: so no process waits long for another in the end.

    Last come files with transactions of their own: those empty the database of their process, groups of accounts too.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    emptying = {item.path for item in items if _empties_the_database(item)}
    items.sort(key=lambda item: (item.path in emptying, item.path not in slow))


def _empties_the_database(item) -> bool:
    marker = item.get_closest_marker("django_db")
    return bool(marker and marker.kwargs.get("transaction"))


def redis_of(url: str, process: str) -> str:
    """The database of Redis of one of several test processes (`gw0`, `gw1` …): the one named, and those after it."""
    server, _, number = url.rpartition("/")
    return f"{server}/{int(number) + int(process.removeprefix('gw'))}" if url and process else url
