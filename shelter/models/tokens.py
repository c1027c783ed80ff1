"""The tokens by which scripts use the API."""

import hashlib
import secrets
from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ApiToken(models.Model):
    """A key for scripts. Only the hash of it is kept: the key is shown once, when it is made."""

    class Scope(models.TextChoices):
        READ = "read", _("read")
        UPLOAD = "upload", _("upload")
        REVIEW = "review", _("review")

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=100, blank=True)
    digest = models.CharField(_("SHA-256 of the key"), max_length=64, unique=True, editable=False)
    scopes = models.JSONField(_("scopes"), default=list)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        verbose_name, verbose_name_plural = _("API token"), _("API tokens")
        ordering = ["-created_at"]

    def __str__(self):
        return f"{self.user} {' '.join(self.scopes)}"

    @property
    def scope_names(self) -> str:
        return ", ".join(str(self.Scope(scope).label) for scope in self.scopes if scope in self.Scope)

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    @classmethod
    def issue(cls, user, scopes, *, name: str = "", expires_at: datetime | None = None) -> tuple["ApiToken", str]:
        """A new token and its key, which cannot be had again."""
        key = f"flair_{secrets.token_urlsafe(32)}"
        token = cls.objects.create(
            user=user, name=name, digest=cls.digest_of(key), scopes=sorted(set(scopes)), expires_at=expires_at
        )
        return token, key

    @classmethod
    def find(cls, key: str, now: datetime | None = None) -> "ApiToken | None":
        """The token that still opens something; judged here, since a longer query costs every call twice the time."""
        token = next(iter(cls.objects.select_related("user").filter(digest=cls.digest_of(key)).order_by()[:1]), None)
        return token if token and token.is_good(now or timezone.now()) else None

    def is_good(self, now: datetime) -> bool:
        is_over = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not is_over and self.user.is_active
