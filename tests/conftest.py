import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage

from breeds import classifier as classifiers
from breeds import lookalikes, quality
from breeds.models import Breed
from shelter.models import ApiToken
from tests.support.factories import an_account
from tests.support.fakes import FakeClassifier, Receiver
from tests.support.parallel import slow_first


def pytest_collection_modifyitems(items):
    slow_first(items)


@pytest.fixture(autouse=True)
def hints():
    """The names of the tasks that were hinted at; no message reaches a broker."""
    sent = []
    with pytest.MonkeyPatch.context() as patch:  # of its own, so that a test's `monkeypatch.undo()` leaves it alone
        patch.setattr("breeds.hints._send", sent.append)
        patch.setattr("breeds.hints._waiting_beside", lambda task_name: 0)
        yield sent


@pytest.fixture
def anne(db):
    """A volunteer: an account of staff, without any right in the admin."""
    return an_account("anne", "staff")


@pytest.fixture
def bruno(db):
    return an_account("bruno", "staff")


@pytest.fixture
def rosa(db):
    """A reviewer."""
    return an_account("rosa", "reviewer")


@pytest.fixture
def chloe(db):
    """The administrator."""
    return User.objects.create_superuser("chloe", password="un-mot-de-passe")


@pytest.fixture
def staff(client, anne):
    """A browser in which Anne is logged in."""
    client.force_login(anne)
    return client


@pytest.fixture
def reviewer(client, rosa):
    """A browser in which Rosa is logged in."""
    client.force_login(rosa)
    return client


@pytest.fixture
def admin(client, chloe):
    """A browser in which Chloé is logged in."""
    client.force_login(chloe)
    return client


@pytest.fixture
def breeds(db):
    Breed.objects.seed()


@pytest.fixture
def classifier(db, breeds, monkeypatch):
    """The classifier that answers in this test, in place of a network."""
    fake = FakeClassifier()
    monkeypatch.setattr(classifiers, "active_classifier", lambda num_threads=1: (fake, fake.row()))
    return fake


@pytest.fixture
def api(client, anne):
    """Call the API with a token of Anne's: `api("post", "/photos/", {"image": …}, scopes=["upload"])`.

    `json` instead of `data` is sent as JSON; `headers` come on top. `api.key(scopes)` makes a token.
    """

    def call(method: str, path: str, data=None, scopes=("read", "upload"), key=None, json=None, headers=None):
        headers = {"Authorization": f"Token {key or call.key(scopes)}", **(headers or {})}
        options = {"content_type": "application/json"} if json is not None else {}
        body = data if json is None else json
        return getattr(client, method)(f"/api/v1{path}", body, headers=headers, **options)

    call.key = lambda scopes: ApiToken.issue(anne, scopes)[1]
    return call


@pytest.fixture
def stored_files():
    """The names of all files that the product keeps at this moment."""

    def below(folder: str = "") -> set[str]:
        try:
            folders, files = default_storage.listdir(folder)
        except FileNotFoundError:
            return set()
        names = {f"{folder}/{name}".lstrip("/") for name in files}
        return names.union(*(below(f"{folder}/{name}".lstrip("/")) for name in folders))

    return below


@pytest.fixture(autouse=True)
def features_of_this_test():
    """Empty the caches: rows of one test have the ids of rows of another."""
    lookalikes.features_of.cache_clear()
    quality._levels.cache_clear()


@pytest.fixture(autouse=True)
def media_of_this_test(settings, tmp_path):
    """Give each test a media folder of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_PRIVATE_ADDRESSES = True
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
