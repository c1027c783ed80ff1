"""The audit of packages: what is known is named, and what was not compared never passes for clean."""

import runpy
import sys

import pytest

from tests.support.serving import ROOT

AUDIT = runpy.run_path(str(ROOT / ".ci" / "audit.py"))

CLEAN = {"name": "django", "version": "5.2.0", "vulns": []}
WEAK = {"name": "pillow", "version": "9.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.1"], "aliases": []}]}
UNKNOWN = {"name": "vine", "skip_reason": "Dependency not found on PyPI and could not be audited: vine (5.1.0)"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([CLEAN], 0, "1 of 1 packages"),
        ([CLEAN, WEAK], 1, "pillow 9.0: PYSEC-1, mended in 9.1"),
        ([CLEAN, UNKNOWN], 2, "NOT AUDITED: the database said nothing of vine."),
        ([WEAK, UNKNOWN], 1, "1 of 2 packages"),
        ([], 2, "0 of 0 packages"),
    ],
)
def test_it_passes_only_what_was_compared(packages, status, said):
    found, lines = AUDIT["verdict"]({"dependencies": packages, "fixes": []})
    assert found == status
    assert said in "\n".join(lines)


def test_it_says_so_where_the_database_is_out_of_reach(tmp_path, monkeypatch):
    """Whatever pip-audit does instead of a report, this is no clean bill."""
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ConnectionError, match="no answer"):
        AUDIT["audit"]([tmp_path / "requirements.txt"])
