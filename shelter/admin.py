"""The admin: photos, dogs, imports, tokens and webhooks."""

from django.contrib import admin, messages
from django.db.models import Count, Exists, OuterRef, Q
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy as _

from breeds.admin import ReadOnlyAdmin, ThumbnailMixin, WaitingFilter, queue_again
from breeds.audit import AuditedAdmin
from breeds.models import ClassifierVersion, Prediction, Review, ReviewRefused
from breeds.numbers import whole_number
from shelter.models import Animal, ApiToken, Import, Photo, Removal, Webhook
from shelter.search.exports import photo_download

MOST_CONFIRMED_AT_ONCE = 200  # photos; each confirmation is a review of its own

admin.site.site_header = admin.site.site_title = "Flair"


class PredictionInline(admin.TabularInline):
    model = Prediction
    fields = readonly_fields = [
        "status", "decision", "label", "group", "probability", "version", "attempts", "error", "finished_at",
    ]  # fmt: skip
    extra = 0
    can_delete = False

    def get_queryset(self, request):
        return super().get_queryset(request).without_vectors().select_related("version")

    def has_add_permission(self, request, obj=None):
        return False


class VersionFilter(admin.SimpleListFilter):
    """Photos that a version has answered, now or once."""

    title, parameter_name = _("version"), "version"

    def lookups(self, request, model_admin):
        return [(str(version.pk), str(version)) for version in ClassifierVersion.objects.only("name", "version")]

    def queryset(self, request, queryset):
        version = whole_number(self.value())
        if version is None:
            return queryset
        answers = Prediction.objects.filter(version=version, status=Prediction.Status.DONE, photo=OuterRef("pk"))
        return queryset.filter(Exists(answers))


@admin.register(Photo)
class PhotoAdmin(ThumbnailMixin, AuditedAdmin):
    list_display = ["thumbnail", "original_name", "words", "animal", "status", "source", "uploaded_by", "uploaded_at"]
    list_display_links = ["original_name"]
    list_filter = ["status", WaitingFilter, "decision", "source", VersionFilter, "group",
                   ("breed", admin.RelatedOnlyFieldListFilter), "uploaded_at"]  # fmt: skip
    list_select_related = ["animal", "breed", "second_breed", "uploaded_by"]
    search_fields = ["original_name", "sha256", "animal__name", "animal__name_folded", "breed__name_fr",
                     "breed__name_en", "breed__slug"]  # fmt: skip
    autocomplete_fields = ["animal"]
    list_per_page = 50
    show_full_result_count = False
    inlines = [PredictionInline]
    actions = ["retry", "classify_again", "confirm", "export"]
    fields = [
        "thumbnail", "animal", "original_name", "status", "words", "said", "uploaded_by", "uploaded_at",
        "width", "height", "size", "media_type", "sha256",
    ]  # fmt: skip
    readonly_fields = [name for name in fields if name != "animal"]

    def has_add_permission(self, request):
        return False  # photos come in through the upload page, which checks them

    def photo_of(self, row):
        return row

    @admin.display(description=_("answer"))
    def words(self, photo):
        return photo.words

    @admin.display(description=_("What people say"))
    def said(self, photo):
        """What stands, the newest first; the history has all of it."""
        reviews = photo.reviews.standing().select_related("by", "breed", "second_breed")
        return format_html_join(mark_safe("<br>"), "{}", ((review.words,) for review in reviews)) or "–"

    def history_view(self, request, object_id, extra_context=None):
        """What was changed by hand, and beside it what classifiers and people said, which is never changed."""
        number = whole_number(object_id) or 0
        answers = Prediction.objects.without_vectors().filter(photo=number).select_related("version").order_by("pk")
        reviews = Review.objects.filter(photo=number).select_related("by", "breed", "second_breed", "withdraws")
        life = {"answers": answers, "reviews": reviews.order_by("pk")}
        return super().history_view(request, object_id, life | (extra_context or {}))

    @admin.action(description=_("Try again those that failed"), permissions=["change"])
    def retry(self, request, queryset):
        self.classify_again(request, queryset.filter(status=Photo.Status.FAILED))

    @admin.action(description=_("Classify again"), permissions=["change"])
    def classify_again(self, request, queryset):
        queue_again(self, request, queryset.values_list("pk", flat=True))

    @admin.action(description=_("Confirm what the model says"), permissions=["review"])
    def confirm(self, request, queryset):
        """One review for each, as on the photo's page; what a person has decided already stays as it is."""
        kept, left = 0, 0
        undecided, most = queryset.filter(source=Photo.Source.MODEL), MOST_CONFIRMED_AT_ONCE
        if (count := undecided.count()) > most:
            text = _("Of %(count)d photos the first %(most)d are confirmed; do it again for the others.")
            self.message_user(request, text % {"count": count, "most": most}, messages.WARNING)
        for photo in undecided[:most]:
            try:
                answer = photo.newest_answer
                Review.objects.record(photo, by=request.user, verdict=Review.Verdict.CONFIRM, prediction=answer)
                kept += 1
            except ReviewRefused:  # nothing to confirm, or deleted meanwhile
                left += 1
        text = _("Confirmed: %(kept)d. Left alone, because there was nothing to confirm: %(left)d.")
        self.message_user(request, text % {"kept": kept, "left": left}, messages.SUCCESS if kept else messages.WARNING)

    def has_review_permission(self, request):
        return request.user.has_perm("breeds.add_review")

    @admin.action(description=_("Export as a table (CSV)"), permissions=["view"])
    def export(self, request, queryset):
        return photo_download(request, queryset.order_by("-pk"), "csv")

    def get_deleted_objects(self, objs, request):
        """Answers and reviews cannot be deleted on their own; with their photo they go."""
        shown, counts, rights_needed, protected = super().get_deleted_objects(objs, request)
        with_photo = {str(model._meta.verbose_name) for model in (Prediction, Review)}
        return shown, counts, {name for name in rights_needed if str(name) not in with_photo}, protected

    def save_model(self, request, obj, form, change):
        """What was edited alone: a review that came in meanwhile stays in the index."""
        obj.save(update_fields=form.changed_data)

    def delete_model(self, request, obj):
        obj.delete_with_files()

    def delete_queryset(self, request, queryset):
        for photo in queryset:
            photo.delete_with_files()


