"""Files through the proxy: real nginx with the configuration of the composition, before a real web server."""

import io
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
from django.test import Client
from django.test.testcases import LiveServerThread
from django.urls import reverse
from PIL import Image

from shelter.pages.media import IN_FOLDER, IN_STORE
from tests.support.factories import an_answered_photo
from tests.support.s3_server import s3_server_that_notes, storage_options
from tests.support.serving import ROOT, free_port, wait_until

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(not NGINX, reason="Expected nginx, which .ci/run installs. Received: none.")


def configuration(folder, web: str, store: str, media: str, port: int) -> str:
    """nginx.conf as it is, but for the addresses, in what nginx wants around it."""
    of_product = (ROOT / "nginx.conf").read_text()
    for written, here in [
        (r"server web-\d:8000", f"server {web}"),
        (r"\bstore:8333", store),
        ("/data/media/", f"{media}/"),
        ("listen 80", f"listen 127.0.0.1:{port}"),
        ("/dev/stdout", f"{folder}/access.log"),
    ]:
        of_product, changed = re.subn(written, here, of_product)
        assert changed, written
    temporary = "".join(
        f"{of}_temp_path {folder}/{of};\n" for of in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return f"{user}\npid {folder}/pid;\nevents {{}}\nhttp {{\n{temporary}{of_product}}}\n"


class Server(ThreadedWSGIServer):
    def _close_connections(self):
        """The connection is that of the test, whose transaction holds all rows."""


class WebServer(LiveServerThread):
    server_class = Server


@pytest.fixture
def web(db):
    """host:port of a web server that sees what the test has written, and commits nothing."""
    connection = connections["default"]
    connection.inc_thread_sharing()
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)  # which takes a transaction that goes on for a fault
    thread = WebServer("127.0.0.1", lambda _files: WSGIHandler(), connections_override={"default": connection})
    thread.daemon = True
    thread.start()
    thread.is_ready.wait(20)
    yield f"127.0.0.1:{thread.port}"
    thread.terminate()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    connection.dec_thread_sharing()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


@pytest.fixture(params=["folder", "bucket"])
def store(request, settings):
    """Where photos are kept; for a bucket the store that notes who asks."""
    with s3_server_that_notes() as server:
        if request.param == "bucket":
            options = storage_options(f"http://127.0.0.1:{server.server_port}")
            settings.STORAGES = settings.STORAGES | {"default": options}
        yield SimpleNamespace(kind=request.param, address=f"127.0.0.1:{server.server_port}", requests=server.requests)


@pytest.fixture
def photo(store, anne, classifier):
    """Answered, so that it has a preview."""
    return an_answered_photo(anne, 3, "rex <b>.jpg")


@pytest.fixture
def ask(photo, store, settings, web, tmp_path):
    """(status, headers, body) of what nginx answers to a person, or to nobody."""
    settings.MEDIA_BY_PROXY = True
    port, folder = free_port(), tmp_path / "nginx"
    folder.mkdir()
    (folder / "nginx.conf").write_text(configuration(folder, web, store.address, settings.MEDIA_ROOT, port))
    nginx = subprocess.Popen([NGINX, "-c", folder / "nginx.conf", "-e", "stderr", "-g", "daemon off;"])

    def call(address: str, user=None):
        browser = Client()
        if user:
            browser.force_login(user)
        cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in browser.cookies.items())
        request = urllib.request.Request(f"http://127.0.0.1:{port}{address}", headers={"Cookie": cookies})
        try:
            answer = urllib.request.build_opener(NoRedirect).open(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read()

    try:
        wait_until(lambda: _listens(call), 20, "nginx")
        yield call
    finally:
        nginx.terminate()
        nginx.wait(timeout=20)


def _listens(call) -> bool:
    try:
        return call("/healthz")[0] == 200
    except urllib.error.URLError:
        return False


def test_the_proxy_sends_a_photo_to_who_may_see_it_and_a_browser_runs_nothing_in_it(ask, photo, anne, chloe, store):
    for kind, person in [("preview", anne), ("small", anne), ("original", chloe)]:
        status, headers, body = ask(reverse("photo_file", args=[photo.pk, kind]), person)
        assert (status, headers["Content-Type"]) == (200, "image/jpeg"), kind
        Image.open(io.BytesIO(body)).verify()
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
        assert headers.get_all("Content-Security-Policy") == ["default-src 'none'; sandbox"]
        assert headers.get_all("X-Frame-Options") == ["DENY"]
        assert headers.get_all("Referrer-Policy") == ["same-origin"]
        assert headers.get_all("Cache-Control") == ["private, max-age=86400, immutable"]
        assert headers["X-Accel-Redirect"] is None
        assert headers["Set-Cookie"] is None
    assert body == photo.image.open("rb").read()
    assert headers["Content-Disposition"] == 'inline; filename="rex <b>.jpg"'
    asked = [(path, headers) for path, headers in store.requests if "X-Amz-Signature" in path]
    assert len(asked) == (3 if store.kind == "bucket" else 0)
    for path, headers in asked:
        assert parse_qs(urlsplit(path).query)["X-Amz-Expires"] == ["60"]
        assert "Cookie" not in headers


def test_the_proxy_sends_nobody_a_file_by_its_own_address(ask, photo, anne, chloe, store):
    name = photo.preview.name
    addresses = [f"{IN_FOLDER}{name}", f"{IN_STORE}/photos/{name}", f"/media/{name}", f"/static/..{IN_FOLDER}{name}"]
    if store.kind == "bucket":
        signed = urlsplit(photo.preview.storage.url(name))
        addresses.append(f"{IN_STORE}{signed.path}?{signed.query}")
    store.requests.clear()
    for person in (None, anne, chloe):
        for address in addresses:
            assert ask(address, person)[0] == 404, address
    assert store.requests == []
    assert ask("/metrics", chloe)[0] == ask("/readyz", chloe)[0] == 404
    status, headers, _body = ask(reverse("photo_file", args=[photo.pk, "preview"]))
    assert (status, headers["Location"].split("?")[0]) == (302, reverse("login"))
    status, headers, _body = ask(reverse("photo_file", args=[photo.pk, "original"]), anne)
    assert (status, headers["Location"]) == (302, reverse("photo_file", args=[photo.pk, "preview"]))
    photo.preview.storage.delete(name)
    status, _headers, body = ask(reverse("photo_file", args=[photo.pk, "preview"]), anne)
    assert status == 404  # lost: and nothing is said of where it was
    assert b"<Error>" not in body
    assert photo.sha256.encode() not in body
