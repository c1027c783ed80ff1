"""What passes: the database or the store of photos is away, or has no room. Nobody's fault who sends a photo now.

Such an error is answered with 503 and `Retry-After`, wherever in a request it comes up (`server_error`).
"""

import errno
import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from shelter.api.problems import problem_response

RETRY_AFTER = 30  # seconds: a database that was killed is back by then
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def is_outage(error: BaseException | None) -> bool:
    """Whether this may pass by itself or by an operator's hand, in contrast to a fault of the program."""
    if isinstance(error, OperationalError | InterfaceError):
        # SQLite calls a mistake in a statement an operational error, too.
        return getattr(error.__cause__, "sqlite_errorname", "") != "SQLITE_ERROR"
    if isinstance(error, OSError):
        return error.errno in _DISK_TROUBLE
    return _is_of_a_bucket(error)


def _is_of_a_bucket(error: BaseException | None) -> bool:
    botocore = sys.modules.get("botocore.exceptions")  # loaded where photos are kept in a bucket
    if botocore is None:
        return False
    if isinstance(error, botocore.ClientError):
        return error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500
    return isinstance(error, botocore.BotoCoreError)


def outage_response(request) -> HttpResponse:
    """503 as JSON for scripts, as a page for people. Needs neither database nor store."""
    if request.path.startswith("/api/"):
        detail = _("Flair cannot reach its database, or has no room for photos, at this moment. Try again later.")
        response = problem_response(503, "unavailable", detail)
    else:
        response = HttpResponse(render(request, "503.html").content, status=503)
    response["Retry-After"] = str(RETRY_AFTER)
    return response


def not_found(request, exception=None):
    """404 as JSON for scripts, as a page for people."""
    if request.path.startswith("/api/"):
        return problem_response(404, "not_found", "There is nothing at this address.")
    return render(request, "404.html", status=404)


def server_error(request):
    """500 for a fault, 503 for what passes. Django calls this while it handles the error, wherever that came up."""
    if is_outage(sys.exception()):
        return outage_response(request)
    if request.path.startswith("/api/"):
        return problem_response(500, "server_error", "Something broke here; try again.")
    response = render(request, "500.html", status=500)
    return HttpResponse(response.content, status=500)
