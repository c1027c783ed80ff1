"""Shares, verdicts and users as people read them."""

from django import template
from django.utils.html import format_html
from django.utils.translation import gettext as _

from breeds import words
from breeds.models import Review
from breeds.quality import Figure

register = template.Library()


@register.filter
def percent(share: float, digits: int = 0) -> str:
    return words.percent(share, digits)


@register.filter
def verdict(review: Review) -> str:
    return words.verdict(review)


@register.filter
def person(user) -> str:
    return words.person(user)


@register.simple_tag
def figure(measured: Figure) -> str:
    """« 94 % (89–97), 132 », or only how many there are where that is too few for a share."""
    if not measured.n:
        return "–"
    if not measured.is_shown:
        return format_html('<span class="quiet">{}</span>', _("too few: %(n)d") % {"n": measured.n})
    low, high = (round(100 * bound) for bound in measured.interval)
    return format_html(
        '<strong>{}</strong> <span class="quiet small">({}–{}) {}</span>',
        words.percent(measured.share, 0), low, high, _("of %(n)d") % {"n": measured.n},
    )  # fmt: skip
