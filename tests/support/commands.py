"""Run a management command in this process and return its output."""

import io

from django.core.management import call_command


def run(*arguments, **options) -> str:
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out, **options)
    return out.getvalue()


def run_for_lines(*arguments, **options) -> list[str]:
    return run(*arguments, **options).splitlines()
