"""Breeds, and what may be said of a photo."""

from django.db import models
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from breeds.catalogue import read_catalogue


class BreedGroup(models.TextChoices):
    """The ten groups of the Fédération cynologique internationale, and what stands outside them."""

    SHEEPDOGS = "sheepdogs_and_cattledogs", _("sheepdogs and cattle dogs")
    MOLOSSOIDS = "pinschers_schnauzers_molossoids_swiss", _("pinschers, schnauzers, molossoids and Swiss dogs")
    TERRIERS = "terriers", _("terriers")
    DACHSHUNDS = "dachshunds", _("dachshunds")
    SPITZ = "spitz_and_primitive", _("spitz and primitive types")
    SCENTHOUNDS = "scenthounds", _("scent hounds")
    POINTING = "pointing_dogs", _("pointing dogs")
    RETRIEVERS = "retrievers_flushing_and_water_dogs", _("retrievers, flushing dogs and water dogs")
    COMPANION = "companion_and_toy", _("companion and toy dogs")
    SIGHTHOUNDS = "sighthounds", _("sighthounds")
    WILD = "wild_canids", _("wild canids")
    NONE = "no_group", _("no group")


class Decision(models.TextChoices):
    """What is said of a photo: by the classifier one of `ml.serving.decision.Level`, by people also `cross`."""

    BREED = "breed", _("breed")
    GROUP = "group", _("group only")
    UNSURE = "unsure", _("unsure")
    NOT_A_DOG = "not_a_dog", _("not a dog")
    CROSS = "cross", _("cross of two breeds")


class BreedQuerySet(models.QuerySet["Breed"]):
    def seed(self) -> int:
        """Write the catalogue into the database; breeds that people added stay. Returns how many it holds."""
        entries = read_catalogue().values()
        self.bulk_create(
            [
                self.model(
                    slug=entry.slug,
                    name_fr=entry.name_fr,
                    name_en=entry.name_en,
                    group=entry.group,
                    synonyms=list(entry.synonyms),
                    wild=entry.wild,
                )
                for entry in entries
            ],
            update_conflicts=True,
            unique_fields=["slug"],
            update_fields=["name_fr", "name_en", "group", "synonyms", "wild"],
        )
        return len(entries)


class Breed(models.Model):
    """A breed that people may name. The model knows those whose slug is among its labels."""

    slug = models.SlugField(_("label"), unique=True)
    name_fr = models.CharField(_("French name"), max_length=100)
    name_en = models.CharField(_("English name"), max_length=100)
    group = models.CharField(_("group"), max_length=50, choices=BreedGroup, default=BreedGroup.NONE)
    synonyms = models.JSONField(_("synonyms"), default=list, blank=True)
    wild = models.BooleanField(_("wild canid"), default=False, help_text=_("Never offered as a shelter dog's breed."))

    objects = BreedQuerySet.as_manager()

    class Meta:
        verbose_name = _("breed")
        ordering = ["slug"]

    def __str__(self):
        return self.name

    @property
    def name(self) -> str:
        return self.name_fr if (get_language() or "fr").startswith("fr") else self.name_en
