from pathlib import Path

import pytest

from ml.data.loading import load_dataset
from tests.support.ml import use_tiny_backbone, write_dataset

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("pure")


@pytest.fixture(autouse=True)
def no_services(monkeypatch):
    """The gate runs these tests once: a test that asks for a database or a broker, in any process, fails here.

    In this process pytest-django refuses every query that was not asked for.
    """
    monkeypatch.setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")


@pytest.fixture(scope="module")
def dataset_folder(tmp_path_factory):
    """Three breeds of 20 drawn dogs each."""
    return write_dataset(tmp_path_factory.mktemp("dogs"))


@pytest.fixture(scope="module")
def dataset(dataset_folder):
    return load_dataset(dataset_folder)


@pytest.fixture
def tiny_backbone(monkeypatch):
    use_tiny_backbone(monkeypatch)
