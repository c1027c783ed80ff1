"""Every error of the API as problem details (RFC 9457): `application/problem+json`.

Beside the members of the RFC: `code`, which is stable and for scripts; `field`, the first offending one; `file`, the
name of the offending file as it was sent; `errors`, every offending field with sentences, and `codes`, the same with
codes. Sentences are in the language that the request accepts and may change; codes do not.
"""

from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpResponse, JsonResponse, UnreadablePostError
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.parsers import JSONParser

MEDIA_TYPE = "application/problem+json"
MAX_JSON_BYTES = 2_000_000


class Refused(APIException):
    """A problem of one's own: any status, a code, and further members such as `field` and `file`."""

    def __init__(self, detail: str, code: str, status: int = 400, wait: int | None = None, **members):
        super().__init__(detail, code)
        self.status_code, self.members, self.wait = status, members, wait


def problem(status: int, code: str, detail: str, **members) -> dict:
    """The body. `type` names the kind of problem; it is a name, not an address."""
    return {
        "type": f"urn:flair:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **members,
    }


def problem_response(status: int, code: str, detail: str) -> HttpResponse:
    """For what fails before or outside the API's views."""
    return JsonResponse(problem(status, code, detail), status=status, content_type=MEDIA_TYPE)


def problem_of(exc, context):
    """The exception handler of the API's views; None (a 500) for what nobody expected."""
    from rest_framework.views import exception_handler  # which imports, by the settings, what is below

    if isinstance(exc, RequestDataTooBig):
        exc = Refused("Expected smaller fields; files may be larger.", "request_too_large", 413)
    elif isinstance(exc, SuspiciousOperation | UnreadablePostError):
        exc = Refused("Expected a request that arrives whole and is well-formed.", "parse_error")
    response = exception_handler(exc, context)
    if response is None:
        return None
    response.data = problem(response.status_code, **_said_by(exc, response))
    response.content_type = MEDIA_TYPE
    return response


def _said_by(exc, response) -> dict:
    if isinstance(exc, serializers.ValidationError):
        errors, codes = response.data, exc.get_codes()
        if isinstance(errors, list):
            errors, codes = {"non_field_errors": errors}, {"non_field_errors": codes}
        said = {"code": "invalid", "detail": "Expected other fields.", "errors": errors, "codes": codes}
        named = [name for name in errors if name != "non_field_errors"]
        return said | ({"field": named[0]} if named else {})
    if isinstance(exc, APIException):
        codes = exc.get_codes()
        said = {"code": codes if isinstance(codes, str) else "error", "detail": str(exc.detail)}
        return said | getattr(exc, "members", {})
    code = "not_found" if response.status_code == 404 else "forbidden"
    return {"code": code, "detail": str(response.data["detail"])}


class BoundedJSONParser(JSONParser):
    """JSON of a size and depth that somebody means."""

    def parse(self, stream, media_type=None, parser_context=None):
        length = parser_context["request"].META.get("CONTENT_LENGTH") or "0"
        if length.isascii() and length.isdecimal() and int(length[:15]) > MAX_JSON_BYTES:
            raise Refused(
                f"Expected at most {MAX_JSON_BYTES} bytes of JSON. Received: {length}.", "request_too_large", 413
            )
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise Refused("Expected JSON that is not nested so deep.", "parse_error") from None


@extend_schema_serializer(
    component_name="Problem",
    examples=[
        OpenApiExample(
            "A refused file",
            problem(
                400, "truncated", "“rex.jpg” is cut short: a part of the photo is missing. Send it again.",
                field="image", file="rex.jpg",
            ),
        )
    ],
)  # fmt: skip
class ProblemSerializer(serializers.Serializer):
    """What went wrong (RFC 9457). `code` is stable; sentences are for people, and may change."""

    type = serializers.CharField(help_text="a name (URN) of the kind of problem")
    title = serializers.CharField(help_text="what the status means")
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="what was expected and what came")
    code = serializers.CharField(help_text="stable, for scripts")
    field = serializers.CharField(required=False, help_text="the first offending field")
    file = serializers.CharField(required=False, allow_blank=True, help_text="name of the offending file")
    errors = serializers.DictField(required=False, help_text="every offending field with its sentences")
    codes = serializers.DictField(required=False, help_text="every offending field with its codes")
