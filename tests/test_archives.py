"""Zips as they come: old names, system files, and traps."""

import io
import struct
import zipfile

import pytest

from shelter.intake.archives import Archive, BadArchive, BadEntry, Parts, dog_name, is_hidden
from tests.support.pictures import jpeg


def zipped(files: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_raw_names(files: dict[bytes, bytes]) -> bytes:
    """A zip of an old program: names are bytes, and nothing says of what alphabet."""
    placeholders = {chr(ord("A") + index) * len(name): name for index, name in enumerate(files)}
    packed = zipped({placeholder: files[name] for placeholder, name in placeholders.items()})
    for placeholder, name in placeholders.items():
        packed = packed.replace(placeholder.encode(), name)
    return packed


def patched(packed: bytes, **fields: int) -> bytes:
    """The same zip whose first entry says something else in the list of contents."""
    places = {
        "flags": (8, "<H"),
        "method": (10, "<H"),
        "compressed": (20, "<I"),
        "size": (24, "<I"),
        "attributes": (38, "<I"),
    }
    changed, start = bytearray(packed), packed.index(b"PK\x01\x02")
    for field, value in fields.items():
        offset, form = places[field]
        struct.pack_into(form, changed, start + offset, value)
    return bytes(changed)


def archive(packed: bytes) -> Archive:
    return Archive(io.BytesIO(packed))


def refusals(packed: bytes) -> dict[str, str]:
    return {entry.path: entry.refusal for entry in archive(packed).entries()}


@pytest.mark.parametrize("encoding", ["cp850", "cp437", "cp1252", "utf-8"])
def test_it_reads_the_accents_of_old_archives(encoding):
    names = ["Réglisse/été.jpg", "Chloé/Noël à la forêt.jpg", "Ça/ç.jpg"]
    packed = with_raw_names({name.encode(encoding): b"x" for name in names})
    assert [entry.path for entry in archive(packed).entries()] == names


def test_it_reads_capital_accents_as_windows_packs_them():
    packed = with_raw_names({"ÉTOILE/ÀÈÊ.jpg".encode("cp850"): b"x"})
    assert [entry.path for entry in archive(packed).entries()] == ["ÉTOILE/ÀÈÊ.jpg"]


def test_it_joins_the_accents_that_macos_takes_apart():
    assert list(refusals(zipped({"Re\u0301glisse/e\u0301te\u0301.jpg": b"x"}))) == ["Réglisse/été.jpg"]


def test_it_reads_names_with_backslashes_as_folders():
    assert list(refusals(with_raw_names({b"Rex\\1.jpg": b"x"}))) == ["Rex/1.jpg"]


def test_it_skips_what_systems_put_beside_photos():
    packed = zipped({
        "Rex/1.jpg": b"x", "__MACOSX/Rex/._1.jpg": b"x", "Rex/.DS_Store": b"x", "Rex/Thumbs.db": b"x",
        ".git/config": b"x", "Rex/desktop.ini": b"x", "Rex/": b"", "Rex/._1.jpg": b"x",
    })  # fmt: skip
    assert list(refusals(packed)) == ["Rex/1.jpg"]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:/Windows/b.jpg", "..\\b.jpg"])
def test_it_refuses_paths_that_lead_outside_and_takes_the_others(path):
    found = refusals(zipped({path: b"x", "ok.jpg": b"x"}))
    assert list(found.values()) == ["unsafe_path", ""]


def test_it_refuses_links_passwords_nested_archives_and_what_is_too_large(settings):
    settings.MAX_PHOTO_BYTES = 100
    files = {"a.jpg": b"x"}
    assert refusals(patched(zipped(files), flags=1)) == {"a.jpg": "encrypted"}
    assert refusals(patched(zipped(files), attributes=0o120777 << 16)) == {"a.jpg": "link"}
    assert refusals(zipped({"more.ZIP": b"x"})) == {"more.ZIP": "nested_archive"}
    assert refusals(zipped({"a.jpg": bytes(101)})) == {"a.jpg": "too_large"}


def test_it_refuses_a_bomb_without_unpacking_it():
    packed = zipped({"bomb.jpg": bytes(20_000_000), "ok.jpg": jpeg()}, zipfile.ZIP_DEFLATED)
    assert len(packed) < 50_000
    assert list(refusals(packed).values()) == ["bomb", ""]


@pytest.mark.parametrize(("compressed", "refusal"), [(10_000, ""), (9_999, "bomb")])
def test_a_zip_entry_that_expands_more_than_200_times_is_refused(compressed, refusal):
    packed = patched(zipped({"a.jpg": bytes(10_000)}), compressed=compressed, size=2_000_000)
    assert refusals(packed) == {"a.jpg": refusal}


def test_it_reads_no_more_than_the_limit_from_an_entry(settings):
    settings.MAX_PHOTO_BYTES = 1000
    packed = zipped({"a.jpg": bytes(range(256)) * 40}, zipfile.ZIP_DEFLATED)
    assert len(archive(packed).read(0)) == 1001


def test_it_takes_no_entry_that_goes_on_after_its_claimed_end():
    packed = patched(zipped({"a.jpg": jpeg()}, zipfile.ZIP_DEFLATED), size=10)
    with pytest.raises(BadEntry, match="damaged_entry"):
        archive(packed).read(0)


def test_it_reads_what_is_there_of_an_entry_that_claims_more():
    packed = patched(zipped({"a.jpg": jpeg()}, zipfile.ZIP_DEFLATED), size=900_000)
    assert archive(packed).read(0) == jpeg()


def test_it_refuses_entries_that_share_their_bytes():
    """Three names for one stream of bytes, and one entry that has its own."""
    whole = zipped({"a.jpg": jpeg(1), "b.jpg": jpeg(2), "c.jpg": jpeg(3), "d.jpg": jpeg(4)})
    start = whole.index(b"PK\x01\x02")
    changed = bytearray(whole)
    first = struct.unpack_from("<I", whole, start + 42)[0]
    for name in (b"b.jpg", b"c.jpg"):
        entry = whole.index(name, start) - 46
        struct.pack_into("<I", changed, entry + 42, first)
    assert refusals(bytes(changed)) == {
        "a.jpg": "overlapping", "b.jpg": "overlapping", "c.jpg": "overlapping", "d.jpg": "",
    }  # fmt: skip


def test_it_refuses_an_entry_that_wraps_around_another():
    whole = zipped({"a.jpg": jpeg(1), "b.jpg": jpeg(2), "c.jpg": jpeg(3)})
    grown = patched(whole, compressed=len(jpeg(1)) + 100)
    assert refusals(grown) == {"a.jpg": "overlapping", "b.jpg": "overlapping", "c.jpg": ""}


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (patched(zipped({"a.jpg": b"x"}), method=97), "unsupported_compression"),
        (zipped({"a.jpg": jpeg()}).replace(jpeg()[100:140], bytes(40)), "damaged_entry"),
        (zipped({"a.jpg": jpeg() * 3}, zipfile.ZIP_BZIP2).replace(b"BZh91AY", b"BZh91AX"), "damaged_entry"),
        (zipped({"a.jpg": jpeg() * 3}, zipfile.ZIP_LZMA).replace(b"PK\x03\x04", b"PK\x03\x05"), "damaged_entry"),
    ],
    ids=["method", "checksum", "bz2", "header"],
)
def test_it_says_why_an_entry_cannot_be_read(packed, code):
    with pytest.raises(BadEntry, match=code):
        archive(packed).read(0)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_it_reads_what_was_packed(compression):
    packed = archive(zipped({"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, compression))
    assert [packed.read(entry.position) for entry in packed.entries()] == [jpeg(1), jpeg(2)]


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07\x00" + bytes(100), jpeg(), zipped({"a.jpg": jpeg()})[:-60]])
def test_it_says_that_a_file_is_no_whole_zip(content):
    with pytest.raises(BadArchive, match="not_a_zip"):
        archive(content)


@pytest.mark.parametrize("wide", [False, True], ids=["zip", "zip64"])
def test_it_refuses_a_list_of_contents_that_would_fill_the_memory(wide):
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF if wide else 17_000_000, 0, 0)
    if wide:
        record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, 17_000_000, 0)
        tail = record + struct.pack("<4sIQI", b"PK\x06\x07", 0, 100, 1) + tail
    with pytest.raises(BadArchive, match="too_many_entries"):
        archive(bytes(100) + tail)


def test_it_reads_an_archive_in_pieces_as_if_it_were_whole():
    packed, opened = zipped({f"{seed}.jpg": jpeg(seed) for seed in range(12)}), []

    def open_part(number):
        opened.append(number)
        return io.BytesIO(packed[number * 1000 : (number + 1) * 1000])

    pieces = Archive(io.BufferedReader(Parts(len(packed), 1000, open_part), 512))
    assert [pieces.read(entry.position) for entry in pieces.entries()] == [jpeg(seed) for seed in range(12)]
    assert len(opened) < 3 * len(packed) / 1000


@pytest.mark.parametrize(
    ("path", "dog"),
    [
        ("Rex/1.jpg", "Rex"),
        ("Refuge 2025/Bella_2/IMG_1.jpg", "Bella 2"),
        ("Archives/Rex/2023-05-01/1.jpg", "Rex"),
        ("Rex/DCIM/100APPLE/1.jpg", "Rex"),
        ("photos/1.jpg", ""),
        ("1.jpg", ""),
        ("Réglisse/été.jpg", "Réglisse"),
        ("2024/05/1.jpg", ""),
    ],
)
def test_it_offers_the_nearest_folder_that_may_be_a_dogs_name(path, dog):
    assert dog_name(path) == dog


@pytest.mark.parametrize("path", ["a/.b/c.jpg", "._c.jpg", "__MACOSX/c.jpg", "THUMBS.DB"])
def test_it_knows_what_is_hidden(path):
    assert is_hidden(path)
    assert not is_hidden("a/b.jpg")
