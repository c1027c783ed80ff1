"""The rules of docs/architecture.md, kept by reading the imports of every file at any depth."""

import ast

import pytest

from tests.support.imports import circles, imports_in, imports_of, modules
from tests.support.ml import REPOSITORY, run_fresh

TRAINERS = {"keras", "keras_tuner", "tensorflow", "sklearn"}
FRAMEWORKS = TRAINERS | {"ai_edge_litert"}
# Folder -> packages and folders that no file in it may import.
FORBIDDEN = {
    "ml": {"django", "celery", "rest_framework", "shelter", "breeds"},
    "ml.images": {"ml.serving", "ml.data", "ml.evaluation", "ml.training"} | TRAINERS,
    "ml.serving": {"ml.data", "ml.evaluation", "ml.training"} | TRAINERS,
    "ml.data": {"ml.serving", "ml.evaluation", "ml.training"} | TRAINERS,
    "ml.evaluation": {"ml.training"} | TRAINERS,
    "ml.files": TRAINERS,
    "ml.progress": TRAINERS,
    "ml.reports": TRAINERS,
    "breeds": {"shelter"} | FRAMEWORKS,
    "breeds.models": {"breeds.tasks", "breeds.admin", "breeds.words", "rest_framework"},
    "shelter": {"ml"} | FRAMEWORKS,
    "shelter.models": {f"shelter.{name}" for name in ("intake", "search", "pages", "api", "operations", "tasks")},
    "shelter.intake": {f"shelter.{name}" for name in ("search", "pages", "api", "operations", "tasks")},
    "shelter.search": {f"shelter.{name}" for name in ("intake", "pages", "api", "operations", "tasks")},
    "shelter.pages": {"shelter.api", "shelter.operations", "shelter.tasks"},
    "shelter.api": {"shelter.pages", "shelter.operations", "shelter.tasks"},
    "shelter.operations": {"shelter.pages", "shelter.api", "shelter.tasks"},
}
# The only files with imports inside functions: they keep TensorFlow, Keras, LiteRT and matplotlib out of processes that
# do not need them. Such an import is of `ml` or of a package in `HEAVY`.
LAZY = {
    "breeds.classifier",
    "breeds.management.commands.compare",
    "breeds.management.commands.evaluate",
    "breeds.management.commands.explore",
    "breeds.management.commands.preprocess",
    "breeds.management.commands.train",
    "breeds.management.commands.tune",
    "breeds.quality",
    "breeds.shadow",
}
HEAVY = FRAMEWORKS | {"ml", "matplotlib", "rich"}
# The one function of `breeds` that looks a model up by its name.
REFLECTION = {"get_model", "related_model", "get_field"}


def is_in(name: str, folder: str) -> bool:
    return f"{name}.".startswith(f"{folder}.")


def modules_in(folder: str) -> list[str]:
    return [name for name in modules() if is_in(name, folder)]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_it_imports_only_what_its_folder_may(folder):
    breaches = {
        (module, imported.name)
        for module in modules_in(folder)
        for imported in imports_of(module)
        if any(is_in(imported.name, forbidden) for forbidden in FORBIDDEN[folder])
    }

    assert modules_in(folder)
    assert not breaches


def test_no_modules_import_each_other_in_a_circle():
    assert circles() == []


def test_imports_inside_functions_only_keep_heavy_packages_away():
    lazy = {(module, imported.name) for module in modules() for imported in imports_of(module) if imported.is_inner}

    assert {module for module, _name in lazy} <= LAZY
    assert {name for _module, name in lazy if name.partition(".")[0] not in HEAVY} == set()


def test_breeds_looks_models_up_by_name_in_one_function_only():
    uses = {
        (module, node.attr)
        for module in modules_in("breeds")
        for node in ast.walk(ast.parse(modules()[module].read_text()))
        if isinstance(node, ast.Attribute) and node.attr in REFLECTION
    }

    assert uses == {("breeds.models.photos", "related_model"), ("breeds.models.photos", "get_field")}


def test_breeds_reaches_no_attribute_by_a_literal_name():
    """`breeds.audit` alone does: it reads fields of any form and keys of any model."""
    calls = {
        module
        for module in modules_in("breeds")
        for node in ast.walk(ast.parse(modules()[module].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
        if isinstance(node.args[1], ast.Constant)
    }

    assert calls == {"breeds.audit"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import ml", {"ml"}),
        ("import os, ml.serving as serving", {"os", "ml.serving"}),
        ("from ml import BadCheckpoint", {"ml.BadCheckpoint"}),
        ("def view(request):\n    from ml.serving import inference", {"ml.serving.inference"}),
        ("class View:\n    if True:\n        import ml.serving", {"ml.serving"}),
        ("from . import urls", {"shelter.pages.urls"}),
        ("from ..models import photos", {"shelter.models.photos"}),
        ("if TYPE_CHECKING:\n    import ml", set()),
        ("import mlx", {"mlx"}),
    ],
)
def test_it_notices_an_import_wherever_it_stands(source, names):
    assert {imported.name for imported in imports_in(source, "shelter.pages.photos")} == names


def test_a_name_that_begins_alike_is_another_package():
    assert is_in("ml.serving", "ml")
    assert not is_in("mlx.core", "ml")


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


def test_every_folder_of_the_rules_is_there():
    assert all((REPOSITORY / name.replace(".", "/")).exists() or name in modules() for name in FORBIDDEN)
