"""`docs/api.md` does what it says: its commands are run, its tables are complete."""

import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from breeds.answers import AnswerFields
from breeds.classifier import UnreadableImage
from shelter.settings import API_RATES
from tests.support.pictures import drawn_dog, encoded, jpeg
from tests.support.serving import serving

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/api.md").read_text()


def test_it_explains_every_field_of_the_answer():
    explained = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert set(AnswerFields().fields) <= set(explained)


def test_it_names_every_reason_for_which_a_file_is_refused():
    assert [reason for reason in UnreadableImage.REASONS if f"`{reason}`" not in TEXT] == []


def test_it_tells_the_limits_that_there_are():
    for name, calls in API_RATES.items():
        assert re.search(rf"{calls:,}\s(times a minute )?with\s`{name}`", TEXT)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_it_runs_every_command_as_it_stands(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    for name in ("manage.py", "clients"):
        (place / name).symlink_to(ROOT / name)
    (place / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (place / "rex.jpg").write_bytes(encoded(drawn_dog(), "JPEG"))
    (place / "notes.txt").write_text("no photo")
    (place / "photos").mkdir()
    (place / "photos/bella.jpg").write_bytes(jpeg(1))
    with zipfile.ZipFile(place / "photos.zip", "w") as archive:
        archive.writestr("Bella/2.jpg", jpeg(2))
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    script = "set -euo pipefail\n" + "\n".join(f"echo '--- {number}'\n{block}" for number, block in enumerate(blocks))
    with serving(tmp_path / "data") as flair:
        environment = flair.environment | {"FLAIR": flair.url}
        done = subprocess.run(
            ["bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True, timeout=180
        )
        token, twin = flair.token(), jpeg(7)
        with ThreadPoolExecutor(8) as pool:
            twins = list(pool.map(lambda _: flair.api("POST", "/photos/", token, twin)["id"], range(16)))
    assert len(set(twins)) == 1  # the same bytes, by eight threads at once
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = re.split(r"^--- \d+$", done.stdout, flags=re.MULTILINE)[1:]
    assert len(said) == len(blocks)
    assert '"decision":"' in said[1]
    assert '"status":"done"' in said[2]
    assert '"not_an_image"' in said[3]
    assert '"known":[{' in said[4]
    assert said[6].strip() == "304"
    assert '"source":"human"' in said[8]
    assert '"secret":"whsec_' in said[10]
    assert [line.split()[1] for line in said[11].strip().splitlines()[:2]] == ["accepted", "known"]
    assert '"file":"notes.txt"' in said[12]
    assert (place / "photos.csv").stat().st_size > 0
    assert (place / "photos.jsonl").stat().st_size > 0
