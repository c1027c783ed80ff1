"""How a request comes in, before anything else: how large it may be, in what pieces it is read, and from where."""

from django.conf import settings
from django.core.files.uploadhandler import MemoryFileUploadHandler, TemporaryFileUploadHandler
from django.shortcuts import render

from breeds.numbers import whole_number
from shelter.api.problems import problem_response


def limit_request_size(get_response):
    """Refuse a request that is too large before a byte of it is parsed."""

    def middleware(request):
        length = request.META.get("CONTENT_LENGTH") or "0"
        size = whole_number(length[:15]) or 0  # of a thousand digits, 15 are enough
        if size <= settings.MAX_REQUEST_BYTES:
            return get_response(request)
        limit = settings.MAX_REQUEST_BYTES // 1_000_000
        if request.path.startswith("/api/"):
            detail = f"Expected a request of at most {limit} MB. Received: {size / 1e6:.0f} MB."
            return problem_response(413, "request_too_large", detail)
        return render(request, "413.html", {"limit": limit}, status=413)

    return middleware


class UploadInMemory(MemoryFileUploadHandler):
    """In pieces as large as gunicorn receives: for each that is read, it copies all that it has received beyond it."""

    chunk_size = 2**20  # bytes


class UploadOnDisk(TemporaryFileUploadHandler):
    chunk_size = UploadInMemory.chunk_size


def client_address(request) -> str | None:
    """Who counts as one when passwords are guessed. Behind the proxy everybody has its address; it names theirs.

    Only the last name is the proxy's; what stands before it, anybody may have written.
    """
    address = request.META.get("REMOTE_ADDR")
    if settings.MEDIA_BY_PROXY:
        return request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip() or address
    return address
