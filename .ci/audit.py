"""Are there known vulnerabilities in what Flair is made of? Asks the public database, and says so where it cannot.

    python .ci/audit.py [--may-be-offline]

Exit status: 0 where every package was compared and nothing is known, 1 where something is, 2 where packages were not
compared. pip-audit alone passes a package that the database did not answer about, and with it a machine that has no
way to the database.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ["requirements.txt", "requirements-dev.txt"]
NOTHING_KNOWN, VULNERABLE, NOT_COMPARED = 0, 1, 2


def audit(lists: list[Path]) -> dict:
    """What pip-audit reports of all pinned packages of `lists`; raises `ConnectionError` where it reports nothing."""
    chosen = [word for path in lists for word in ("--requirement", str(path))]
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--no-deps", "--disable-pip", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise ConnectionError((done.stderr.strip().splitlines() or ["no answer"])[-1]) from None


def verdict(report: dict) -> tuple[int, list[str]]:
    """(exit status, what to print) of a report."""
    packages = {package["name"]: package for package in report["dependencies"]}
    skipped = sorted(name for name, package in packages.items() if "skip_reason" in package)
    lines = [
        f"{name} {package['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'no version yet'}"
        for name, package in sorted(packages.items())
        for known in package.get("vulns", [])
    ]
    status = VULNERABLE if lines else NOT_COMPARED if skipped or not packages else NOTHING_KNOWN
    if len(skipped) == len(packages):
        lines.append("NOT AUDITED: the database said nothing of any package.")
    elif skipped:
        lines.append(f"NOT AUDITED: the database said nothing of {', '.join(skipped)}.")
    lines.append(f"{len(packages) - len(skipped)} of {len(packages)} packages were compared with the database.")
    return status, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--may-be-offline", action="store_true", help="exit with 0 where nothing could be compared")
    options = parser.parse_args()
    try:
        status, lines = verdict(audit([ROOT / name for name in LISTS]))
    except ConnectionError as error:
        status, lines = NOT_COMPARED, [f"NOT AUDITED: the database is out of reach. Received: {error}."]
    print("\n".join(lines))
    if status == NOT_COMPARED and options.may_be_offline:
        print("This run says nothing about vulnerabilities: run `make audit` where the database is within reach.")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
