"""Settings of Flair as it is served, with leases that a test can wait for.

A task may take longer than its lease here: on a busy machine that starts many processes at once, loading the
classifier alone does. It comes before the lease.
"""

from shelter.settings import *  # noqa: F403

CLAIM_LEASE_SECONDS = 12
CELERY_TASK_TIME_LIMIT = 120
