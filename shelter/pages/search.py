"""The list of photos: search, saved searches, exports."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from shelter.models import SavedSearch
from shelter.search.exports import MOST_IN_A_ZIP, photo_download
from shelter.search.paging import page_of
from shelter.search.searching import PhotoSearch

PHOTOS_A_PAGE = 48


@login_required
@require_GET
def photo_list(request):
    search = PhotoSearch(request.GET)
    photos = search.shown().select_related("breed", "second_breed", "animal").defer("animal__notes")
    page = page_of(
        photos, search.order, PHOTOS_A_PAGE, after=request.GET.get("after", ""), before=request.GET.get("before", "")
    )
    context = {"search": search, "page": page, "saved": request.user.saved_searches.all()}
    return render(request, "shelter/photo_list.html", context)


@login_required
@require_GET
def photo_export(request, kind):
    """All photos of a search, not only those of one page, as CSV or as a zip of pictures."""
    search = PhotoSearch(request.GET)
    if kind == "zip" and search.count > MOST_IN_A_ZIP:
        text = _("A zip holds %(most)s photos at most; this search finds %(n)s. Narrow it, by date for example.")
        messages.error(request, text % {"most": MOST_IN_A_ZIP, "n": search.count})
        return redirect(f"{reverse('photo_list')}?{search.query}")
    return photo_download(request, search.photos().order_by(*search.order), kind)


@login_required
@require_POST
def save_search(request):
    """Keep a search under a name; the same name again takes the new search."""
    search, name = PhotoSearch(request.POST), " ".join(request.POST.get("name", "").split())[:80]
    if not name or not search.is_filtered or "\0" in name:
        messages.error(request, _("Choose at least one filter, and give the search a name."))
    elif SavedSearch.objects.keep(request.user, name, search.query):
        messages.success(request, _("“%(name)s” is saved; find it above the photos.") % {"name": name})
    else:
        messages.error(request, _("You have %(n)s saved searches. Remove one first.") % {"n": SavedSearch.MOST})
    return redirect(f"{reverse('photo_list')}?{search.query}")


@login_required
@require_POST
def delete_search(request, pk):
    saved = get_object_or_404(request.user.saved_searches, pk=pk)
    saved.delete()
    messages.success(request, _("“%(name)s” is removed.") % {"name": saved.name})
    return redirect("photo_list")
