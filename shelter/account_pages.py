"""What people settle for themselves: mail address, language, password, and the tokens of their scripts."""

from axes.utils import reset
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordResetConfirmView
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from shelter.forms import MailForm, TokenForm
from shelter.models import ApiToken


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
        messages.success(request, _("Your mail address is saved."))
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
        messages.success(request, _("The key “%(name)s” no longer opens anything.") % {"name": token.name})
    return redirect("account")


def render_account(request, mail_form=None, token_form=None, key=""):
    context = {
        "mail_form": mail_form or MailForm(user=request.user),
        "token_form": token_form or TokenForm(),
        "tokens": request.user.api_tokens.filter(revoked_at=None),
        "now": timezone.now(),
        "key": key,
    }
    failed = any(form is not None and form.errors for form in (mail_form, token_form))
    return render(request, "shelter/account.html", context, status=422 if failed else 200)
