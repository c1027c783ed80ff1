"""Handing out a stored file, after the view has asked whether it may be seen."""

from urllib.parse import quote, urlsplit

from django.conf import settings
from django.core.files.storage import FileSystemStorage, Storage
from django.http import FileResponse, HttpResponse, HttpResponseBase
from django.utils.http import content_disposition_header

# Locations of nginx.conf. They are `internal`: whoever asks for one is told that there is nothing.
IN_FOLDER, IN_STORE = "/.media/", "/.store"
SIGNED_FOR = 60  # seconds: the proxy follows at once


def file_response(storage: Storage, name: str, *, media_type: str, filename: str) -> HttpResponseBase:
    """`name` as an image that a browser shows but never runs. Raises `FileNotFoundError`.

    With `MEDIA_BY_PROXY` the answer has no body: it names the file to the proxy, which sends it while this process does
    something else. A file of a bucket is named by a signed address that opens this file alone and for a minute; the
    browser does not see it either.
    """
    if settings.MEDIA_BY_PROXY:
        response = HttpResponse(content_type=media_type)
        response["Content-Disposition"] = content_disposition_header(False, filename)
        response["X-Accel-Redirect"] = _address_inside(storage, name)
    else:
        response = FileResponse(storage.open(name, "rb"), content_type=media_type, filename=filename)
    response["Cache-Control"] = "private, max-age=86400, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _address_inside(storage: Storage, name: str) -> str:
    if isinstance(storage, FileSystemStorage):
        return IN_FOLDER + quote(name)
    signed = urlsplit(storage.url(name, expire=SIGNED_FOR))
    return f"{IN_STORE}{signed.path}?{signed.query}"
