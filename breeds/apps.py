from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BreedsConfig(AppConfig):
    name = "breeds"
    verbose_name = _("Breeds and predictions")
