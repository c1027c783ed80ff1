"""The addresses of pages and API."""

from django.contrib import admin
from django.contrib.auth.views import PasswordResetView
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from shelter.api.animals import AnimalViewSet
from shelter.api.catalogue import BreedViewSet, VersionViewSet
from shelter.api.imports import ImportViewSet
from shelter.api.photos import PhotoViewSet
from shelter.api.predict import PredictView
from shelter.api.schema import TokenScheme  # noqa: F401  the description of the API finds it once it is imported
from shelter.api.webhooks import WebhookViewSet
from shelter.operations import health, metrics
from shelter.pages import (
    account,
    animals,
    breeds,
    imports,
    lookalikes,
    photos,
    quality,
    review_grid,
    review_queue,
    search,
    uploads,
    versions,
)

router = SimpleRouter(use_regex_path=False)
router.register("photos", PhotoViewSet)
router.register("animals", AnimalViewSet)
router.register("breeds", BreedViewSet)
router.register("models", VersionViewSet, basename="model")
router.register("imports", ImportViewSet)
router.register("webhooks", WebhookViewSet, basename="webhook")

urlpatterns = [
    # The API first: patterns are tried in turn, and scripts ask most often.
    path("api/v1/predict/", PredictView.as_view(), name="predict"),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api_docs"),
    path("api/v1/", include(router.urls)),
    path("", uploads.upload, name="upload"),
    path("upload/check/", uploads.upload_check, name="upload_check"),
    path("imports/", imports.import_list, name="import_list"),
    path("imports/<int:pk>/", imports.import_page, name="import"),
    path("imports/<int:pk>/progress/", imports.import_progress, name="import_progress"),
    path("imports/<int:pk>/parts/<int:number>/", imports.import_part, name="import_part"),
    path("imports/<int:pk>/dogs/", imports.import_dogs, name="import_dogs"),
    path("imports/<int:pk>/suggestions/", animals.animal_suggestions, name="import_suggestions"),
    path("imports/<int:pk>/receipts.csv", imports.import_receipts, name="import_receipts"),
    path("photos/", search.photo_list, name="photo_list"),
    path("photos/export.csv", search.photo_export, {"kind": "csv"}, name="photo_csv"),
    path("photos/export.zip", search.photo_export, {"kind": "zip"}, name="photo_zip"),
    path("photos/searches/", search.save_search, name="save_search"),
    path("photos/searches/<int:pk>/delete/", search.delete_search, name="delete_search"),
    path("photos/file/", animals.file_photos, name="file_photos"),
    path("photos/answers/", photos.photo_answers, name="photo_answers"),
    path("photos/<int:pk>/", photos.photo, name="photo"),
    path("photos/<int:pk>/lookalikes/", lookalikes.photo_lookalikes, name="photo_lookalikes"),
    path("photos/<int:pk>/review/", photos.photo_review, name="photo_review"),
    path("review/", review_queue.card, name="review_queue"),
    path("review/grid/", review_grid.grid, name="review_grid"),
    path("review/<int:pk>/lookalikes/", review_queue.lookalikes, name="review_lookalikes"),
    path("review/<int:pk>/later/", review_queue.put_off, name="review_later"),
    path("review/undo/", review_queue.undo, name="review_undo"),
    path("review/quality/", quality.quality, name="quality"),
    path("models/", versions.model_list, name="model_list"),
    path("models/progress/", versions.model_progress, name="model_progress"),
    path("models/again/", versions.model_again, name="model_again"),
    path("models/<int:pk>/", versions.model, name="model"),
    path("models/<int:pk>/try/", versions.model_try, name="model_try"),
    path("models/<int:pk>/progress/", versions.model_trial_progress, name="model_trial_progress"),
    path("models/<int:pk>/activate/", versions.model_activate, name="model_activate"),
    path("reviews/<int:pk>/withdraw/", photos.review_withdraw, name="review_withdraw"),
    path("photos/<int:pk>/<str:kind>/", photos.photo_file, name="photo_file"),
    path("animals/", animals.animal_list, name="animal_list"),
    path("animals/new/", animals.animal_edit, name="animal_new"),
    path("animals/names/", animals.animal_names, name="animal_names"),
    path("animals/suggestions/", animals.animal_suggestions, name="animal_suggestions"),
    path("animals/<int:pk>/", animals.animal, name="animal"),
    path("animals/<int:pk>/edit/", animals.animal_edit, name="animal_edit"),
    path("animals/<int:pk>/photo/", animals.animal_photo, name="animal_photo"),
    path("breeds/", breeds.breed_list, name="breed_list"),
    path("lookalikes/", lookalikes.lookalike_search, name="lookalikes"),
    path("account/", account.account, name="account"),
    path("account/tokens/", account.make_token, name="make_token"),
    path("account/tokens/<int:pk>/revoke/", account.revoke_token, name="revoke_token"),
    path("account/webhooks/", account.make_webhook, name="make_webhook"),
    path("account/webhooks/<int:pk>/delete/", account.delete_webhook, name="delete_webhook"),
    path("account/webhooks/<int:pk>/test/", account.test_webhook, name="test_webhook"),
    path(
        "accounts/password_reset/",
        PasswordResetView.as_view(subject_template_name="registration/password_reset_subject.txt"),
        name="password_reset",
    ),
    path("accounts/reset/<uidb64>/<token>/", account.NewPasswordView.as_view(), name="password_reset_confirm"),
    path("accounts/", include("django.contrib.auth.urls")),  # login, logout and the other steps to a new password
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]

handler404 = "shelter.errors.not_found"
handler500 = "shelter.errors.server_error"
