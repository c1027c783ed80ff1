"""What `make bench-api` measures with: other bytes each time, waited-out 429s, percentiles."""

import io
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from benchmarks.api import Load, Server, form, joined, other_bytes, photos, print_table


@pytest.fixture
def server():
    """Answers 429 to every third request, 500 to every tenth, 200 to the others."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            number = len(asked)
            self.send_response(500 if number % 10 == 0 else 429 if number % 3 == 0 else 200)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    yield Server("Flair", httpd.server_port), asked
    httpd.shutdown()
    httpd.server_close()


def test_it_sends_the_same_picture_under_another_hash_each_time():
    photo = photos(64, 48)[0]
    first, second = other_bytes(photo), other_bytes(photo)
    assert len({photo, first, second}) == 3
    pictures = {Image.open(io.BytesIO(content)).tobytes() for content in (photo, first, second)}
    assert len(pictures) == 1


def test_it_waits_out_what_is_busy_and_counts_every_request_once(server):
    served, asked = server
    cell = Load(served, False, photos(64, 48), 30).run(4)
    assert len(cell.latencies) + cell.failed == 30
    assert cell.busy == sum(1 for n in range(1, len(asked) + 1) if n % 3 == 0 and n % 10)
    assert len(asked) == 30 + cell.busy


def test_it_asks_another_path_and_names_a_field_where_photos_are_kept(server):
    served, asked = server
    served.keep_path = "/photos/"
    Load(served, True, photos(64, 48), 1).run(1)
    assert asked == ["/photos/"]
    assert b'name="keep"' in form(b"", "keep")
    assert b'name="image"' in form(b"", "")


def test_it_prints_the_ratios_of_each_to_flair(server, capsys):
    cell = Load(server[0], False, photos(64, 48), 8).run(2)
    both = joined([cell, cell])
    assert (len(both.latencies), both.failed) == (2 * len(cell.latencies), 2 * cell.failed)
    print_table("predict/", 2, {"Flair": both, "LitServe": replace(both)})
    ours, other = capsys.readouterr().out.splitlines()[-2:]
    assert "×" not in ours
    assert other.count("1.00×") == 2
