"""The admin: breeds, versions of the classifier, answers, reviews, changes."""

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.db.models import Count, Q
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from breeds import words
from breeds.audit import AuditedAdmin, log_change
from breeds.classifier import BadCheckpoint, verified_version
from breeds.models import Activation, Breed, ClassifierVersion, Decision, Prediction, Review, photo_model


@admin.register(Breed)
class BreedAdmin(AuditedAdmin):
    list_display = ["slug", "name_fr", "name_en", "group", "wild"]
    list_filter = ["group", "wild"]
    search_fields = ["slug", "name_fr", "name_en", "synonyms"]


class ReadOnlyAdmin(admin.ModelAdmin):
    show_full_result_count = False  # a second count of everything, only to write "of 100,000" behind the first

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


class ThumbnailMixin:
    """A column with a small picture that leads to the photo's page; no query per row."""

    def photo_of(self, row):
        return row.photo

    @admin.display(description=_("photo"))
    def thumbnail(self, row):
        photo = self.photo_of(row)
        if not photo.thumbnail_url:
            return "–"
        picture = '<a href="{}"><img src="{}" alt="" height="72" loading="lazy"></a>'
        return format_html(picture, photo.get_absolute_url(), photo.thumbnail_url)


def queue_again(model_admin, request, pks) -> None:
    """An action of the admin: queue the photos with these keys, log it, and tell how many wait newly."""
    photos = photo_model().objects.filter(pk__in=list(pks))
    log_change(request.user, photos.only("original_name"), gettext("Sent to the classifier again."))
    count = photos.classify_again()
    text = ngettext(
        "%(n)d photo is waiting for the classifier again.", "%(n)d photos are waiting for the classifier again.", count
    )
    model_admin.message_user(request, text % {"n": count}, messages.SUCCESS if count else messages.WARNING)


class WaitingFilter(admin.SimpleListFilter):
    """Rows that wait for the classifier for longer than anybody should."""

    title, parameter_name = _("wait"), "waiting"

    def lookups(self, request, model_admin):
        return [("long", _("too long"))]

    def queryset(self, request, queryset):
        return queryset.stuck() if self.value() == "long" else queryset


class LabelFilter(admin.SimpleListFilter):
    """By what the active version can name; its labels are known without a walk through all predictions."""

    title, parameter_name = _("breed"), "label"

    def lookups(self, request, model_admin):
        version = ClassifierVersion.objects.active()
        named = [(slug, words.name_of(slug)) for slug in version.labels] if version else []
        return sorted(named, key=lambda pair: words.fold(pair[1]))

    def queryset(self, request, queryset):
        return queryset.filter(label=self.value()) if self.value() else queryset


@admin.register(ClassifierVersion)
class ClassifierVersionAdmin(ReadOnlyAdmin):
    list_display = [
        "name", "version", "is_active", "is_bundled", "backbone", "image_size", "answers", "created_at", "activated_at",
    ]  # fmt: skip
    search_fields = ["name", "version", "backbone"]
    actions = ["activate"]

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(answer_count=Count("predictions", Q(predictions__status="done")))

    @admin.display(description=_("answers"), ordering="answer_count")
    def answers(self, version):
        return version.answer_count

    @admin.action(description=_("Let this version answer from now on"), permissions=["view"])
    def activate(self, request, queryset):
        if not request.user.is_superuser or len(queryset) != 1:
            self.message_user(request, _("Choose one version (administrators only)."), messages.ERROR)
            return
        try:
            version = verified_version(queryset[0].version)
        except BadCheckpoint as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        version.activate(by=request.user)
        self.message_user(request, _("%(version)s answers now.") % {"version": version}, messages.SUCCESS)


@admin.register(Activation)
class ActivationAdmin(ReadOnlyAdmin):
    list_display = ["at", "version", "before", "by"]
    list_filter = ["version"]
    list_select_related = ["version", "before", "by"]


@admin.register(Prediction)
class PredictionAdmin(ThumbnailMixin, ReadOnlyAdmin):
    list_display = ["thumbnail", "photo", "status", "decision", "breed", "group", "probability", "version", "attempts",
                    "error_code", "created_at", "finished_at"]  # fmt: skip
    list_display_links = ["photo"]
    list_filter = [
        "status", WaitingFilter, "decision", LabelFilter, "group", "version", "priority", "error_code", "created_at",
    ]  # fmt: skip
    list_select_related = ["photo", "version"]
    list_per_page = 50
    search_fields = ["label", "photo__original_name", "photo__sha256", "error"]
    exclude = ["probs", "embedding"]
    actions = ["classify_again"]

    @admin.action(description=_("Classify again"), permissions=["queue"])
    def classify_again(self, request, queryset):
        """A new answer beside the old ones, which stay."""
        queue_again(self, request, queryset.values_list("photo", flat=True))

    def has_queue_permission(self, request):
        return request.user.has_perm("shelter.change_photo")

    def get_queryset(self, request):
        return super().get_queryset(request).without_vectors()

    @admin.display(description=_("breed"), ordering="label")
    def breed(self, prediction):
        return words.name_of(prediction.label) if prediction.label else "–"


class LevelFilter(admin.SimpleListFilter):
    """By what the classifier had dared to say of the photo when it was reviewed."""

    title, parameter_name = _("level of the answer shown"), "level"

    def lookups(self, request, model_admin):
        return [choice for choice in Decision.choices if choice[0] != Decision.CROSS]

    def queryset(self, request, queryset):
        return queryset.filter(prediction__decision=self.value()) if self.value() else queryset


@admin.register(Review)
class ReviewAdmin(ThumbnailMixin, ReadOnlyAdmin):
    list_display = ["thumbnail", "photo", "verdict", "breed", "second_breed", "group", "shown", "reason", "blind", "by",
                    "created_at"]  # fmt: skip
    list_display_links = ["photo"]
    list_filter = ["verdict", LevelFilter, ("breed", admin.RelatedOnlyFieldListFilter), "prediction__version",
                   "reason", "blind", "group", ("by", admin.RelatedOnlyFieldListFilter)]  # fmt: skip
    list_select_related = ["photo", "breed", "second_breed", "by", "prediction"]
    list_per_page = 50
    search_fields = ["photo__original_name", "breed__slug", "breed__name_fr", "breed__name_en", "by__username"]
    date_hierarchy = "created_at"

    def get_queryset(self, request):
        return super().get_queryset(request).defer("prediction__probs", "prediction__embedding")

    @admin.display(description=_("the model had said"))
    def shown(self, review):
        answer = review.prediction
        if answer is None:
            return "–"
        return words.name_of(answer.label) if answer.label else answer.get_decision_display()


@admin.register(LogEntry)
class ChangeAdmin(ReadOnlyAdmin):
    """Every change that somebody made by hand, the newest first."""

    list_display = ["action_time", "user", "content_type", "object_repr", "action_flag", "what"]
    list_filter = ["action_flag", ("user", admin.RelatedOnlyFieldListFilter),
                   ("content_type", admin.RelatedOnlyFieldListFilter)]  # fmt: skip
    list_select_related = ["user", "content_type"]
    list_per_page = 50
    search_fields = ["object_repr", "change_message", "user__username"]
    date_hierarchy = "action_time"

    @admin.display(description=_("what"))
    def what(self, entry):
        return entry.get_change_message()
