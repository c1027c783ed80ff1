import errno
import hashlib
import os
import secrets
import socket

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from breeds.classifier import BadCheckpoint, register_checkpoint
from breeds.models import Breed


class Command(BaseCommand):
    help = "Bring a data folder up to date before serving: tables, breeds, classifier, first admin, static files."

    def add_arguments(self, parser):
        parser.add_argument("--port", type=int, help="also check that this port is free")

    def handle(self, *, port=None, **options):
        if port:
            check_port(port)
        call_command("migrate", interactive=False, verbosity=0)
        Breed.objects.seed()
        try:
            register_checkpoint(settings.BUNDLED_CLASSIFIER, bundled=True)
        except BadCheckpoint as error:
            self.stderr.write(f"Photos will wait for a classifier: {error}")
        collect_static()
        self._first_admin()

    def _first_admin(self) -> None:
        """The account `admin`, only where nobody can log in to the admin yet."""
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = os.environ.get("FLAIR_ADMIN_PASSWORD")
        users.create_superuser("admin", "", chosen := password or secrets.token_urlsafe(12))
        shown = "the one in FLAIR_ADMIN_PASSWORD" if password else f"{chosen}  (shown only now)"
        self.stdout.write(f"\n  First account: admin, password: {shown}\n")


def collect_static() -> None:
    """Collect and compress the static files, which takes seconds, only where one of them has changed."""
    files = (
        (path, storage.size(path), storage.get_modified_time(path).timestamp())
        for finder in get_finders()
        for path, storage in finder.list([])
    )
    state = hashlib.sha256(repr(sorted(files)).encode()).hexdigest()
    stamp = settings.STATIC_ROOT / ".collected"
    if not stamp.exists() or stamp.read_text() != state:
        call_command("collectstatic", interactive=False, verbosity=0)
        stamp.write_text(state)


def check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((os.environ.get("FLAIR_BIND", "127.0.0.1"), port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise CommandError(
                f"Expected port {port} to be free. Received: another program on it. Try: make run PORT={port + 1}"
            ) from error
