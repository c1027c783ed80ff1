"""The exception handler of the API's views. The settings name it; it is a module of its own because DRF's views import,
by the settings, the parsers and the authentication of this folder."""

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import UnreadablePostError
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.views import exception_handler

from shelter.api.problems import MEDIA_TYPE, Refused, problem


def problem_of(exc, context):
    """The response with problem details for an exception; None (a 500) for an unexpected one."""
    if isinstance(exc, RequestDataTooBig):
        exc = Refused("A field is too large. Only files may be of this size.", "request_too_large", 413)
    elif isinstance(exc, SuspiciousOperation | UnreadablePostError):
        exc = Refused("The request is malformed or did not arrive whole.", "parse_error")
    response = exception_handler(exc, context)
    if response is None:
        return None
    response.data = problem(response.status_code, **_members_of(exc, response))
    response.content_type = MEDIA_TYPE
    return response


def _members_of(exc, response) -> dict:
    if isinstance(exc, serializers.ValidationError):
        errors, codes = response.data, exc.get_codes()
        if isinstance(errors, list):
            errors, codes = {"non_field_errors": errors}, {"non_field_errors": codes}
        members = {"code": "invalid", "detail": "Some fields are invalid.", "errors": errors, "codes": codes}
        fields = [name for name in errors if name != "non_field_errors"]
        return members | ({"field": fields[0]} if fields else {})
    if isinstance(exc, APIException):
        codes = exc.get_codes()
        members = {"code": codes if isinstance(codes, str) else "error", "detail": str(exc.detail)}
        return members | getattr(exc, "members", {})
    code = "not_found" if response.status_code == 404 else "forbidden"
    return {"code": code, "detail": str(response.data["detail"])}
