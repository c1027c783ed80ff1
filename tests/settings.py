"""Settings of the tests: the product's own, on a data folder that goes away, without what only costs time."""

import atexit
import os
import shutil
import tempfile

from tests.support.parallel import redis_of

os.environ["REDIS_URL"] = redis_of(os.environ.get("REDIS_URL", ""), os.environ.get("PYTEST_XDIST_WORKER", ""))
os.environ["FLAIR_DATA_DIR"] = tempfile.mkdtemp(prefix="flair-tests-")
atexit.register(shutil.rmtree, os.environ["FLAIR_DATA_DIR"], ignore_errors=True)

from shelter.settings import *  # noqa: E402, F403
from shelter.settings import API_RATES, STATIC_ROOT, STORAGES  # noqa: E402

STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
API_RATES = dict.fromkeys(API_RATES, 10**6)  # the tokens of many tests have one number, and count as one
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns where there is none