@admin.register(Animal)
class AnimalAdmin(AuditedAdmin):
    list_display = ["name", "status", "sex", "born_on", "arrived_on", "microchip", "created_at"]
    list_filter = ["status", "sex", "arrived_on"]
    search_fields = ["name", "name_folded", "microchip"]
    raw_id_fields = ["main_photo"]


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin):
    """What was sent together; the receipts are on its page."""

    list_display = ["__str__", "kind", "status", "user", "accepted", "refused", "open_files", "error_code",
                    "created_at", "finished_at"]  # fmt: skip
    list_filter = ["status", WaitingFilter, "kind", ("user", admin.RelatedOnlyFieldListFilter), "created_at"]
    list_select_related = ["user"]
    list_per_page = 50
    search_fields = ["name", "source", "user__username"]
    date_hierarchy = "created_at"

    def get_queryset(self, request):
        outcomes = {"accepted_count": "accepted", "refused_count": "refused", "waiting_count": "waiting"}
        counts = {name: Count("items", Q(items__outcome=outcome)) for name, outcome in outcomes.items()}
        return super().get_queryset(request).annotate(**counts)

    @admin.display(description=_("accepted"), ordering="accepted_count")
    def accepted(self, batch):
        return batch.accepted_count

    @admin.display(description=_("refused"), ordering="refused_count")
    def refused(self, batch):
        return batch.refused_count

    @admin.display(description=_("waiting"), ordering="waiting_count")
    def open_files(self, batch):
        return batch.waiting_count


@admin.register(ApiToken)
class ApiTokenAdmin(AuditedAdmin):
    list_display = ["user", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name"]
    fields = ["user", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    readonly_fields = ["user", "scopes", "created_at", "last_used_at"]

    def has_add_permission(self, request):
        return False  # a key is shown once, by `create_token`


@admin.register(Webhook)
class WebhookAdmin(admin.ModelAdmin):
    """What goes out of the house, and to whom; an administrator may end it."""

    list_display = ["url", "user", "created_at", "failures", "last_success_at", "last_error"]
    readonly_fields = ["user", "token", "url", "events", "created_at", *list_display[3:], "paused_until"]

    def has_add_permission(self, request):
        return False


@admin.register(Removal)
class RemovalAdmin(ReadOnlyAdmin):
    """Shows what was removed, and when."""

    list_display = ["removed_at", "rule", "object_id", "days", "of", "size", "sha256"]
    list_filter = ["rule", "removed_at"]
    search_fields = ["sha256", "object_id"]
