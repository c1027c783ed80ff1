"""The import graph of our packages, read from the sources without running them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.ml import REPOSITORY

PACKAGES = ("shelter", "breeds", "ml")


@dataclass(frozen=True)
class Import:
    """`name` is the full name of a module, or of something in a module; `is_inner` inside a function."""

    name: str
    is_inner: bool


def imports_in(source: str, module: str = "") -> Iterator[Import]:
    """Every import of a source, at any depth; imports for the type checker alone are left out.

    `from a import b` gives `a.b`: it may be a module. `module` is the full name of the source's module, with the last
    part `__init__` for a package; relative imports are resolved by it.
    """
    yield from _walk(ast.parse(source), module, False)


def _walk(node: ast.AST, module: str, is_inner: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, is_inner) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _base_of(child, module)
            yield from (Import(f"{base}.{alias.name}", is_inner) for alias in child.names)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, module, is_inner or is_function)


def _base_of(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module
    parents = module.split(".")[: -node.level]
    return ".".join([*parents, node.module] if node.module else parents)


@cache
def modules() -> dict[str, Path]:
    """Full name of each module of our packages -> its file; a package has the name of its folder."""
    files = [file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*.py"))]
    return {_name_of(file): file for file in files if "migrations" not in file.parts}


def _name_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """The imports of one of our modules."""
    file = modules()[module]
    return tuple(imports_in(file.read_text(), f"{module}.__init__" if file.name == "__init__.py" else module))


def loaded_by(module: str) -> set[str]:
    """Our modules that an import in `module`, at any depth, loads: each with the packages around it.

    The packages around `module` itself are left out: they are loaded before it anyway.
    """
    loaded = set()
    for one in imports_of(module):
        name = one.name if one.name in modules() else one.name.rpartition(".")[0]
        if name in modules():
            parts = name.split(".")
            loaded |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return {name for name in loaded if not f"{module}.".startswith(f"{name}.")}


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    graph = {module: loaded_by(module) for module in modules()}
    reached = {module: _reachable(graph, module) for module in graph}
    knots = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph}
    return sorted(sorted(knot) for knot in knots if knot)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, waiting = set(), [start]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen
