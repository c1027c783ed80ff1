"""Why a file was refused: a sentence with its own name, or two or three words where files are counted by it."""

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


def refusal(reason: str, name: str) -> str:
    """A sentence for staff, with the file's own name, for a code of `ml.UnreadableImage`, an import or the queue."""
    sentences = {
        "empty": gettext("“%(name)s” is empty (0 bytes). Expected a photo."),
        "not_an_image": gettext("“%(name)s” is not a photo that Flair can read. Expected JPEG, PNG, WebP or HEIC."),
        "truncated": gettext("“%(name)s” is cut short: a part of the photo is missing. Send it again."),
        "too_many_pixels": gettext("“%(name)s” has too many pixels. Send a smaller copy of it."),
        "too_many_scans": gettext("“%(name)s” is built in a way that would block the server. Save it again as JPEG."),
        "too_large": gettext("“%(name)s” is larger than %(limit)s MB. Send a smaller copy of it."),
        "no_file": gettext("No file arrived. Choose at least one photo, or send it again."),
        "encrypted": gettext("“%(name)s” is locked with a password. Unlock it, and send it on its own."),
        "nested_archive": gettext("“%(name)s” is an archive inside the archive. Send it on its own."),
        "unsafe_path": gettext("“%(name)s” wants to be unpacked outside its folder. Flair does not open it."),
        "overlapping": gettext("“%(name)s” shares its bytes with another file of the archive. Flair does not open it."),
        "bomb": gettext("“%(name)s” would unpack to many times its size, as no photo does. Flair does not open it."),
        "link": gettext("“%(name)s” is not a file but a link to one."),
        "unsupported_compression": gettext("“%(name)s” is packed in a way that Flair cannot unpack. Send it unpacked."),
        "damaged_entry": gettext("“%(name)s” is damaged in the archive. Pack it again, or send it on its own."),
        "unreadable_file": gettext("“%(name)s” could not be opened: it has gone, is protected or has an odd name."),
        "not_a_zip": gettext("“%(name)s” is not a zip archive, or is cut short. Expected a whole zip."),
        "too_many_entries": gettext("“%(name)s” holds more than %(files)s files. Divide it into several."),
        "abandoned": gettext("“%(name)s” never arrived whole. Send it again."),
        "missing": gettext("The file of “%(name)s” is missing on the server. Tell an administrator."),
        "interrupted": gettext("“%(name)s” could not be looked at: the classifier was interrupted several times."),
        "passing": gettext("“%(name)s” could not be looked at: the server had a problem several times."),
    }
    sentence = sentences.get(reason) or gettext("“%(name)s” is damaged: it cannot be decoded.")
    return sentence % {
        "name": name,
        "limit": settings.MAX_PHOTO_BYTES // 1_000_000,
        "files": number_format(settings.MAX_IMPORT_FILES, force_grouping=True),
    }


# The reason in two or three words, where files are counted by it.
REASONS = {
    "empty": _("empty"),
    "not_an_image": _("not a photo"),
    "truncated": _("cut short"),
    "too_many_pixels": _("too many pixels"),
    "too_many_scans": _("built to block"),
    "too_large": _("too large"),
    "undecodable": _("damaged"),
    "encrypted": _("locked with a password"),
    "nested_archive": _("archive inside the archive"),
    "unsafe_path": _("path outside the archive"),
    "overlapping": _("overlaps another file"),
    "bomb": _("made to burst"),
    "link": _("link"),
    "unsupported_compression": _("unknown compression"),
    "damaged_entry": _("damaged in the archive"),
    "unreadable_file": _("could not be opened"),
    "interrupted": _("interrupted several times"),
}
