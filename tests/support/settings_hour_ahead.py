"""Settings of a worker whose clock is an hour ahead, as far as Flair asks for the time.

Not by libfaketime: a whole worker that took its messages from a folder answered nothing under it.
"""

from datetime import timedelta

from django.utils import timezone

from tests.support.settings_short_leases import *  # noqa: F403

_now = timezone.now
timezone.now = lambda: _now() + timedelta(hours=1)
