"""One settings file. Development, `make run` and production differ by environment variables alone."""

import os
import secrets
from pathlib import Path

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from kombu import Exchange, Queue

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.str("FLAIR_DATA_DIR", default=str(BASE_DIR / ".data"))).absolute()
DATA_DIR.mkdir(parents=True, exist_ok=True)


def _secret_key() -> str:
    """The key from the environment, or one made once and kept beside the database."""
    path = DATA_DIR / "secret-key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_text().strip()
        if not key:
            raise ImproperlyConfigured(f"Expected a secret key in {path}. Received: an empty file.") from None
        return key
    with os.fdopen(descriptor, "w") as file:
        file.write(key := secrets.token_urlsafe(50))
    return key


SECRET_KEY = env.str("FLAIR_SECRET_KEY", default="") or _secret_key()
DEBUG = env.bool("FLAIR_DEBUG", default=False)
ALLOWED_HOSTS = env.list("FLAIR_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("FLAIR_TRUSTED_ORIGINS", default=[])

# True behind a proxy that ends TLS and sets X-Forwarded-Proto.
HTTPS = env.bool("FLAIR_HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
# Subdomains, and the browsers' own list, are for whoever owns the domain to decide: FLAIR_HSTS_SUBDOMAINS.
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.bool("FLAIR_HSTS_SUBDOMAINS", default=False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "csp",
    "axes",
    "breeds",
    "shelter",
]

MIDDLEWARE = [
    "shelter.logs.with_request_id",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "shelter.middleware.limit_request_size",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "shelter.urls"
WSGI_APPLICATION = "shelter.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# -- database: SQLite in the data folder, or what DATABASE_URL says ----------------------------------------------

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'flair.sqlite3'}")}
# Threads keep their connection: opening one has SQLite read the schema, closing the last one write back its whole log.
DATABASES["default"]["CONN_MAX_AGE"] = 60
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # With deferred transactions one in four fails under four writers; with these settings none does.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # A machine that is cut off says nothing at all. Without these, whoever waits for its answer does so for minutes,
    # and the database keeps what it had locked: for 15 minutes where it was just told something, otherwise for two
    # hours. A photo that is sent again waits for that. With them both ends notice within 30 s.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,  # seconds, as the others
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,  # milliseconds
        "options": "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
        "-c tcp_user_timeout=30000",
        **DATABASES["default"].get("OPTIONS", {}),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- files: the data folder, or a bucket of any S3-compatible store ----------------------------------------------

MEDIA_ROOT = DATA_DIR / "media"
S3_BUCKET = env.str("FLAIR_S3_BUCKET", default="")
if S3_BUCKET:
    from botocore.config import Config

    _media_storage = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": env.str("FLAIR_S3_ENDPOINT_URL", default=None),
            "region_name": env.str("FLAIR_S3_REGION", default=None),
            "access_key": env.str("FLAIR_S3_ACCESS_KEY", default=None),
            "secret_key": env.str("FLAIR_S3_SECRET_KEY", default=None),
            "default_acl": "private",
            "client_config": Config(
                signature_version="s3v4",
                connect_timeout=5,
                read_timeout=30,
                retries={"max_attempts": 3},
                # Stores other than Amazon's do not all know the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        },
    }
else:
    _media_storage = {"BACKEND": "shelter.storage.DurableFileSystemStorage"}
# True where the proxy of nginx.conf stands in front: it sends the files, this process says which, and it says who asks.
MEDIA_BY_PROXY = env.bool("FLAIR_MEDIA_BY_PROXY", default=False)
STORAGES = {
    "default": _media_storage,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# -- what may be uploaded ------------------------------------------------------------------------------------------

MAX_PHOTO_BYTES = env.int("FLAIR_MAX_PHOTO_MEGABYTES", default=40) * 1_000_000
MAX_REQUEST_BYTES = env.int("FLAIR_MAX_REQUEST_MEGABYTES", default=200) * 1_000_000
DATA_UPLOAD_MAX_NUMBER_FILES = 1000
MAX_ARCHIVE_BYTES = env.int("FLAIR_MAX_ARCHIVE_GIGABYTES", default=100) * 1_000_000_000
MAX_IMPORT_FILES = 100_000
FILE_UPLOAD_PERMISSIONS = 0o640
FILE_UPLOAD_HANDLERS = ["shelter.middleware.UploadInMemory", "shelter.middleware.UploadOnDisk"]

# -- the queue: Redis where REDIS_URL names one, otherwise a folder ------------------------------------------------
# The rows of the database are the queue; the broker carries hints that may be lost, repeated or reordered.

REDIS_URL = env.str("REDIS_URL", default="")
CELERY_BROKER_URL = REDIS_URL or "flair-folder://localhost"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        "visibility_timeout": 600,
        "unacked_restore_throttle": 1,
        # Whoever sends a hint tries once more and gives up: by default an upload waited 6 s for a Redis that was down.
        "socket_connect_timeout": 1,
        "socket_keepalive": True,
        "max_retries": 1,
        "interval_start": 0,
    }
    if REDIS_URL
    else {"folder": str(DATA_DIR / "queue"), "polling_interval": 0.1}
)
# Imports have a queue of their own, and so has what must come to turn whatever else waits; workers take from all in
# turn: behind the hints of thousands of photos that wait for an answer, an import would get minutes only, and a sweep
# would run out.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in ("celery", "imports", "upkeep")]
CELERY_TASK_ROUTES = {
    "shelter.tasks.run_imports": {"queue": "imports"},
    "*.sweep*": {"queue": "upkeep"},
    "shelter.tasks.send_webhooks": {"queue": "upkeep"},
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_PUBLISH_RETRY = False  # a request never waits for a broker: the sweeper sends the hint again
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 25
CELERY_WORKER_CONCURRENCY = env.int("FLAIR_WORKER_PROCESSES", default=os.cpu_count() or 1)
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

if REDIS_URL:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

# A worker that dies holds its photos for this long; it must be more than the task's time limit.
CLAIM_LEASE_SECONDS = 30
CLAIM_BATCH = 8  # somebody who waits comes behind at most so many photos of a process: less than half a second
CLASSIFY_SLICE_SECONDS = 1  # for so long a worker process claims batches of photos before it looks at other work
SLICE_SECONDS = 4  # for so long it works on an import, a trial of a version or webhooks before it looks at photos
MAX_ATTEMPTS = 3
LOOKALIKE_MEGABYTES = env.int("FLAIR_LOOKALIKE_MEGABYTES", default=512)  # of each process that searches
# True lets webhooks reach addresses of one's own network, and plain http.
WEBHOOK_PRIVATE_ADDRESSES = env.bool("FLAIR_WEBHOOK_PRIVATE_ADDRESSES", default=False)
SWEEP_SECONDS = env.int("FLAIR_SWEEP_SECONDS", default=10)

# Whether reviewers are told of the French law on dogs of categories 1 and 2.
LEGAL_CAUTION = env.bool("FLAIR_LEGAL_CAUTION", default=True)

BUNDLED_CLASSIFIER = BASE_DIR / "ml" / "bundled"

# -- people -------------------------------------------------------------------------------------------------------

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "upload"
LOGOUT_REDIRECT_URL = "login"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "shelter.middleware.client_address"
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "429.html"
AXES_VERBOSE = False
_mail = env.email_url("EMAIL_URL", default="consolemail://")
EMAIL_BACKEND, EMAIL_FILE_PATH = _mail["EMAIL_BACKEND"], _mail["EMAIL_FILE_PATH"]
EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_HOST"], _mail["EMAIL_PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"], _mail["EMAIL_HOST_PASSWORD"]
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
DEFAULT_FROM_EMAIL = env.str("FLAIR_MAIL_FROM", default="Flair <flair@localhost>")
PASSWORD_RESET_TIMEOUT = 24 * 60 * 60  # seconds

LANGUAGE_CODE = "fr"
LANGUAGES = [("fr", _("French")), ("en", _("English"))]
LANGUAGE_COOKIE_AGE = 365 * 24 * 60 * 60  # seconds; without it the choice ends with the browser
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("FLAIR_TIME_ZONE", default="Europe/Paris")
USE_TZ = True
FORMAT_MODULE_PATH = "shelter.formats"

# -- pages and API ------------------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "blob:", "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "shelter.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated", "shelter.api.authentication.HasScope"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_THROTTLE_CLASSES": ["shelter.api.authentication.ScopeThrottle"],
    "DEFAULT_PARSER_CLASSES": ["shelter.api.problems.BoundedJSONParser"],
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS says nothing that the schema does not say better
    "EXCEPTION_HANDLER": "shelter.api.exception_handler.problem_of",
}
API_RATES = {  # calls a minute of each token, by scope
    "read": env.int("FLAIR_API_RATE_READ", default=1200),
    "upload": env.int("FLAIR_API_RATE_UPLOAD", default=600),
    "review": env.int("FLAIR_API_RATE_REVIEW", default=300),
}
# In each web process, of its 48 threads: photos that `predict/` has in hand; those of them at work at once, one more
# than cores, to be decoded while the others are in the network; threads of the network for one that comes alone;
# requests that `?wait=`.
PREDICT_PLACES = env.int("FLAIR_PREDICT_PLACES", default=40)
PREDICT_AT_ONCE = env.int("FLAIR_PREDICT_AT_ONCE", default=(os.cpu_count() or 1) + 1)
PREDICT_THREADS = env.int("FLAIR_PREDICT_THREADS", default=min(4, os.cpu_count() or 1))
WAIT_PLACES = env.int("FLAIR_WAIT_PLACES", default=4)
SPECTACULAR_SETTINGS = {
    "TITLE": "Flair",
    "DESCRIPTION": (
        "Dog photos of a shelter, indexed by breed. `docs/api.md` of the sources is the way in, in ten minutes.\n\n"
        "Errors are problem details (RFC 9457) with a stable `code`. Lists come in pages: follow `next`. Photos are "
        "known by their content, and other calls take an `Idempotency-Key`, so that every call may be repeated. "
        "Fields may be added to any answer: ignore those that you do not know."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "DecisionEnum": "breeds.models.Decision",
        "BreedGroupEnum": "breeds.models.BreedGroup",
        "PhotoStatusEnum": "shelter.models.Photo.Status",
        "PredictionStatusEnum": "breeds.models.Prediction.Status",
        "AnimalStatusEnum": "shelter.models.Animal.Status",
        "ImportStatusEnum": "shelter.models.Import.Status",
        "ImportKindEnum": "shelter.models.Import.Kind",
        "WebhookEventEnum": "shelter.models.Event",
        "FileOutcomeEnum": "shelter.models.ImportItem.Outcome",
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "shelter.api.schema.with_problems"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# -- watching -----------------------------------------------------------------------------------------------------

METRICS_TOKEN = env.str("FLAIR_METRICS_TOKEN", default="")
WORKER_SILENCE_SECONDS = 120  # a worker sweeps more often than this even while it is busy
QUEUE_SLOW_SECONDS = 600  # somebody who waits for an answer has given up by then

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "shelter.logs.LineFormatter", "format": "{asctime} {levelname} {name}: {message}", "style": "{",
        },
        "json": {"()": "shelter.logs.JsonFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "json" if env.str("FLAIR_LOG_FORMAT", default="line") == "json" else "line",
        }
    },
    "root": {"handlers": ["console"], "level": env.str("FLAIR_LOG_LEVEL", default="INFO")},
    "loggers": {
        "axes": {"level": "WARNING"},
        "celery": {"level": "WARNING"},  # a line for each of its hints, several a second
        "django.request": {"level": "ERROR"},  # the others are among the lines of `shelter.requests`
    },
}  # fmt: skip
