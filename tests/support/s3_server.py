"""An S3-compatible store in a thread, with its objects in a dictionary. Flair reaches it by its real client."""

import hashlib
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "photos"


class Handler(BaseHTTPRequestHandler):
    """PUT, GET, HEAD and DELETE of objects, and the first version of the listing, as the client asks for them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").lstrip("/")

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = _joined(body)
        self.server.objects[self._key] = (body, datetime.now(UTC))
        self._answer(200, ETag=_etag(body))

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        if not self._key:
            return self._list()
        if self._key not in self.server.objects:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        body, changed = self.server.objects[self._key]
        self._answer(200, body, ETag=_etag(body), Last_Modified=format_datetime(changed, usegmt=True))

    do_HEAD = do_GET

    def do_DELETE(self):
        self.server.objects.pop(self._key, None)
        self._answer(204)

    def _list(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys, folders = [], set()
        for key in sorted(key for key in self.server.objects if key.startswith(prefix)):
            head, found, _rest = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            folders.add(prefix + head + delimiter) if found else keys.append(key)
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        common = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>"
        self._answer(200, body.encode(), Content_Type="application/xml")


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _joined(chunked: bytes) -> bytes:
    """The body of chunks that each say their length first, the signatures left out."""
    body, position = b"", 0
    while True:
        end = chunked.index(b"\r\n", position)
        length = int(chunked[position:end].split(b";")[0], 16)
        if not length:
            return body
        body += chunked[end + 2 : end + 2 + length]
        position = end + 2 + length + 2


@contextmanager
def s3_server():
    """(address, {key: (bytes, when it changed)}) of an empty store."""
    with s3_server_that_notes() as server:
        yield f"http://127.0.0.1:{server.server_port}", server.objects


@contextmanager
def s3_server_that_notes():
    """The server of an empty store, with `objects` and the `requests` to read that came: (path and query, headers)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.objects, server.requests = {}, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def storage_options(address: str) -> dict:
    """What `STORAGES` says of a bucket there."""
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": BUCKET, "endpoint_url": address, "region_name": "test", "access_key": "key",
            "secret_key": "secret", "default_acl": "private",
        },
    }  # fmt: skip
