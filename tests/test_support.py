"""The tests' own modules: how a run is divided between processes, and the list of what is where."""

import re
from pathlib import Path

import pytest

from tests import cluster, support
from tests.support.parallel import redis_of, slow_first


@pytest.mark.parametrize("package", [support, cluster], ids=["support", "cluster"])
def test_the_list_of_a_folder_names_every_module_in_it(package):
    modules = {path.name for path in Path(package.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^(\w+\.py) ", package.__doc__, re.MULTILINE)) == modules


def test_each_process_has_a_redis_of_its_own():
    url = "redis://127.0.0.1:6379/9"
    assert [redis_of(url, process) for process in ("", "gw0", "gw1")] == [url, url, "redis://127.0.0.1:6379/10"]
    assert redis_of("", "gw1") == ""


def test_files_with_slow_tests_come_first_and_stay_together():
    class Item:
        def __init__(self, path, *markers):
            self.path, self.get_closest_marker = path, markers.__contains__

    items = [Item("a"), Item("b"), Item("b", "slow"), Item("c", "slow"), Item("a")]
    slow_first(items)
    assert [item.path for item in items] == ["b", "b", "c", "a", "a"]
