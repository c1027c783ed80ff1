"""Log lines that can be followed: which request, which photo; for people, or as JSON for machines. Never a secret."""

import json
import logging
import re
import time
import uuid
from contextvars import ContextVar

logger = logging.getLogger("shelter.requests")

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = {"healthz", "readyz", "metrics"}  # asked every few seconds, of interest only where they fail

# What a caller may say of its subject with `extra=`; each becomes a field of the line.
FIELDS = ("photo", "batch", "route", "method", "status", "milliseconds", "user")

_SECRETS = [
    re.compile(r"(flair_)[A-Za-z0-9_-]{16,}"),  # keys of scripts
    re.compile(r"(?i)(\b(?:token|bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(/reset/[^/\s]+/)[^/\s?]+"),  # whoever has the link can set the password
    re.compile(r"(\w+://[^\s:/@]*:)[^\s@/]+(?=@)"),  # passwords in addresses
    re.compile(
        r"(?i)([\"']?[\w-]*(?:password|passwd|secret|sessionid|csrftoken|csrfmiddlewaretoken|api_?key|access_?key)"
        r"[\w-]*[\"']?\s*[:=]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&}\]]+)"
    ),
]


def without_secrets(text: str) -> str:
    """The text with `***` in place of keys, passwords, sessions and reset links."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


class LineFormatter(logging.Formatter):
    """For people: time, level, where, what, and the request it belongs to."""

    def format(self, record):
        request_id = _request_id.get()
        return without_secrets(super().format(record)) + (f" [{request_id}]" if request_id else "")


class JsonFormatter(logging.Formatter):
    """For machines: one JSON object a line. Always `time`, `level`, `logger`, `message`; what else is known."""

    def format(self, record):
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": _request_id.get() or None,
            "process": record.process,
        }
        line |= {name: getattr(record, name, None) for name in FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        known = {name: value for name, value in line.items() if value is not None}
        clean = {name: without_secrets(value) if isinstance(value, str) else value for name, value in known.items()}
        return json.dumps(clean, ensure_ascii=False, default=str)

    converter = time.gmtime


def with_request_id(get_response):
    """Each request has an id: the one that the proxy sent as `X-Request-ID`, or a new one. The answer names it.

    One line is written per request, with the pattern of its address instead of the address itself: searches are
    nobody's business, and some addresses are secrets.
    """

    def middleware(request):
        sent = request.headers.get("X-Request-ID", "")
        request.id = sent if _GOOD_ID.fullmatch(sent) else uuid.uuid4().hex
        token, started = _request_id.set(request.id), time.monotonic()
        try:
            response = get_response(request)
            _log(request, response, started)
        finally:
            _request_id.reset(token)
        response["X-Request-ID"] = request.id
        return response

    return middleware


def _log(request, response, started: float) -> None:
    match = request.resolver_match
    route = match.route if match else "(none)"
    if route in _QUIET and response.status_code < 400:
        return
    facts = {
        "method": request.method,
        "route": route,
        "status": response.status_code,
        "milliseconds": round((time.monotonic() - started) * 1000, 1),
        "user": _user_id(request),
        "photo": (match.kwargs.get("pk") if match and route.startswith(("photos/", "api/v1/photos/")) else None),
    }
    logger.info("%s /%s: %s in %s ms", facts["method"], route, facts["status"], facts["milliseconds"], extra=facts)


def _user_id(request) -> int | None:
    """Only where somebody asked already: a log line is no reason to read the session."""
    user = getattr(request, "_cached_user", None)
    return user.pk if user else None
