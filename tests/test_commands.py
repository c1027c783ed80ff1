import json

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, get_commands, load_command_class

from breeds import classifier as classifiers
from breeds.catalogue import read_catalogue
from breeds.models import Breed, BreedGroup, ClassifierVersion
from shelter.models import ApiToken
from tests.support.commands import run_for_lines as run
from tests.support.fakes import FakeClassifier
from tests.support.pictures import jpeg


def test_it_prints_a_new_token_as_the_last_line(anne):
    key = run("create_token", "anne", "--scope", "read", "--scope", "upload", "--expires", "90d")[-1]
    token = ApiToken.find(key)
    assert (token.user, token.scopes) == (anne, ["read", "upload"])
    assert (token.expires_at - token.created_at).days in (89, 90)


@pytest.mark.parametrize("expires", ["0d", "-1d", "soon", "99999999999d", "²d"])
def test_it_makes_no_token_for_a_span_that_is_none(anne, expires):
    with pytest.raises(CommandError, match="Expected 1d to 3650d"):
        run("create_token", "anne", "--scope", "read", f"--expires={expires}")


@pytest.mark.parametrize("user", ["nobody", "closed"])
def test_it_makes_no_token_for_who_cannot_log_in(db, user):
    User.objects.create_user("closed", is_active=False)
    with pytest.raises(CommandError, match=f"Received: {user}"):
        run("create_token", user, "--scope", "read")


@pytest.fixture
def network(db, monkeypatch):
    fake = FakeClassifier()
    fake.checkpoint = fake.row()
    monkeypatch.setattr(classifiers, "load_classifier", lambda folder, num_threads: fake)
    return fake


def test_it_classifies_files_and_folders_as_json_lines(network, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    (tmp_path / ".hidden").write_bytes(b"")
    lines = [json.loads(line) for line in run("classify", "--json", str(tmp_path), str(tmp_path / "b.jpg"))]
    assert [line["path"] for line in lines] == [str(tmp_path / name) for name in ("b.jpg", "deep/a.jpg", "b.jpg")]
    assert set(lines[0]) == {
        "path", "decision", "label", "group", "probability", "candidates", "model", "milliseconds",
    }  # fmt: skip
    assert lines[0]["candidates"][0] == {"label": "beagle", "probability": 0.9}


def test_it_makes_an_unreadable_file_a_line_and_never_a_stop(network, tmp_path):
    for name, content in {"1.jpg": b"", "2.jpg": jpeg()[:500], "3.jpg": jpeg()}.items():
        (tmp_path / name).write_bytes(content)
    lines = [json.loads(line) for line in run("classify", "--json", str(tmp_path / "none.jpg"), str(tmp_path))]
    assert [set(line) == {"path", "error"} for line in lines] == [True, True, True, False]


def test_it_says_an_answer_in_words_without_json(network, tmp_path):
    (tmp_path / "rex.jpg").write_bytes(jpeg())
    assert run("classify", str(tmp_path)) == [
        f"{tmp_path}/rex.jpg: breed beagle (beagle 90,0\u00a0%, basset 5,0\u00a0%)"
    ]


def test_it_says_why_when_asked_to(network, tmp_path):
    (tmp_path / "rex.jpg").write_bytes(jpeg())
    assert run("classify", "--why", str(tmp_path))[1:] == [
        "    «\u00a0beagle\u00a0» atteint 90,0\u00a0%. Flair nomme une race à partir de 70,0\u00a0%."
    ]
    reasons = json.loads(run("classify", "--why", "--json", str(tmp_path))[0])["reasons"]
    assert reasons == [{"code": "breed_sure", "value": 0.9, "threshold": 0.7, "names": ["beagle"], "runner_up": 0.05}]


def test_it_refuses_to_activate_a_folder_that_is_no_checkpoint(db, tmp_path):
    with pytest.raises(CommandError, match=r"info\.json"):
        run("activate", str(tmp_path))
    assert not ClassifierVersion.objects.exists()


@pytest.fixture
def quick_static(monkeypatch, settings):
    monkeypatch.setattr("shelter.management.commands.prepare.call_command", lambda *args, **options: None)


def test_it_prepares_breeds_classifier_and_a_first_admin_whose_password_it_prints_once(db, quick_static):
    first, second = run("prepare"), run("prepare")
    password = " ".join(first).split("password: ")[1].split()[0]
    assert User.objects.get(username="admin").check_password(password)
    assert second == []
    assert Breed.objects.count() == len(read_catalogue())
    assert ClassifierVersion.objects.active().is_bundled


def test_it_takes_the_first_admins_password_from_the_environment(db, quick_static, monkeypatch):
    monkeypatch.setenv("FLAIR_ADMIN_PASSWORD", "choisi-par-nous")
    assert "choisi-par-nous" not in " ".join(run("prepare"))
    assert User.objects.get(username="admin").check_password("choisi-par-nous")


def test_it_keeps_the_classifier_that_an_admin_chose_when_flair_brings_a_new_one(db, quick_static):
    chosen = FakeClassifier().row()
    chosen.activate()
    run("prepare")
    assert ClassifierVersion.objects.active() == chosen


def test_it_replaces_an_older_bundled_classifier(db, quick_static):
    older = FakeClassifier().row()
    ClassifierVersion.objects.update(is_bundled=True)
    older.activate()
    run("prepare")
    assert ClassifierVersion.objects.active() != older


def test_it_says_which_port_is_taken(db):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} to be free"):
            run("prepare", port=port)


def test_the_catalogue_names_the_labels_of_the_model_and_many_breeds_it_does_not_know():
    from django.conf import settings

    labels = {label["slug"] for label in json.loads((settings.BUNDLED_CLASSIFIER / "labels.json").read_text())}
    catalogue = read_catalogue()
    assert len(labels) == 120
    assert labels <= set(catalogue)
    missing = {"dachshund", "dalmatian", "jack_russell_terrier", "beauceron", "australian_shepherd", "akita",
               "bichon_frise", "cane_corso", "shar_pei", "american_bully", "mixed_breed"}  # fmt: skip
    assert missing <= set(catalogue) - labels


def test_the_catalogue_is_whole():
    entries = read_catalogue().values()
    assert {entry.group for entry in entries} <= set(BreedGroup.values)
    assert {entry.slug for entry in entries if entry.wild} == {"dingo", "dhole", "african_hunting_dog"}
    assert all(entry.name_fr and entry.name_en for entry in entries)
    assert len({entry.name_fr for entry in entries}) == len(entries)


OURS = sorted(name for name, app in get_commands().items() if app in ("breeds", "shelter"))


@pytest.mark.parametrize("name", OURS)
def test_each_command_describes_its_options(name):
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    assert "usage: manage.py" in parser.format_help()
