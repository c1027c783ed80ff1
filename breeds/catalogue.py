"""The breeds that people and the model may name: `catalogue.csv`, edited by hand, seeded into the database."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("catalogue.csv")


@dataclass(frozen=True)
class CatalogueEntry:
    slug: str
    name_fr: str
    name_en: str
    group: str
    synonyms: tuple[str, ...]
    wild: bool


@cache
def read_catalogue() -> dict[str, CatalogueEntry]:
    with PATH.open(encoding="utf-8", newline="") as file:
        return {
            row["slug"]: CatalogueEntry(
                slug=row["slug"],
                name_fr=row["name_fr"],
                name_en=row["name_en"],
                group=row["group"],
                synonyms=tuple(filter(None, row["synonyms"].split(";"))),
                wild=row["wild"] == "1",
            )
            for row in csv.DictReader(file)
        }


def group_of(slug: str) -> tuple[str, bool]:
    """(FCI-style group, is it a wild canid) of a label; a label that the catalogue lacks has no group."""
    entry = read_catalogue().get(slug)
    return (entry.group, entry.wild) if entry else ("no_group", False)
