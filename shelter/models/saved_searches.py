"""Searches that somebody comes back to."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class SavedSearchQuerySet(models.QuerySet["SavedSearch"]):
    def keep(self, user, name: str, query: str) -> bool:
        """Save the search, or change the one of that name; False where the user has as many as there may be."""
        if self.filter(user=user).exclude(name=name).count() >= SavedSearch.MOST:
            return False
        self.update_or_create(user=user, name=name, defaults={"query": query})
        return True


class SavedSearch(models.Model):
    """A search that somebody comes back to; `query` is that of the list's address."""

    MOST = 30

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="saved_searches", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=80)
    query = models.CharField(_("search"), max_length=1000)

    objects = SavedSearchQuerySet.as_manager()

    class Meta:
        verbose_name = _("saved search")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_search_per_name")]

    def __str__(self):
        return self.name
