"""Which photos look like one that is there already? 64-bit difference hashes, found through indexed quarters.

Two hashes that differ in at most seven bits agree, up to one bit, in one of their four 16-bit quarters (multi-index
hashing: Norouzi, Punjani and Fleet, 2012). So 4 x 17 looks into indexes replace a walk over every photo.
"""

from django.db import connection, models
from django.utils.translation import gettext_lazy as _

NEAR_BITS = 6
QUARTERS = 4
QUARTER_BITS = 16

# Both as text: made by the ORM for every photo, they took longer than they take the database.
PUT_SQL = """
INSERT INTO shelter_fingerprint (photo_id, quarter_0, quarter_1, quarter_2, quarter_3) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (photo_id) DO UPDATE SET quarter_0 = excluded.quarter_0, quarter_1 = excluded.quarter_1,
quarter_2 = excluded.quarter_2, quarter_3 = excluded.quarter_3, looks_like_id = NULL
"""
NEAR_SQL = "SELECT photo_id, quarter_0, quarter_1, quarter_2, quarter_3 FROM shelter_fingerprint WHERE "

# The hash of a blank wall or a plain sky says nothing: with fewer set (or unset) bits it is like any other of them.
TELLING_BITS = 6


def quarters(dhash: int) -> list[int]:
    """The four 16-bit parts of a hash, the highest first."""
    return [dhash >> shift & 0xFFFF for shift in range(64 - QUARTER_BITS, -1, -QUARTER_BITS)]


def distance(one: list[int], other: list[int]) -> int:
    """Bits in which two hashes, in quarters, differ."""
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def is_telling(dhash: int) -> bool:
    return TELLING_BITS <= dhash.bit_count() <= 64 - TELLING_BITS


class FingerprintQuerySet(models.QuerySet["Fingerprint"]):
    def near(self, dhash: int) -> list[tuple[int, int]]:
        """(distance in bits, key of the photo) of all photos within `NEAR_BITS`, the nearest and oldest first."""
        if not is_telling(dhash):
            return []
        wanted = quarters(dhash)
        distances = ((distance(wanted, parts), pk) for pk, *parts in self._let_through(wanted))
        return sorted(near for near in distances if near[0] <= NEAR_BITS)

    @staticmethod
    def _let_through(wanted: list[int]) -> list[tuple[int, ...]]:
        """(key of the photo, its quarters) of all that have one of these quarters up to a bit."""
        values = ([part, *(part ^ 1 << bit for bit in range(QUARTER_BITS))] for part in wanted)
        looks = (f"quarter_{index} IN ({', '.join(map(str, some))})" for index, some in enumerate(values))
        with connection.cursor() as cursor:
            cursor.execute(NEAR_SQL + " OR ".join(looks))  # numbers that were made here, nobody's text
            return cursor.fetchall()

    def record(self, photo, dhash: int) -> None:
        """Remember how a photo looks, and which older photo it looks like.

        Its own hash is written and committed first: of two twins that are looked at in the same moment, one sees the
        other.
        """
        with connection.cursor() as cursor:
            cursor.execute(PUT_SQL, [photo.pk, *quarters(dhash)])
        near = [pk for _distance, pk in self.near(dhash) if pk != photo.pk]
        if older := [pk for pk in near if pk < photo.pk]:
            self.filter(photo=photo).update(looks_like=older[0])
        if newer := [pk for pk in near if pk > photo.pk]:
            self.filter(photo__in=newer, looks_like=None).update(looks_like=photo)


class Fingerprint(models.Model):
    """The difference hash of a photo in quarters, each with an index, and the older photo that looks like it."""

    photo = models.OneToOneField(
        "shelter.Photo", models.CASCADE, primary_key=True, related_name="fingerprint", verbose_name=_("photo")
    )
    quarter_0 = models.PositiveIntegerField(db_index=True)
    quarter_1 = models.PositiveIntegerField(db_index=True)
    quarter_2 = models.PositiveIntegerField(db_index=True)
    quarter_3 = models.PositiveIntegerField(db_index=True)
    looks_like = models.ForeignKey(
        "shelter.Photo", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("looks like")
    )

    objects = FingerprintQuerySet.as_manager()

    class Meta:
        verbose_name = _("fingerprint")

    def __str__(self):
        return " ".join(f"{part:016b}" for part in self.quarters)

    @property
    def quarters(self) -> list[int]:
        return [self.quarter_0, self.quarter_1, self.quarter_2, self.quarter_3]

    def bits_to(self, other: "Fingerprint") -> int:
        return distance(self.quarters, other.quarters)
