"""Every error of the API as problem details (RFC 9457): `application/problem+json`.

Beside the members of the RFC: `code`, which is stable and for scripts; `field`, the first offending one; `file`, the
name of the offending file as it was sent; `errors`, every offending field with sentences, and `codes`, the same with
codes. Sentences are in the language that the request accepts and may change; codes do not.
"""

from http import HTTPStatus

from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.parsers import JSONParser

from breeds.numbers import whole_number

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


def checked(serializer: type[serializers.Serializer], data) -> dict:
    """The validated fields of what was sent. Raises `ValidationError`."""
    form = serializer(data=data)
    form.is_valid(raise_exception=True)
    return form.validated_data


class BoundedJSONParser(JSONParser):
    """JSON of a size and depth that somebody means."""

    def parse(self, stream, media_type=None, parser_context=None):
        length = parser_context["request"].META.get("CONTENT_LENGTH") or "0"
        if (whole_number(length[:15]) or 0) > MAX_JSON_BYTES:
            raise Refused(
                f"Expected at most {MAX_JSON_BYTES} bytes of JSON. Received: {length}.", "request_too_large", 413
            )
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise Refused("The JSON is nested too deeply.", "parse_error") from None


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
