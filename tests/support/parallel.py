"""How a run of all tests is divided between processes.

The database that pytest-django makes has a name per process already; folders and ports are new for every test.
"""


def slow_first(items: list) -> None:
    """Put files with slow tests first, so that no process waits long for another at the end.

    Files with transactions of their own come last: they empty the database of their process, account groups included.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    emptying = {item.path for item in items if _empties_the_database(item)}
    items.sort(key=lambda item: (item.path in emptying, item.path not in slow))


def _empties_the_database(item) -> bool:
    marker = item.get_closest_marker("django_db")
    return bool(marker and marker.kwargs.get("transaction"))


def redis_of(url: str, process: str) -> str:
    """Give each test process (`gw0`, `gw1` …) its own Redis database: the one in `url`, and those after it."""
    server, _, number = url.rpartition("/")
    return f"{server}/{int(number) + int(process.removeprefix('gw'))}" if url and process else url
