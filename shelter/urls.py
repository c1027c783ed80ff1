from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from breeds.api import PredictView
from shelter import intake, review_queue, views
from shelter.api import PhotoViewSet

router = SimpleRouter(use_regex_path=False)
router.register("photos", PhotoViewSet)

urlpatterns = [
    path("", intake.upload, name="upload"),
    path("upload/check/", intake.upload_check, name="upload_check"),
    path("imports/", intake.import_list, name="import_list"),
    path("imports/<int:pk>/", intake.import_page, name="import"),
    path("imports/<int:pk>/progress/", intake.import_progress, name="import_progress"),
    path("imports/<int:pk>/parts/<int:number>/", intake.import_part, name="import_part"),
    path("imports/<int:pk>/dogs/", intake.import_dogs, name="import_dogs"),
    path("imports/<int:pk>/receipts.csv", intake.import_receipts, name="import_receipts"),
    path("photos/", views.photo_list, name="photo_list"),
    path("photos/<int:pk>/", views.photo, name="photo"),
    path("photos/<int:pk>/answer/", views.photo_answer, name="photo_answer"),
    path("photos/<int:pk>/animal/", views.photo_animal, name="photo_animal"),
    path("photos/<int:pk>/review/", views.photo_review, name="photo_review"),
    path("review/", review_queue.card, name="review_queue"),
    path("review/<int:pk>/later/", review_queue.put_off, name="review_later"),
    path("review/undo/", review_queue.undo, name="review_undo"),
    path("reviews/<int:pk>/withdraw/", views.review_withdraw, name="review_withdraw"),
    path("photos/<int:pk>/<str:kind>/", views.photo_file, name="photo_file"),
    path("breeds/", views.breed_list, name="breed_list"),
    path("accounts/login/", auth.LoginView.as_view(), name="login"),
    path("accounts/logout/", auth.LogoutView.as_view(), name="logout"),
    path("accounts/password_change/", auth.PasswordChangeView.as_view(), name="password_change"),
    path("accounts/password_change/done/", auth.PasswordChangeDoneView.as_view(), name="password_change_done"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("api/v1/predict/", PredictView.as_view(), name="predict"),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api_docs"),
    path("api/v1/", include(router.urls)),
    path("healthz", views.healthz, name="healthz"),
]

handler404 = "shelter.views.not_found"
handler500 = "shelter.views.server_error"
