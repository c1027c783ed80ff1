from argparse import ArgumentTypeError
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from breeds.numbers import whole_number
from shelter.models import ApiToken


class Command(BaseCommand):
    help = "Make an API token for a user and print it, once, as the last line."

    def add_arguments(self, parser):
        parser.add_argument("user")
        parser.add_argument("--scope", action="append", choices=ApiToken.Scope.values, required=True)
        parser.add_argument("--name", default="", help="what it is for")
        parser.add_argument("--expires", type=days, metavar="DAYS", help="for example 90d (default: never)")

    def handle(self, *, user, scope, name, expires, **options):
        owner = get_user_model().objects.filter(username=user, is_active=True).first()
        if owner is None:
            raise CommandError(f"Expected the name of an active user. Received: {user}.")
        token, key = ApiToken.issue(owner, scope, name=name, expires_at=expires and timezone.now() + expires)
        self.stdout.write(f"Token of {owner} with {', '.join(token.scopes)}. It is shown only now:")
        self.stdout.write(key)


def days(text: str) -> timedelta:
    number = whole_number(text.removesuffix("d"), 3650)
    if not number:
        raise ArgumentTypeError(f"Expected 1d to 3650d. Received: {text}.")
    return timedelta(days=number)
