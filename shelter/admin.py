from django.contrib import admin, messages
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from breeds.models import Prediction, Review
from shelter.animals import Animal
from shelter.models import ApiToken, Photo
from shelter.removals import Removal

admin.site.site_header = admin.site.site_title = "Flair"


class PredictionInline(admin.TabularInline):
    model = Prediction
    fields = readonly_fields = [
        "status", "decision", "label", "group", "probability", "version", "attempts", "error", "finished_at",
    ]  # fmt: skip
    extra = 0
    can_delete = False

    def has_add_permission(self, request, obj=None):
        return False


@admin.register(Photo)
class PhotoAdmin(admin.ModelAdmin):
    list_display = ["thumbnail", "original_name", "words", "animal", "status", "source", "uploaded_by", "uploaded_at"]
    list_display_links = ["thumbnail", "original_name"]
    list_filter = ["status", "decision", "source", "group", "uploaded_at"]
    list_select_related = ["animal", "breed", "second_breed", "uploaded_by"]
    search_fields = ["original_name", "sha256", "animal__name", "breed__name_fr", "breed__name_en", "breed__slug"]
    autocomplete_fields = ["animal"]
    date_hierarchy = "uploaded_at"
    list_per_page = 50
    inlines = [PredictionInline]
    actions = ["classify_again"]
    fields = [
        "thumbnail", "animal", "original_name", "status", "words", "uploaded_by", "uploaded_at",
        "width", "height", "size", "media_type", "sha256",
    ]  # fmt: skip
    readonly_fields = [name for name in fields if name != "animal"]

    def has_add_permission(self, request):
        return False  # photos come in through the upload page, which checks them

    @admin.display(description=_("photo"))
    def thumbnail(self, photo):
        if not photo.preview:
            return "–"
        url = reverse("photo_file", args=[photo.pk, "preview"])
        return format_html('<img src="{}" alt="" height="72" loading="lazy">', url)

    @admin.display(description=_("answer"))
    def words(self, photo):
        return photo.words

    @admin.action(description=_("Classify again"))
    def classify_again(self, request, queryset):
        for photo in queryset:
            photo.enqueue()
        self.message_user(request, _("Waiting for the classifier again."), messages.SUCCESS)

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
class AnimalAdmin(admin.ModelAdmin):
    list_display = ["name", "status", "sex", "born_on", "arrived_on", "microchip", "created_at"]
    list_filter = ["status", "sex", "arrived_on"]
    search_fields = ["name", "name_folded", "microchip"]
    raw_id_fields = ["main_photo"]


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    list_display = ["user", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name"]
    fields = ["user", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    readonly_fields = ["user", "scopes", "created_at", "last_used_at"]

    def has_add_permission(self, request):
        return False  # a key is shown once, by `create_token`


@admin.register(Removal)
class RemovalAdmin(admin.ModelAdmin):
    """To be read, by whoever must show what was removed and when."""

    list_display = ["removed_at", "rule", "object_id", "days", "of", "size", "sha256"]
    list_filter = ["rule", "removed_at"]
    search_fields = ["sha256", "object_id"]

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False
