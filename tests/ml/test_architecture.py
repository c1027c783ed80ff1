"""`shelter` → `breeds` → `ml`: an arrow means "may import". Nothing imports upwards, nothing jumps."""

import ast

import pytest

from tests.support.ml import REPOSITORY, run_fresh

FRAMEWORKS = {"keras", "keras_tuner", "tensorflow", "ai_edge_litert"}
FORBIDDEN = {
    "ml": {"django", "celery", "rest_framework", "shelter", "breeds"},
    "breeds": {"shelter"} | FRAMEWORKS,
    "shelter": {"ml"} | FRAMEWORKS,
}


def imported_names(source: str) -> set[str]:
    """Top-level names of everything that is imported anywhere in the source; relative imports stay at home."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_it_imports_only_downwards_in(package):
    files = sorted((REPOSITORY / package).rglob("*.py"))

    found = {
        str(file.relative_to(REPOSITORY)): breach
        for file in files
        if (breach := imported_names(file.read_text()) & FORBIDDEN[package])
    }

    assert files
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import ml",
        "import os, ml.training.networks as networks",
        "from ml import BadCheckpoint",
        "from ml.training.networks import build_classifier",
        "def view(request):\n    from ml.serving.inference import Classifier",
        "class View:\n    if True:\n        import ml.serving.inference",
    ],
)
def test_it_notices_an_import_wherever_it_stands(source):
    assert "ml" in imported_names(source)


@pytest.mark.parametrize(
    "source", ["import mlx", "from . import ml", "from .ml import a", "from breeds import ml", "1"]
)
def test_it_takes_no_other_name_for_the_package(source):
    assert "ml" not in imported_names(source)


@pytest.mark.parametrize(
    ("imports", "unwanted"),
    [
        (
            "import django; django.setup(); import shelter.urls, breeds.tasks",
            ["tensorflow", "keras", "ai_edge_litert", "sklearn"],
        ),
        ("import ml.serving.inference", ["tensorflow", "keras", "sklearn", "django"]),
        ("import ml", ["numpy", "PIL", "tensorflow", "keras"]),
    ],
)
def test_it_starts_without_loading_what_it_does_not_need(imports, unwanted, tmp_path):
    loaded = run_fresh(f"import sys; {imports}; print([name for name in {unwanted} if name in sys.modules])", tmp_path)

    assert loaded == "[]"


def test_it_decides_with_numpy_alone(tmp_path):
    code = (
        "import sys, numpy; before = set(sys.modules); import ml.serving.decision; "
        "print({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names) - {'numpy'})"
    )

    assert run_fresh(code, tmp_path) == "{'ml'}"
