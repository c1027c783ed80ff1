"""What a photo tells beside its pixels: where it was taken goes, pixels stay as they are to the last bit.

A photo of a foster family's garden must not carry the garden's coordinates. What can be read is edited: EXIF (TIFF 6.0
directories) and XMP. What cannot be read cannot be vouched for and goes whole: maker notes, unknown segments,
the film or second picture that some phones append. Edited blocks keep their length, because HEIC (ISO 14496-12 boxes)
addresses its pixels by their distance from the start of the file.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ml import UnreadableImage
from ml.images.imagefile import JPEG_EOI, JPEG_MARKER, JPEG_SOS, orientation_of

_XMP_LIMIT = 65_536  # what fits one JPEG segment; anything longer holds pictures, which would need cleaning themselves
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\x00"

# Attributes and elements of an XMP packet whose names speak of a place.
_PLACE = (
    rb"[\w.-]+:(?:[\w.-]*(?:gps|latitude|longt?itude)[\w.-]*"
    rb"|(?:sub)?location[\w.-]*|city|state|provincestate|country[\w.-]*|worldregion)"
)
_XMP_ATTRIBUTE = re.compile(rb"\b" + _PLACE + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE)
_XMP_ELEMENT = re.compile(rb"<(" + _PLACE + rb")(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)", re.IGNORECASE | re.DOTALL)
_POSITION = re.compile(rb"gps|latitude|longitude", re.IGNORECASE)

_EXIF_POINTER, _NEXT_THUMBNAIL, _THUMBNAIL_LENGTH = 0x8769, 0x0201, 0x0202
_DROPPED_TAGS = {
    0x8825,  # GPS
    0x927C,  # maker note
    0x02BC,  # XMP
    0x83BB,  # IPTC
    0x8649,  # Photoshop, which may hold a second EXIF
    0x014A,  # further pictures
    0xA005,  # interoperability
    0xEA1C,  # padding
}
_FIRST_TAG = 0x00FE  # lower numbers mean something in the GPS directory alone
_VALUE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}

_PNG_KEPT = {
    b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"hIST", b"cICP", b"mDCV", b"cLLI",
    b"tIME", b"acTL", b"fcTL", b"fdAT",
}  # fmt: skip
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_HEIF_KEPT = {b"ftyp", b"styp", b"mdat", b"free", b"skip", b"wide", b"pdin"}
_HEIF_META_KEPT = {b"hdlr", b"pitm", b"iinf", b"iref", b"iprp", b"iloc", b"idat", b"dinf", b"grpl", b"ipro", b"free"}
_HEIF_FILM_PARTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}


def remove_location(image_bytes: bytes, image_format: str) -> bytes:
    """The same photo without its position, or the very same bytes where they hold nothing that must go.

    `image_bytes` have passed `inspect_image`, which named `image_format`. Raises `UnreadableImage` for a file whose
    parts contradict each other, so that nobody could say what is left in it.
    """
    clean = {"JPEG": _clean_jpeg, "PNG": _clean_png, "WEBP": _clean_webp, "HEIF": _clean_heif}[image_format]
    try:
        return clean(image_bytes)
    except (struct.error, IndexError, ValueError) as error:
        raise UnreadableImage(
            "undecodable", f"Expected a {image_format} whose parts fit each other. Received: {error}."
        ) from error


# -- EXIF and XMP -----------------------------------------------------------------------------------------------------


def clean_exif(block: bytes) -> bytes:
    """An EXIF block of the same length that holds what may stay, and zeros in place of all else.

    Copying what is reachable, instead of deleting what is known, also clears what other programs left behind. A block
    that cannot be followed keeps its orientation alone.
    """
    head = 6 if block.startswith(b"Exif\x00\x00") else 0
    tiff = block[head:]
    try:
        cleaned = _clean_tiff(tiff)
    except (struct.error, KeyError):
        turn = orientation_of(b"Exif\x00\x00" + tiff)
        cleaned = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, turn, 0, 0)
    return block[:head] + cleaned.ljust(len(tiff), b"\x00")[: len(tiff)]


def _clean_tiff(tiff: bytes) -> bytes:
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    cleaned = bytearray(len(tiff))
    cleaned[:8] = tiff[:8]
    pending, seen = [(struct.unpack_from(order + "I", tiff, 4)[0], True)], {0}
    while pending:
        start, in_chain = pending.pop()
        if start in seen:
            continue
        seen.add(start)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        kept, pointers = [], {}
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, inline = struct.unpack_from(order + "HHII", tiff, position)
            size = _VALUE_SIZES.get(kind, 0) * number
            place = position + 8 if size <= 4 else inline
            value = tiff[place : place + size]
            if not size or len(value) < size or tag < _FIRST_TAG or tag in _DROPPED_TAGS or _tells_position(value):
                continue
            if size > 4:
                cleaned[place : place + size] = value
            kept.append(tiff[position : position + 12])
            pointers[tag] = inline
        struct.pack_into(order + "H", cleaned, start, len(kept))
        cleaned[start + 2 : start + 2 + 12 * len(kept)] = b"".join(kept)
        if in_chain:
            following = tiff[start + 2 + 12 * count :][:4]
            struct.pack_into("4s", cleaned, start + 2 + 12 * len(kept), following)
            pending.append((struct.unpack(order + "I", following)[0], True))
        if _EXIF_POINTER in pointers:
            pending.append((pointers[_EXIF_POINTER], False))
        thumbnail_at, length = pointers.get(_NEXT_THUMBNAIL, 0), pointers.get(_THUMBNAIL_LENGTH, 0)
        thumbnail = tiff[thumbnail_at : thumbnail_at + length]
        if thumbnail_at and b"Exif" not in thumbnail:
            cleaned[thumbnail_at : thumbnail_at + len(thumbnail)] = thumbnail
    return bytes(cleaned)


def clean_xmp(packet: bytes) -> bytes:
    """An XMP packet of the same length, with spaces in place of every place; all spaces if it still tells one."""
    if len(packet) <= _XMP_LIMIT:
        for pattern in (_XMP_ELEMENT, _XMP_ATTRIBUTE):
            packet = pattern.sub(lambda found: b" " * len(found[0]), packet)
        if not _tells_position(packet):
            return packet
    return b" " * len(packet)


def _tells_position(text: bytes) -> bool:
    return bool(_POSITION.search(text.replace(b"\x00", b"")))


# -- containers -------------------------------------------------------------------------------------------------------


def _clean_jpeg(image_bytes: bytes) -> bytes:
    """Keep what draws the picture (ITU-T T.81), JFIF, the colour profile, EXIF and XMP; nothing after the end."""
    kept, position, in_scan = [image_bytes[:2]], 2, False
    while True:
        marker = JPEG_MARKER.search(image_bytes, position)
        if marker is None:
            raise ValueError("no end marker")
        if in_scan:
            kept.append(image_bytes[position : marker.start()].rstrip(b"\xff"))  # what fills up before a marker
        code, position = marker[1][0], marker.end()
        if code == JPEG_EOI:
            return b"".join([*kept, b"\xff\xd9"])
        length = int.from_bytes(image_bytes[position : position + 2], "big")
        if length < 2:
            raise ValueError(f"a segment of {length} bytes")
        segment = _clean_segment(code, image_bytes[position + 2 : position + length])
        if segment is not None:
            kept += [b"\xff", marker[1], image_bytes[position : position + 2], segment]
        in_scan = code == JPEG_SOS or (in_scan and segment is None)
        position += length


def _clean_segment(code: int, content: bytes) -> bytes | None:
    if code < 0xE0 or (code, content[:5]) in {(0xE0, b"JFIF\x00"), (0xE0, b"JFXX\x00"), (0xEE, b"Adobe")}:
        return content
    if code == 0xE1 and content.startswith(b"Exif\x00\x00"):
        return clean_exif(content)
    if code == 0xE1 and content.startswith(_XMP_HEAD):
        return _XMP_HEAD + clean_xmp(content[len(_XMP_HEAD) :])
    if (code == 0xE2 and content.startswith(b"ICC_PROFILE\x00")) or (code == 0xFE and not _tells_position(content)):
        return content
    return None


def _clean_png(image_bytes: bytes) -> bytes:
    kept, position = [image_bytes[:8]], 8
    while True:
        length, kind = struct.unpack_from(">I4s", image_bytes, position)
        content = image_bytes[position + 8 : position + 8 + length]
        if kind[:1].isupper() or kind in _PNG_KEPT:
            kept.append(image_bytes[position : position + 12 + length])
        elif (cleaned := _clean_png_text(kind, content)) is not None:
            kept += [struct.pack(">I", length), kind, cleaned, struct.pack(">I", zlib.crc32(kind + cleaned))]
        position += 12 + length
        if kind == b"IEND":
            return b"".join(kept)


def _clean_png_text(kind: bytes, content: bytes) -> bytes | None:
    """Same length, or nothing. Compressed texts go: to look into one is to unpack what may be a bomb."""
    if kind == b"eXIf":
        return clean_exif(content)
    keyword, _, rest = content.partition(b"\x00")
    if kind == b"iTXt" and keyword == b"XML:com.adobe.xmp" and rest[:1] == b"\x00":
        return keyword + b"\x00\x00" + clean_xmp(rest[1:])
    if kind == b"tEXt" and not keyword.startswith(b"Raw profile") and not _tells_position(content):
        return content
    return None


def _clean_webp(image_bytes: bytes) -> bytes:
    end = struct.unpack_from("<I", image_bytes, 4)[0] + 8
    kept, position = [], 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", image_bytes, position)
        content = image_bytes[position + 8 : position + 8 + length]
        if kind == b"EXIF":
            content = clean_exif(content)
        elif kind == b"XMP ":
            content = clean_xmp(content)
        if kind in _WEBP_KEPT or kind in {b"EXIF", b"XMP "}:
            kept += [struct.pack("<4sI", kind, length), content, b"\x00" * (length % 2)]
        position += 8 + length + length % 2
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


class _Box(NamedTuple):
    kind: bytes
    start: int
    content: int
    end: int


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    while start < end:
        length, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        length = length or end - start
        if start + length > end or start + length < content:
            raise ValueError(f"a box {kind!r} of {length} bytes where {end - start} are left")
        yield _Box(kind, start, content, start + length)
        start += length


def _clean_heif(image_bytes: bytes) -> bytes:
    cleaned = bytearray(image_bytes)
    for box in _boxes(image_bytes, 0, len(image_bytes)):
        if box.kind == b"meta":
            _clean_heif_meta(image_bytes, cleaned, box)
        elif box.kind == b"moov":
            _clean_film(image_bytes, cleaned, box)
        elif box.kind not in _HEIF_KEPT:
            _blank(cleaned, box)
    return bytes(cleaned)


def _blank(cleaned: bytearray, box: _Box) -> None:
    cleaned[box.start + 4 : box.start + 8] = b"free"
    cleaned[box.content : box.end] = bytes(box.end - box.content)


def _clean_film(data: bytes, cleaned: bytearray, parent: _Box) -> None:
    """A sequence of pictures keeps its tables; user data and metadata at any depth go."""
    for box in _boxes(data, parent.content, parent.end):
        if box.kind in _HEIF_FILM_PARTS:
            _clean_film(data, cleaned, box)
        elif box.kind in {b"udta", b"meta", b"uuid"}:
            _blank(cleaned, box)


def _clean_heif_meta(data: bytes, cleaned: bytearray, meta: _Box) -> None:
    children = {box.kind: box for box in _boxes(data, meta.content + 4, meta.end)}
    for box in _boxes(data, meta.content + 4, meta.end):
        if box.kind not in _HEIF_META_KEPT:
            _blank(cleaned, box)
    if b"iinf" not in children or b"iloc" not in children:
        return
    texts = _heif_texts(data, children[b"iinf"])
    for item, method, extents in _heif_extents(data, children[b"iloc"]):
        if item not in texts:
            continue
        if method > 1:
            raise ValueError(f"metadata stored by method {method}")
        base = children[b"idat"].content if method and b"idat" in children else 0
        block = b"".join(data[base + start : base + start + length] for start, length in extents)
        rest = {b"Exif": _clean_heif_exif, b"rdf+": clean_xmp}.get(texts[item], lambda block: bytes(len(block)))(block)
        for start, length in extents:
            cleaned[base + start : base + start + length], rest = rest[:length], rest[length:]
    if len(cleaned) != len(data):
        raise ValueError("metadata beyond the end of the file")


def _clean_heif_exif(block: bytes) -> bytes:
    """Four bytes say how far behind them the TIFF header starts, usually after `Exif`, zero, zero."""
    skip = 4 + struct.unpack_from(">I", block)[0]
    return block[:4] + bytes(len(block[4:skip])) + clean_exif(block[skip:])


def _heif_texts(data: bytes, iinf: _Box) -> dict[int, bytes]:
    """Ids of the items that are not pictures -> `Exif`, `rdf+` (XMP), or what else they call themselves."""
    found, version = {}, data[iinf.content]
    for box in _boxes(data, iinf.content + (6 if version == 0 else 8), iinf.end):
        version = data[box.content]
        if version < 2:  # no types yet: all of them are metadata
            found[struct.unpack_from(">H", data, box.content + 4)[0]] = b"mime"
            continue
        item, _protection, kind = struct.unpack_from(">HH4s" if version == 2 else ">IH4s", data, box.content + 4)
        if kind == b"mime":
            texts = data[box.content + (12 if version == 2 else 14) : box.end].split(b"\x00")
            kind = b"rdf+" if len(texts) > 1 and texts[1].startswith(b"application/rdf+xml") else kind
        if kind in {b"Exif", b"rdf+", b"mime", b"uri "}:
            found[item] = kind
    return found


def _heif_extents(data: bytes, iloc: _Box) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(item, construction method, [(start, length)]) of ISO 14496-12, 8.11.3."""
    position, version = iloc.content, data[iloc.content]

    def number(size: int) -> int:
        nonlocal position
        if position + size > iloc.end:
            raise ValueError("a table of items that is cut short")
        position += size
        return int.from_bytes(data[position - size : position], "big")

    number(4)
    sizes = number(2)
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)
        base, extents = number(base_size), []
        for _ in range(number(2)):
            number(index_size if version in (1, 2) else 0)
            start = base + number(offset_size)
            extents.append((start, number(length_size) or len(data) - start))
        yield item, method, extents
