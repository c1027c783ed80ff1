"""How a run of all tests is divided between processes.

The database that pytest-django makes has a name per process already; folders and ports are new for every test.
"""


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
