"""How a run of all tests is divided between processes."""

from tests.support.division import redis_of, slow_first


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
