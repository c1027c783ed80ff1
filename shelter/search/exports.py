"""What a search shows, as a table or as a folder of pictures, written while it is sent: memory stays flat."""

import csv
import zipfile
from collections.abc import Iterable, Iterator

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from breeds.words import fold, person
from shelter.models import Photo

AT_ONCE = 1000
MOST_IN_A_ZIP = 20_000


CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "zip": "application/zip", "jsonl": "application/x-ndjson"}


def download(content: Iterable[bytes | str], kind: str, name: str = "") -> StreamingHttpResponse:
    """The response for a file that is written while it is sent. Without a `name` it is called after the moment."""
    name = name or f"flair-{timezone.localtime():%Y-%m-%d-%H%M}"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{kind}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(content, content_type=CONTENT_TYPES[kind], headers=headers)


def photo_download(request, photos: QuerySet, kind: str) -> StreamingHttpResponse:
    """The photos as `csv` or `zip`, in the language of the request."""
    write = {"csv": csv_of, "zip": zip_of}[kind]
    return download(write(photos, get_language() or "fr", request.build_absolute_uri("/").rstrip("/")), kind)


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")) else text


class CsvTable:
    """Lines of a table that a spreadsheet of the reader's language opens with a double click."""

    def __init__(self, language: str):
        self.is_french = language.startswith("fr")
        # A French spreadsheet expects a decimal comma, and so a semicolon between the columns.
        self._writer = csv.writer(self, delimiter=";" if self.is_french else ",")

    def write(self, text: str) -> str:
        return text  # `csv.writer` returns it from `writerow`

    def first_line(self, names: list[str]) -> str:
        return "\ufeff" + self.line(names)

    def line(self, cells: list) -> str:
        return self._writer.writerow([harmless(str(cell)) for cell in cells])


class PhotoTable(CsvTable):
    def __init__(self, language: str, base_url: str):
        super().__init__(language)
        self.base_url = base_url

    def head(self) -> str:
        return self.first_line([
            _("Number"), _("Dog"), _("Microchip"), _("Answer"), _("Breed"), _("Group"), _("Probability"),
            _("Verified"), _("Status"), _("Sent on"), _("Sent by"), _("File name"), "SHA-256", _("Address"),
            _("Picture"),
        ])  # fmt: skip

    def row(self, photo: Photo, picture: str = "") -> str:
        animal = photo.animal
        return self.line([
            photo.pk,
            animal.numbered if animal else "",
            animal.microchip if animal else "",
            photo.get_decision_display(),
            breeds_of(photo),
            photo.get_group_display(),
            self._number(photo.probability),
            (_("yes") if photo.by_person else _("no")) if photo.source else "",
            photo.get_status_display(),
            timezone.localtime(photo.uploaded_at).strftime("%Y-%m-%d %H:%M"),
            person(photo.uploaded_by),
            photo.original_name,
            photo.sha256,
            self.base_url + photo.get_absolute_url(),
            picture,
        ])  # fmt: skip

    def _number(self, value: float | None) -> str:
        if value is None:
            return ""
        return number_format(round(value, 4), 4, force_grouping=False) if self.is_french else f"{value:.4f}"


def breeds_of(photo: Photo) -> str:
    """The breed, or both of a cross."""
    return " × ".join(breed.name for breed in (photo.breed, photo.second_breed) if breed)


def with_all(photos: QuerySet) -> QuerySet:
    return photos.select_related("animal", "breed", "second_breed", "uploaded_by").defer("animal__notes")


def csv_of(photos: QuerySet, language: str, base_url: str) -> Iterator[bytes]:
    with override(language):  # what is sent later is no longer within the request's own language
        table = PhotoTable(language, base_url)
        yield table.head().encode()
        lines = []
        for photo in with_all(photos).iterator(AT_ONCE):
            lines.append(table.row(photo))
            if len(lines) == AT_ONCE:
                yield "".join(lines).encode()
                lines.clear()
        yield "".join(lines).encode()


class _Sink:
    """A file for `zipfile` that keeps only what was written since the last `take`."""

    def __init__(self):
        self.parts = []

    def write(self, part: bytes) -> int:
        self.parts.append(part)
        return len(part)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = b"".join(self.parts)
        self.parts.clear()
        return taken


def zip_of(photos: QuerySet, language: str, base_url: str) -> Iterator[bytes]:
    """Previews (upright, without GPS) in a folder per answer, and the table, which names the picture of each row.

    A photo without a preview, or whose file is missing, has its row without a picture.
    """
    with override(language):
        table, sink = PhotoTable(language, base_url), _Sink()
        lines = [table.head()]
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for photo in with_all(photos).iterator(AT_ONCE):
                name = picture_name(photo)
                try:
                    with photo.preview.open("rb") as file:
                        archive.writestr(name, file.read())
                except (ValueError, FileNotFoundError):  # Django's ValueError: there is no preview (yet)
                    name = ""
                lines.append(table.row(photo, name))
                yield sink.take()
            archive.writestr("photos.csv", "".join(lines).encode(), zipfile.ZIP_DEFLATED)
        yield sink.take()


def picture_name(photo: Photo) -> str:
    """epagneul-breton/12-rex.jpg"""
    folder = fold(breeds_of(photo) or photo.get_decision_display() or photo.get_status_display())
    stem = fold(photo.animal.name if photo.animal else photo.original_name.rsplit(".", 1)[0])[:60]
    return f"{folder}/{photo.pk} {stem}".strip().replace(" ", "-") + ".jpg"
