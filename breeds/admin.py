from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _

from breeds.classifier import BadCheckpoint, verified_version
from breeds.models import Breed, ClassifierVersion, Prediction, Review


@admin.register(Breed)
class BreedAdmin(admin.ModelAdmin):
    list_display = ["slug", "name_fr", "name_en", "group", "wild"]
    list_filter = ["group", "wild"]
    search_fields = ["slug", "name_fr", "name_en", "synonyms"]


class ReadOnlyAdmin(admin.ModelAdmin):
    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


@admin.register(ClassifierVersion)
class ClassifierVersionAdmin(ReadOnlyAdmin):
    list_display = [
        "name", "version", "is_active", "is_bundled", "backbone", "image_size", "created_at", "activated_at",
    ]  # fmt: skip
    actions = ["activate"]

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
        version.activate()
        self.message_user(request, _("%(version)s answers now.") % {"version": version}, messages.SUCCESS)


@admin.register(Prediction)
class PredictionAdmin(ReadOnlyAdmin):
    list_display = ["photo", "status", "decision", "label", "group", "probability", "version", "attempts", "error_code",
                    "created_at", "finished_at"]  # fmt: skip
    list_filter = ["status", "decision", "version", "group"]
    list_select_related = ["photo", "version"]
    search_fields = ["label", "photo__original_name", "error"]
    date_hierarchy = "created_at"


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ["photo", "verdict", "breed", "second_breed", "group", "reason", "blind", "by", "created_at"]
    list_filter = ["verdict", "reason", "blind", "by", "prediction__version", "group"]
    list_select_related = ["photo", "breed", "second_breed", "by"]
    search_fields = ["photo__original_name", "breed__slug", "breed__name_fr", "breed__name_en", "by__username"]
    date_hierarchy = "created_at"
