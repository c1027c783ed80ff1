"""Leases: how long a worker may hold a row before another worker may take it."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q


def lease_end(now: datetime) -> datetime:
    """The end of a lease that begins at `now`."""
    return now + timedelta(seconds=settings.CLAIM_LEASE_SECONDS)


def lease_is_over(column: str, now: datetime) -> Q:
    """Rows whose lease has ended.

    A lease that ends later than two lease lengths from now counts as over too: the clock was set back after it was
    taken.
    """
    latest = now + timedelta(seconds=2 * settings.CLAIM_LEASE_SECONDS)
    return Q(**{f"{column}__lt": now}) | Q(**{f"{column}__gt": latest})
