"""What the description of the API says of every call, so that no call has to: how to come in, and what may go wrong."""

import re

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from shelter.api.problems import MEDIA_TYPE, problem

DETAILS = {
    "400": ("invalid", "Some fields are invalid."),
    "401": ("not_authenticated", "Authentication credentials were not provided."),
    "403": ("permission_denied", "Expected a token with the scope upload. Received: one with read."),
    "404": ("not_found", "There is nothing at this address."),
    "406": ("not_acceptable", "Could not satisfy the request Accept header."),
    "409": ("conflict", "This call does not fit the present state."),
    "413": ("request_too_large", "Expected a request of at most 200 MB. Received: 250 MB."),
    "415": ("unsupported_media_type", "Unsupported media type “text/csv” in request."),
    "422": ("idempotency_key_reused", "This key was used for another call."),
    "429": ("throttled", "Request was throttled. Expected available in 12 seconds."),
    "503": ("unavailable", "Flair cannot reach its database, or has no room for photos, at this moment."),
}
TITLES = {
    "400": "what was sent means nothing here",
    "401": "no token, or one that is unknown, expired or revoked",
    "403": "a token without the scope, or an account without the right",
    "404": "nothing there",
    "406": "a media type that is not written here",
    "413": "too large",
    "415": "a media type that is not read here",
    "422": "an `Idempotency-Key` that another call was made with",
    "429": "too often, or too many at once; `Retry-After` says when again",
    "503": "database or photos out of reach, or no room (`Retry-After` says when again); for `predict/`, no classifier",
}


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "shelter.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema):
        description = "`Token flair_…`, made on the page “My account” or by `manage.py create_token`."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}


def with_problems(result, generator, request, public):
    """A postprocessing hook: the problems that any call may answer with, and 304 where an ETag can be sent back."""
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            for status in _statuses(path, method, operation) | {code for code in responses if code >= "400"}:
                description = responses.get(status, {}).get("description") or TITLES.get(status, "")
                responses[status] = {"description": description, "content": {MEDIA_TYPE: _content(status)}}
            if any(parameter["name"] == "If-None-Match" for parameter in operation.get("parameters", [])):
                responses["304"] = {"description": "still the same as the answer with that ETag"}
            operation["responses"] = dict(sorted(responses.items()))
            operation.setdefault("summary", _first_sentence(operation.get("description", "")))
    return result


def _first_sentence(text: str) -> str:
    """What the list of calls shows, where only a line is."""
    return re.split(r"(?<=[.?:])\s", text, maxsplit=1)[0].rstrip(".:")


def _content(status: str) -> dict:
    code, detail = DETAILS[status]
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "example": problem(int(status), code, detail)}


def _statuses(path: str, method: str, operation: dict) -> set[str]:
    statuses = {"400", "401", "403", "406", "429", "503"}
    names = {parameter["name"] for parameter in operation.get("parameters", [])}
    if "{" in path:
        statuses.add("404")
    if "requestBody" in operation or method in ("post", "put", "patch"):
        statuses |= {"413", "415"}
    if "Idempotency-Key" in names:
        statuses.add("422")
    return statuses
