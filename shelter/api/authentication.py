"""Tokens of scripts: `Authorization: Token flair_…`, each good for its scopes alone, and so often a minute."""

import logging
import math
import time
from datetime import timedelta

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.throttling import BaseThrottle

from shelter.models import ApiToken

logger = logging.getLogger(__name__)


class TokenAuthentication(BaseAuthentication):
    def authenticate_header(self, request):
        return "Token"

    def authenticate(self, request):
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"token":
            return None
        token = ApiToken.find(parts[1].decode("latin-1")) if len(parts) == 2 else None
        if token is None:
            raise AuthenticationFailed("This token is unknown, expired or revoked.")
        now = timezone.now()
        if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.user, token


def scope_of(request, view) -> str:
    """What a call needs: the `scope` that its view names; otherwise `read` for reading, `upload` for the rest."""
    return getattr(view, "scope", None) or ("read" if request.method in SAFE_METHODS else "upload")


class HasScope(BasePermission):
    def has_permission(self, request, view):
        if not isinstance(request.auth, ApiToken):
            return True
        needed = scope_of(request, view)
        self.message = f"Expected a token with the scope {needed}. Received: one with {', '.join(request.auth.scopes)}."
        return needed in request.auth.scopes


class ScopeThrottle(BaseThrottle):
    """So many calls a minute of each scope (`settings.API_RATES`), for each token, and each person in a browser.

    Counted in the cache: for all web processes together where that is Redis, for each of them where it is not. A cache
    that is down limits nobody.
    """

    def allow_request(self, request, view):
        scope = scope_of(request, view)
        window, passed = divmod(time.time(), 60)
        who = f"token-{request.auth.pk}" if isinstance(request.auth, ApiToken) else f"user-{request.user.pk}"
        key, self._left = f"calls-{scope}-{who}-{window:.0f}", 60 - passed
        try:
            cache.add(key, 0, 60)
            return cache.incr(key) <= settings.API_RATES[scope]
        except Exception as error:  # whatever the cache's own client raises
            logger.warning("Calls are not counted: %s", error)
            return True

    def wait(self):
        return math.ceil(self._left)
