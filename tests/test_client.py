"""The Python client against the API itself; over a real socket it goes in `test_tutorial`."""

import email.message
import importlib.util
import io
import json
import sys
import urllib.error
import zipfile
from contextlib import contextmanager

import pytest

from breeds.tasks import classify_photos
from shelter.models import ApiToken, Photo, imports
from shelter.tasks import run_imports
from tests.support.ml import REPOSITORY
from tests.support.pictures import jpeg

spec = importlib.util.spec_from_file_location("flair_client", REPOSITORY / "clients/python/flair_client.py")
flair_client = sys.modules["flair_client"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(flair_client)
Flair, FlairError = flair_client.Flair, flair_client.FlairError


class OneAfterTheOther:
    """A pool of threads without threads: the transaction of a test belongs to one."""

    def __init__(self, jobs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    map = staticmethod(map)


class Wire:
    """`urlopen` that calls the application; first it raises what `troubles` holds."""

    def __init__(self, client):
        self.client, self.troubles, self.calls = client, [], []

    def __call__(self, request, timeout):
        self.calls.append(f"{request.method} {request.selector}")
        if self.troubles and (trouble := self.troubles.pop(0)):
            raise trouble
        headers = dict(request.header_items())
        answer = self.client.generic(
            request.method, request.selector, request.data or b"", headers.pop("Content-type", ""), headers=headers
        )
        content = answer.getvalue()
        if answer.status_code >= 400:
            message = email.message.Message()
            for name, value in answer.items():
                message[name] = value
            raise urllib.error.HTTPError(request.full_url, answer.status_code, "", message, io.BytesIO(content))
        return response(answer.status_code, content)


@contextmanager
def response(status: int, content: bytes):
    stream = io.BytesIO(content)
    stream.status = status
    yield stream


@pytest.fixture
def wire(client, monkeypatch):
    wire = Wire(client)
    monkeypatch.setattr(flair_client.urllib.request, "urlopen", wire)
    monkeypatch.setattr(flair_client, "ThreadPoolExecutor", OneAfterTheOther)
    monkeypatch.setattr(flair_client.time, "sleep", lambda seconds: None)
    return wire


@pytest.fixture
def flair(wire, anne, classifier):
    return Flair("http://testserver/", ApiToken.issue(anne, ["read", "upload", "review"])[1])


@pytest.fixture
def folder(tmp_path):
    """Three photos, one of them cut short, and what nobody means to send."""
    for name, content in {
        "Rex/1.jpg": jpeg(1), "Rex/2.jpg": jpeg(2), "Bella/coupée “3”.jpg": jpeg(3)[:1500], ".hidden/4.jpg": jpeg(4),
    }.items():  # fmt: skip
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "photos"


def test_it_predicts(flair, folder):
    answer = flair.predict(folder / "Rex/1.jpg")
    assert (answer["label"], answer["words"]["en"]) == ("beagle", "Looks like a beagle (90.0%)")
    assert not Photo.objects.exists()


def test_it_uploads_a_folder_and_says_what_became_of_each_file(flair, folder):
    results = {result.path.name: result for result in flair.upload_folder(folder)}
    assert {name: result.outcome for name, result in results.items()} == {
        "1.jpg": "accepted", "2.jpg": "accepted", "coupée “3”.jpg": "refused",
    }  # fmt: skip
    assert results["coupée “3”.jpg"].code == "truncated"
    assert set(Photo.objects.values_list("original_name", flat=True)) == {"1.jpg", "2.jpg"}


def test_it_goes_on_where_an_upload_was_interrupted(flair, folder, wire):
    next(flair.upload_folder(folder / "Rex"))
    assert Photo.objects.count() == 1
    wire.calls.clear()
    outcomes = [result.outcome for result in flair.upload_folder(folder / "Rex")]
    assert outcomes == ["known", "accepted"]
    assert wire.calls == ["POST /api/v1/photos/check/", "POST /api/v1/photos/"]


def problem(status: int, **headers) -> urllib.error.HTTPError:
    message = email.message.Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("", status, "busy", message, io.BytesIO(b"<html>"))


def test_it_tries_again_what_may_pass(flair, folder, wire, monkeypatch):
    pauses = []
    monkeypatch.setattr(flair_client.time, "sleep", pauses.append)
    wire.troubles = [problem(429, Retry_After="7"), ConnectionResetError(), problem(503), TimeoutError()]
    assert flair.upload(folder / "Rex/1.jpg")["status"] == "pending"
    assert (len(pauses), pauses[0]) == (4, 7.0)
    assert all(0.5 <= pause <= 12 for pause in pauses[1:])


def test_it_does_once_what_it_had_to_try_twice(flair, wire, monkeypatch):
    """The answer is lost on the way back: the record is there already when the client comes again."""
    lost = []

    def lose_the_first(request, timeout):
        answer = wire(request, timeout)
        if not lost:
            lost.append(answer)
            raise ConnectionResetError
        return answer

    monkeypatch.setattr(flair_client.urllib.request, "urlopen", lose_the_first)
    made = flair.add_animal("Rex")
    assert [animal["id"] for animal in flair.animals()] == [made["id"]]


def test_it_gives_up_with_the_problem_that_the_server_told(flair, wire):
    with pytest.raises(FlairError) as raised:
        flair.photo(999)
    assert (raised.value.status, raised.value.code) == (404, "not_found")
    wire.troubles = [ConnectionRefusedError("nobody there")] * 20
    with pytest.raises(FlairError, match="nobody there"):
        flair.photo(999)
    assert wire.calls.count("GET /api/v1/photos/999/") == 1 + flair.retries + 1


def test_it_walks_through_all_pages(flair, folder):
    for seed in range(5):
        (folder / f"{seed}.jpg").write_bytes(jpeg(10 + seed))
    list(flair.upload_folder(folder))
    names = [photo["original_name"] for photo in flair.photos(page_size=2, ordering="id", fields="original_name")]
    assert len(names) == Photo.objects.count() == 7


def test_it_reviews_files_and_exports(flair, folder, tmp_path):
    photo = flair.upload(folder / "Rex/1.jpg")
    classify_photos()
    rex = flair.add_animal("Rex", sex="male")
    assert flair.file_under(photo["id"], rex["id"])["animal"] == rex["id"]
    flair.review(photo["id"], "correct", breed="basset", reason="papers")
    assert flair.photo(photo["id"])["prediction"]["reviewed"]["label"] == "basset"
    assert [answer["label"] for answer in flair.predictions(photo["id"])] == ["beagle"]
    assert flair.export(tmp_path / "all.jsonl", "jsonl", source="human", fields="id,breed") > 0
    assert json.loads((tmp_path / "all.jsonl").read_text()) == {"id": photo["id"], "breed": "basset"}
    assert not list(tmp_path.glob("*.part"))


def test_it_sends_an_archive_in_pieces_and_goes_on_after_a_break(flair, tmp_path, wire, monkeypatch):
    path = tmp_path / "refuge.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Rex/1.jpg", jpeg(1))
    monkeypatch.setattr(imports, "PART_BYTES", path.stat().st_size // 3 + 1)
    flair.retries = 0
    wire.troubles = [None, None, ConnectionResetError()]
    with pytest.raises(FlairError):
        flair.send_archive(path)
    wire.calls.clear()
    batch = flair.send_archive(path)
    assert [call.split("/")[-2] for call in wire.calls] == ["imports", "1", "2"]
    while run_imports():
        pass
    assert flair.batch(batch["id"])["counts"]["accepted"] == 1
    assert [item["path"] for item in flair.batch_items(batch["id"])] == ["Rex/1.jpg"]


def test_it_works_from_a_terminal(flair, folder, capsys):
    options = ["--url", "http://testserver", "--token", flair._token]
    assert flair_client.main([*options, "upload", str(folder / "Rex")]) == 0
    assert flair_client.main([*options, "upload", str(folder / "Bella")]) == 1
    assert flair_client.main([*options, "predict", str(folder / "Rex/1.jpg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("1.jpg: accepted " + str(Photo.objects.earliest("pk").pk))
    assert "coupée “3”.jpg: refused" in lines[2]
    assert lines[3].endswith("Looks like a beagle (90.0%)")
