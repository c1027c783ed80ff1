"""`Idempotency-Key`: what was done once is not done again, and the answer that may have been lost is given again.

The key is written in the transaction of the work itself. So there is no moment at which the work is done and the key
is not known, and whoever comes with the same key meanwhile waits for the first one's end.
"""

import hashlib
from functools import wraps

from django.db import transaction
from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter
from rest_framework.response import Response

from shelter.api.problems import Refused
from shelter.models import KeptAnswer

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description="Anything unique, such as a UUID. For a day, the same call with the same key is done once and answered "
    "the same (with `Idempotency-Replayed: true`); another call with it gets 422.",
)


def once(handler):
    """A handler of an API view that honours `Idempotency-Key`. What failed is not kept: it may be tried again."""

    @wraps(handler)
    def answer(view, request, *arguments, **options):
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return handler(view, request, *arguments, **options)
        if len(key) > 200 or not key.isascii() or not key.isprintable():
            detail = "A key has at most 200 characters, all of them printable ASCII."
            raise Refused(detail, "invalid", field="Idempotency-Key")
        asked = _digest(request)
        with transaction.atomic():
            kept, is_new = KeptAnswer.objects.get_or_create(user=request.user, key=key, defaults={"asked": asked})
            if not is_new:
                return _again(kept, asked)
            response = handler(view, request, *arguments, **options)
            body = {name: value for name, value in response.data.items() if name != "secret"}  # never in a row
            KeptAnswer.objects.filter(pk=kept.pk).update(status=response.status_code, body=body)
        return response

    return answer


def _again(kept: KeptAnswer, asked: str) -> Response:
    if kept.asked != asked:
        detail = "This key was used for another call."
        raise Refused(detail, "idempotency_key_reused", 422, field="Idempotency-Key")
    return Response(kept.body, status=kept.status, headers={"Idempotency-Replayed": "true"})


def _digest(request) -> str:
    """Of the method, the address and what was sent, files by their content."""
    digest = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    if isinstance(request.data, QueryDict):
        for name, values in sorted(request.data.lists()):
            for value in values:
                digest.update(repr((name, _content(value))).encode())
    else:
        digest.update(repr(request.data).encode())
    return digest.hexdigest()


def _content(value) -> str:
    if not hasattr(value, "chunks"):
        return str(value)
    digest = hashlib.sha256()
    for chunk in value.chunks():
        digest.update(chunk)
    value.seek(0)
    return digest.hexdigest()
