"""The second pass of the gate leaves out what knows no database, and nothing else."""

import os

import pytest

from tests.division import HERE, is_pure, redis_of, slow_first


@pytest.mark.parametrize("name", ["test_decision", "test_training", "test_tuning", "test_notebooks", "ml_support"])
def test_it_leaves_out_what_knows_no_django(name):
    assert is_pure(HERE / f"{name}.py")


@pytest.mark.parametrize(
    "name", ["test_uploading", "test_classifying", "test_serving", "test_browser", "test_training_set", "serving"]
)
def test_it_keeps_what_may_differ(name):
    assert not is_pure(HERE / f"{name}.py")


@pytest.mark.parametrize(
    ("source", "pure"),
    [
        ("import numpy, ml.decision", True),
        ("from django.core.management import call_command", True),
        ("from breeds.management.commands.tune import command_line", True),
        ("from breeds.classifier import active_classifier", False),
        ("def test_it():\n    import shelter.models", False),
        ("from tests.serving import serving", False),
        ("from tests.ml_support import encode", True),
    ],
)
def test_it_looks_at_every_import(source, pure, tmp_path):
    (tmp_path / "test_made.py").write_text(source)
    assert is_pure(tmp_path / "test_made.py") == pure


def test_no_service_is_within_reach_of_what_is_left_out(request):
    assert request.node.get_closest_marker("pure")
    assert {os.environ[name].split("@")[-1].split("/")[-2] for name in ("DATABASE_URL", "REDIS_URL")} == {"127.0.0.1:1"}


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
