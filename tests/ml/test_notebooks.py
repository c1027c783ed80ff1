"""The notebooks run anywhere on drawn dogs, and are kept as they ran."""

import importlib.util
import json
import re
import shutil

import nbformat
import pytest

from tests.support.ml import REPOSITORY

FOLDER = REPOSITORY / "notebooks"
NAMES = ["1-exploration-and-preprocessing.ipynb", "2-own-network.ipynb", "3-pretrained-network.ipynb"]

ABSOLUTE_PATH = re.compile(r"(?<![\w./<:])/(?:[\w.~-]+/)+[\w.~-]*|\b[A-Z]:\\\w")
LOG_LINE = re.compile(r"^(?:INFO|WARNING|ERROR)\b|^[IWE]\d{4} |\bTraceback\b|Warning:", re.MULTILINE)


@pytest.fixture(params=NAMES)
def notebook(request):
    return nbformat.read(FOLDER / request.param, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown_text(cell) -> str:
    """What an output says in words: printed, as a table, or as the description of a picture."""
    parts = [output["text"] for output in cell.outputs if output.output_type == "stream"]
    for output in cell.outputs:
        parts += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
        parts.append(json.dumps(output.get("metadata", {})))
    return "\n".join(parts)


def test_it_was_executed_from_the_first_cell_to_the_last(notebook):
    cells = code_cells(notebook)

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_it_shows_what_its_cells_show_and_no_error(notebook):
    for cell in code_cells(notebook):
        last_line = cell.source.splitlines()[-1]
        if re.search(r"^(print|show|table|pictures)\(|^\)$", last_line) or re.search(r"^\s*print\(", cell.source, re.M):
            assert cell.outputs, cell.source
        assert {output.output_type for output in cell.outputs} <= {"stream", "display_data", "execute_result"}
        assert all(output.name == "stdout" for output in cell.outputs if output.output_type == "stream"), cell.id


def test_it_tells_nothing_of_the_machine_it_ran_on(notebook):
    for cell in notebook.cells:
        assert not ABSOLUTE_PATH.findall(cell.source)
        if cell.cell_type == "code":
            assert not ABSOLUTE_PATH.findall(shown_text(cell))
            assert not LOG_LINE.findall(shown_text(cell))
        assert not cell.metadata
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.mark.parametrize("name", NAMES)
def test_it_stays_small(name):
    assert (FOLDER / name).stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("read from /srv/dogs/pug", True),
        ("'/tmp/tmpab12/model.keras'", True),
        ("C:\\dogs", True),
        ("train / val / test, pug/pug-1.jpg", False),
        ("<td></td> https://example.org/a/b", False),
    ],
)
def test_it_knows_a_path_of_a_machine(text, found):
    assert bool(ABSOLUTE_PATH.search(text)) == found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_an_empty_folder_and_leaves_nothing_there(name, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for path in (*FOLDER.glob("*.py"), FOLDER / name):
        shutil.copy(path, tmp_path)
    before = {path.name for path in tmp_path.iterdir()} | {"__pycache__"}

    executed = load_execute().executed(tmp_path / name, PYTHONPATH=str(REPOSITORY), TMPDIR=str(scratch))

    assert all(cell.execution_count for cell in code_cells(executed))
    assert {path.name for path in tmp_path.iterdir()} <= before
    assert not list(scratch.iterdir())


def load_execute():
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
