"""Tokens of scripts: `Authorization: Token flair_…`, each good for its scopes alone."""

from datetime import timedelta

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission

from shelter.models import ApiToken


class TokenAuthentication(BaseAuthentication):
    def authenticate_header(self, request):
        return "Token"

    def authenticate(self, request):
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"token":
            return None
        token = ApiToken.find(parts[1].decode("latin-1")) if len(parts) == 2 else None
        if token is None:
            raise AuthenticationFailed("Expected a valid token. Received: one that is unknown, expired or revoked.")
        now = timezone.now()
        if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.user, token


class HasScope(BasePermission):
    """A view may name its `scope`; otherwise reading needs `read` and everything else `upload`."""

    def has_permission(self, request, view):
        if not isinstance(request.auth, ApiToken):
            return True
        needed = getattr(view, "scope", None) or ("read" if request.method in SAFE_METHODS else "upload")
        self.message = f"Expected a token with the scope {needed}. Received: one with {', '.join(request.auth.scopes)}."
        return needed in request.auth.scopes
