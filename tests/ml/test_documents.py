"""The documents name only files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "shelter|breeds|ml|clients|benchmarks|notebooks|templates|static|locale|tests|docs"


def paths_in(text: str) -> set[str]:
    """Words in backticks that look like a path of the repository, or like a Python file."""
    code = " ".join(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
    return {word for word in re.split(r"[\s,;:()\"']+", code) if re.fullmatch(rf"(?:{FOLDERS})/.*|\w+\.py", word)}


def exists(path: str) -> bool:
    return any(ROOT.glob(path.rstrip("/"))) or any(ROOT.glob(f"[!.]*/**/{path}") if "/" not in path else ())


def test_it_recognizes_paths():
    text = "`python manage.py x`, `ml/files.py` and `docs/`; a/b.py, `docs` and\n```\nml/gone.py\n```"
    assert paths_in(text) == {"manage.py", "ml/files.py", "docs/"}
    assert exists("ml/files.py")
    assert exists("tests/test_*.py")
    assert exists("uploads.py")
    assert not exists("shelter/uploads.py")
    assert not exists("no_such_file.py")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_only_files_that_exist(document):
    assert [path for path in sorted(paths_in(document.read_text())) if not exists(path)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_links_only_to_files_that_exist(document):
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
