"""What people settle for themselves: mail address, language, password, the tokens of their scripts, their webhooks."""

import threading
import uuid
from datetime import timedelta

from axes.utils import reset
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordResetConfirmView
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from shelter.models import ApiToken, Event, Webhook
from shelter.posting import ForbiddenAddress, check_url, send

# A test holds one of this process's threads for as long as the address takes to answer, at most ten seconds.
_testing = threading.BoundedSemaphore(2)


class MailForm(forms.Form):
    email = forms.EmailField(
        label=_("Mail address"), max_length=254,
        help_text=_("Where a link is sent to if you forget your password."),
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )  # fmt: skip
    password = forms.CharField(
        label=_("Your password"), strip=False, help_text=_("So that nobody else can turn your mail away."),
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip

    def __init__(self, data=None, *, user):
        self.user = user
        super().__init__(data, initial={"email": user.email})

    def clean_password(self):
        if not self.user.check_password(self.cleaned_data["password"]):
            raise forms.ValidationError(gettext("This is not your password."))

    def save(self) -> None:
        self.user.email = self.cleaned_data["email"]
        self.user.save(update_fields=["email"])


class TokenForm(forms.Form):
    name = forms.CharField(label=_("What is it for?"), max_length=100)
    scopes = forms.MultipleChoiceField(
        label=_("What may it do?"), choices=ApiToken.Scope.choices, initial=[ApiToken.Scope.READ],
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    days = forms.TypedChoiceField(
        label=_("For how long?"), coerce=int, initial="365",
        choices=[("30", _("30 days")), ("365", _("one year")), ("0", _("until it is revoked"))],
    )  # fmt: skip

    def wish(self) -> dict:
        """What `ApiToken.issue` wants to know."""
        values = self.cleaned_data
        expires_at = timezone.now() + timedelta(days=values["days"]) if values["days"] else None
        return {"name": values["name"], "scopes": values["scopes"], "expires_at": expires_at}


class WebhookForm(forms.Form):
    url = forms.URLField(
        label=_("Address"), max_length=500, assume_scheme="https",
        help_text=_("Starts with https:// and can be reached from the internet."),
    )  # fmt: skip
    events = forms.MultipleChoiceField(
        label=_("What should it be told?"), choices=Event.choices, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data=None, *, user):
        self.user = user
        super().__init__(data, prefix="webhook")

    def clean_url(self):
        try:
            check_url(self.cleaned_data["url"])
        except ForbiddenAddress as error:
            raise forms.ValidationError(
                gettext("Flair cannot send to this address: %(why)s") % {"why": error}
            ) from error
        return self.cleaned_data["url"]

    def clean(self):
        if self.user.webhooks.count() >= Webhook.MOST:
            text = gettext("You have %(most)s addresses already. Remove one first.")
            raise forms.ValidationError(text % {"most": Webhook.MOST})
        return super().clean()

    def save(self) -> Webhook:
        return self.user.webhooks.create(url=self.cleaned_data["url"], events=sorted(self.cleaned_data["events"]))


class NewPasswordView(PasswordResetConfirmView):
    """Whoever has read the mail is who they say: what was typed wrong before no longer locks the account."""

    def form_valid(self, form):
        reset(username=self.user.get_username())
        return super().form_valid(form)


@sensitive_post_parameters("password")
@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def account(request):
    """The page; its form changes the mail address, which is where a new password is sent to."""
    form = MailForm(request.POST or None, user=request.user)
    if form.is_valid():
        form.save()
        messages.success(request, gettext("Your mail address is saved."))
        return redirect("account")
    return render_account(request, mail_form=form)


@login_required
@never_cache
@require_POST
def make_token(request):
    """A new key, shown in the answer to this request and never again."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return render_account(request, token_form=form)
    _token, key = ApiToken.issue(request.user, **form.wish())
    return render_account(request, key=key)


@login_required
@require_POST
def revoke_token(request, pk):
    token = get_object_or_404(request.user.api_tokens, pk=pk)
    if request.user.api_tokens.filter(pk=pk, revoked_at=None).update(revoked_at=timezone.now()):
        messages.success(request, gettext("The key “%(name)s” no longer opens anything.") % {"name": token.name})
    return redirect("account")


@login_required
@never_cache
@require_POST
def make_webhook(request):
    """A new address, and its secret, shown in the answer to this request and never again."""
    form = WebhookForm(request.POST, user=request.user)
    if not form.is_valid():
        return render_account(request, webhook_form=form)
    return render_account(request, secret=form.save().secret)


@login_required
@require_POST
def delete_webhook(request, pk):
    hook = get_object_or_404(request.user.webhooks, pk=pk)
    hook.delete()
    messages.success(request, gettext("Flair no longer sends anything to %(url)s.") % {"url": hook.url})
    return redirect("account")


@login_required
@require_POST
def test_webhook(request, pk):
    """Send a signed message of no photo at once. An address that takes it is no longer paused."""
    hook = get_object_or_404(request.user.webhooks, pk=pk)
    if not _testing.acquire(blocking=False):
        messages.error(request, gettext("Other tests are running. Try again in a few seconds."))
        return redirect("account")
    try:
        message = {"id": str(uuid.uuid4()), "event": "test", "created_at": timezone.now().isoformat(), "photo": None}
        status, error = send(hook, message["id"], message)
    finally:
        _testing.release()
    if error:
        messages.error(request, gettext("%(url)s did not take the test: %(error)s") % {"url": hook.url, "error": error})
    else:
        hook.succeeded()
        messages.success(
            request, gettext("%(url)s took the test (status %(status)s).") % {"url": hook.url, "status": status}
        )
    return redirect("account")


def render_account(request, mail_form=None, token_form=None, webhook_form=None, key="", secret=""):
    context = {
        "mail_form": mail_form or MailForm(user=request.user),
        "token_form": token_form or TokenForm(),
        "webhook_form": webhook_form or WebhookForm(user=request.user),
        "tokens": request.user.api_tokens.filter(revoked_at=None),
        "webhooks": request.user.webhooks.with_last_delivery(),
        "now": timezone.now(),
        "key": key,
        "secret": secret,
    }
    failed = any(form is not None and form.errors for form in (mail_form, token_form, webhook_form))
    return render(request, "shelter/account.html", context, status=422 if failed else 200)
