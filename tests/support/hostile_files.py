"""Files that are damaged or made to do harm, each built on request."""

import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib

from PIL import Image

from tests.support.pictures import encoded, jpeg, picture

# -- pieces of files ---------------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    """A segment of a JPEG; `length` where it lies about its own."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2 if length is None else length) + content


def frame(width: int, height: int, *, marker: int = 0xC0, precision: int = 8, components: int = 3) -> bytes:
    parts = b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    return segment(marker, struct.pack(">BHHB", precision, height, width, components) + parts)


def with_frame(change) -> bytes:
    """A good JPEG whose SOF segment is replaced by what `change` makes of it."""
    whole = jpeg()
    start = whole.index(b"\xff\xc0")
    end = start + 2 + int.from_bytes(whole[start + 2 : start + 4], "big")
    return whole[:start] + change(whole[start:end]) + whole[end:]


def behind_soi(*segments: bytes) -> bytes:
    whole = jpeg()
    return whole[:2] + b"".join(segments) + whole[2:]


def exif(tiff: bytes) -> bytes:
    return behind_soi(segment(0xE1, b"Exif\x00\x00" + tiff))


def ifd(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)


def chunk(kind: bytes, content: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    head = struct.pack(">I", len(content) if length is None else length) + kind + content
    return head + struct.pack(">I", zlib.crc32(kind + content) if crc is None else crc)


def header(width: int = 16, height: int = 16, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


PIXELS = zlib.compress(bytes(16 * (1 + 16 * 3)))
END = chunk(b"IEND", b"")


def png(*chunks: bytes, head: bytes | None = None, pixels: bytes = PIXELS, tail: bytes = b"") -> bytes:
    ihdr = header() if head is None else head
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(chunks) + chunk(b"IDAT", pixels) + END + tail


def webp(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + sides


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if size is None else size) + kind + content


FTYP = box(b"ftyp", b"heic\0\0\0\0mif1heic")


def heic() -> bytes:
    return encoded(picture(), "HEIF")


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def compressed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1_000_000)) for _ in range(megabytes)]
    return b"".join([*parts, packer.flush()])


# -- images: name -> (how it is made, what becomes of it) -------------------------------------------------------------
# `accepted` and answered, `failed` by the worker with a reason, or the code with which intake refuses it.

OTHER_FORMATS = {
    "gif": lambda: encoded(picture(), "GIF"),
    "bmp": lambda: encoded(picture(), "BMP"),
    "tiff": lambda: encoded(picture(), "TIFF"),
    "ico": lambda: encoded(picture(size=(32, 32)), "ICO"),
    "tga": lambda: encoded(picture(), "TGA"),
    "ppm": lambda: encoded(picture(), "PPM"),
    "pcx": lambda: encoded(picture(), "PCX"),
    "dds": lambda: encoded(picture(), "DDS"),
    "icns": lambda: encoded(picture(size=(128, 128)), "ICNS"),
    "jpeg 2000": lambda: b"\x00\x00\x00\x0cjP  \r\n\x87\n" + noise(400),
    "avif": lambda: box(b"ftyp", b"avif\0\0\0\0avifmif1") + noise(400),
    "film": lambda: box(b"ftyp", b"isom\0\0\0\0isommp42") + noise(400),
    "matroska": lambda: b"\x1aE\xdf\xa3" + noise(400),
    "photoshop": lambda: b"8BPS\0\x01" + noise(400),
    "postscript that runs a shell": lambda: b"%!PS\n(%pipe%id) (w) file closefile\n",
    "pdf": lambda: b"%PDF-1.7\n" + noise(400),
    "svg with a script": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "xml that reads files": lambda: b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "html": lambda: b"<!doctype html><script>alert(document.cookie)</script>",
    "php": lambda: b"<?php system($_GET['c']); ?>",
    "imagemagick script": lambda: b"push graphic-context\nfill 'url(https://x/\"|id\")'\npop graphic-context",
    "windows program": lambda: b"MZ" + noise(400),
    "linux program": lambda: b"\x7fELF\x02\x01\x01" + noise(400),
    "gzip": lambda: gzip.compress(jpeg()),
    "tar": lambda: _tar(),
    "zip": lambda: _zip({"a.jpg": jpeg()}),
    "zeros": lambda: bytes(100_000),
    "ones": lambda: b"\xff" * 100_000,
    "noise": lambda: noise(100_000),
    "text with a byte order mark": lambda: b"\xef\xbb\xbf" + b"rex" * 100,
    "photo behind one byte": lambda: b"\n" + jpeg(),
    "photo as base64": lambda: b"data:image/jpeg;base64,/9j/4AAQSkZJRg==",
}


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return stream.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


JPEGS = {
    "signature alone": (lambda: b"\xff\xd8\xff", "truncated"),
    "signature and noise": (lambda: b"\xff\xd8\xff\xe0" + noise(2000), "truncated"),
    "of 65,500 x 65,500 pixels": (lambda: with_frame(lambda _: frame(65_500, 65_500)), "too_many_pixels"),
    "of 0 pixels": (lambda: with_frame(lambda _: frame(0, 0)), "undecodable"),
    "of height 0": (lambda: with_frame(lambda _: frame(320, 0)), "undecodable"),
    "of 12 bits": (lambda: with_frame(lambda _: frame(320, 240, precision=12)), "undecodable"),
    "of 200 channels": (lambda: with_frame(lambda _: frame(320, 240, components=200)), "undecodable"),
    "larger than its pixels": (lambda: with_frame(lambda _: frame(9000, 9000)), "accepted"),
    "lossless": (lambda: with_frame(lambda sof: b"\xff\xc3" + sof[2:]), "failed"),
    "arithmetic in name alone": (lambda: with_frame(lambda sof: b"\xff\xc9" + sof[2:]), "accepted"),
    "without a frame": (lambda: with_frame(lambda _: b""), "undecodable"),
    "with two frames": (lambda: with_frame(lambda sof: sof + sof), "failed"),
    "segment of length 0": (lambda: behind_soi(segment(0xE5, b"", 0)), "undecodable"),
    "segment of length 1": (lambda: behind_soi(segment(0xE5, b"", 1)), "undecodable"),
    "segment longer than the file": (lambda: behind_soi(segment(0xE5, b"x", 60_000)), "truncated"),
    "without quantisation": (lambda: _without(jpeg(), b"\xff\xdb"), "failed"),
    "without huffman tables": (lambda: _without(jpeg(), b"\xff\xc4"), "accepted"),
    "huffman table of lies": (lambda: _replaced(jpeg(), b"\xff\xc4", b"\xff" * 16), "failed"),
    "pixels of noise": (lambda: _noisy_scan(), "accepted"),
    "ten thousand comments": (lambda: behind_soi(*[segment(0xFE, b"x")] * 10_000), "accepted"),
    "comments of 20 MB": (lambda: behind_soi(*[segment(0xFE, bytes(65_000))] * 300), "accepted"),
    "65 scans": (lambda: _scans(65), "too_many_scans"),
    "2,000 scans": (lambda: _scans(2000), "too_many_scans"),
    "script in a comment": (lambda: behind_soi(segment(0xFE, b"<script>alert(1)</script>")), "accepted"),
    "php in a comment": (lambda: behind_soi(segment(0xFE, b"<?php system('id'); ?>")), "accepted"),
    "program behind it": (lambda: jpeg() + b"MZ" + noise(500), "accepted"),
    "zip behind it": (lambda: jpeg() + _zip({"evil.exe": b"x"}), "accepted"),
    "pdf behind it": (lambda: jpeg() + b"%PDF-1.7\n", "accepted"),
    "second photo behind it": (lambda: jpeg(1) + jpeg(2), "accepted"),
    "directory that follows itself": (lambda: exif(ifd((0x0112, 3, 1, 1), following=8)), "accepted"),
    "directory of 65,535 entries": (lambda: exif(b"II*\0\x08\0\0\0\xff\xff"), "accepted"),
    "entry of 4 billion values": (lambda: exif(ifd((0x010F, 2, 0xFFFFFFFF, 26))), "accepted"),
    "entry that points outside": (lambda: exif(ifd((0x010F, 2, 100, 0xFFFFFFF0))), "accepted"),
    "turned to side 9": (lambda: exif(ifd((0x0112, 3, 1, 9))), "accepted"),
    "turned to side 65,535": (lambda: exif(ifd((0x0112, 3, 1, 65_535))), "accepted"),
    "turned by a text": (lambda: exif(ifd((0x0112, 2, 4, 0x41414141))), "accepted"),
    "turned by a directory": (lambda: exif(ifd((0x8769, 4, 1, 8), (0x0112, 13, 1, 8))), "accepted"),
    "exif of noise": (lambda: exif(noise(60_000)), "accepted"),
    "exif that is empty": (lambda: exif(b""), "accepted"),
    "ten exifs": (lambda: behind_soi(*[segment(0xE1, b"Exif\0\0" + ifd((0x0112, 3, 1, 3)))] * 10), "accepted"),
    "colour profile of noise": (lambda: jpeg(icc_profile=noise(100_000)), "accepted"),
    "colour profile that lacks a part": (
        lambda: behind_soi(segment(0xE2, b"ICC_PROFILE\0\x05\x09" + noise(500))),
        "accepted",
    ),
    "name of a film maker": (
        lambda: behind_soi(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60_000)),
        "accepted",
    ),
    "four channels without a word": (
        lambda: encoded(picture(mode="CMYK"), "JPEG").replace(b"Adobe", b"EbodA"),
        "accepted",
    ),
    "page in front of its pixels": (
        lambda: behind_soi(segment(0xFE, b"<html><script>alert(1)</script><!--")),
        "accepted",
    ),
    "a million bytes of filling": (lambda: jpeg()[:2] + b"\xff" * 1_000_000 + jpeg()[2:], "accepted"),
    "half a million restarts": (lambda: jpeg()[:-2] + b"\xff\xd0" * 500_000 + b"\xff\xd9", "accepted"),
    "thumbnail of 4 GB": (lambda: exif(ifd((0x0201, 4, 1, 0xFFFFFFFF), (0x0202, 4, 1, 0xFFFFFFFF))), "accepted"),
    "place that points to itself": (lambda: exif(ifd((0x8825, 4, 1, 8))), "accepted"),
    "place outside the file": (lambda: exif(ifd((0x8825, 4, 1, 0xFFFFFFFF))), "accepted"),
    "exif of two byte orders": (lambda: exif(b"MM*\0" + ifd()[4:]), "accepted"),
    "second picture of lies": (
        lambda: behind_soi(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + noise(300))),
        "accepted",
    ),
    "one pixel": (lambda: encoded(picture(size=(1, 1)), "JPEG"), "accepted"),
    "a line of 20,000 pixels": (lambda: encoded(picture(size=(20_000, 1)), "JPEG"), "accepted"),
    "a column of 20,000 pixels": (lambda: encoded(picture(size=(1, 20_000)), "JPEG"), "accepted"),
}


def _without(image_bytes: bytes, marker: bytes) -> bytes:
    while (start := image_bytes.find(marker)) > 0:
        end = start + 2 + int.from_bytes(image_bytes[start + 2 : start + 4], "big")
        image_bytes = image_bytes[:start] + image_bytes[end:]
    return image_bytes


def _replaced(image_bytes: bytes, marker: bytes, content: bytes) -> bytes:
    start = image_bytes.index(marker) + 5
    return image_bytes[:start] + content + image_bytes[start + len(content) :]


def _noisy_scan() -> bytes:
    whole = jpeg()
    start = whole.index(b"\xff\xda") + 14
    return whole[:start] + noise(len(whole) - start - 2).replace(b"\xff", b"\xfe") + b"\xff\xd9"


def _scans(count: int) -> bytes:
    whole = encoded(picture(size=(32, 32)), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * count + whole[-2:]


PNGS = {
    "of 0 pixels": (lambda: png(head=header(0, 0)), "undecodable"),
    "of 2^31 pixels a side": (lambda: png(head=header(2**31 - 1, 2**31 - 1)), "too_many_pixels"),
    "of 4 billion by 1": (lambda: png(head=header(2**32 - 1, 1)), "too_many_pixels"),
    "bomb of 33 million pixels": (
        lambda: png(head=header(8192, 4100, 1, 0), pixels=compressed_zeros(5)),
        "too_many_pixels",
    ),
    "bomb behind a small header": (lambda: png(pixels=compressed_zeros(200)), "accepted"),
    "of 3 bits": (lambda: png(head=header(depth=3)), "undecodable"),
    "of an unknown colour": (lambda: png(head=header(colour=9)), "undecodable"),
    "interlaced in an unknown way": (lambda: png(head=header(interlace=7)), "failed"),
    "palette that is missing": (lambda: png(head=header(colour=3)), "accepted"),
    "wrong checksum of the header": (lambda: png(head=header()[:-4] + b"\0\0\0\0"), "undecodable"),
    "wrong checksum of a text": (lambda: png(chunk(b"tEXt", b"a\0b", crc=0)), "undecodable"),
    "end at the beginning": (lambda: b"\x89PNG\r\n\x1a\n" + END, "undecodable"),
    "without a header": (lambda: png(head=b""), "undecodable"),
    "two headers": (lambda: png(header(32, 32)), "failed"),
    "no pixels": (lambda: b"\x89PNG\r\n\x1a\n" + header() + END, "failed"),
    "half of its pixels": (lambda: png(pixels=PIXELS[: len(PIXELS) // 2]), "failed"),
    "pixels of noise": (lambda: png(pixels=noise(500)), "failed"),
    "chunk of 4 GB": (lambda: png(chunk(b"tEXt", b"x", length=0xFFFFFFFF)), "truncated"),
    "chunk of 2 GB": (lambda: png(chunk(b"tEXt", b"x", length=0x7FFFFFFF)), "truncated"),
    "text that bursts": (lambda: png(chunk(b"zTXt", b"a\0\0" + compressed_zeros(100))), "undecodable"),
    "long text that bursts": (lambda: png(chunk(b"iTXt", b"a\0\x01\0\0\0" + compressed_zeros(100))), "undecodable"),
    "colour profile that bursts": (lambda: png(chunk(b"iCCP", b"a\0\0" + compressed_zeros(100))), "undecodable"),
    "ten thousand texts": (lambda: png(*[chunk(b"tEXt", b"a\0b")] * 10_000), "accepted"),
    "forty texts that unpack to 1 MB each": (
        lambda: png(*[chunk(b"zTXt", b"a\0\0" + compressed_zeros(1))] * 40),
        "accepted",
    ),
    "bomb in seven passes": (lambda: png(head=header(8000, 8000, interlace=1)), "too_many_pixels"),
    "exif that follows itself": (lambda: png(chunk(b"eXIf", ifd((0x0112, 3, 1, 1), following=8))), "accepted"),
    "500 exifs": (lambda: png(*[chunk(b"eXIf", ifd((0x0112, 3, 1, 6)))] * 500), "accepted"),
    "photo behind it": (lambda: png(tail=jpeg()), "accepted"),
    "film of 1,000 frames": (lambda: _apng(1000), "accepted"),
    "script in a text": (lambda: png(chunk(b"tEXt", b"Comment\0<script>alert(1)</script>")), "accepted"),
    "program behind it": (lambda: png(tail=b"MZ" + noise(500)), "accepted"),
    "page behind it": (lambda: png(tail=b"<html><script>alert(1)</script>"), "accepted"),
    "one pixel": (lambda: encoded(picture(size=(1, 1)), "PNG"), "accepted"),
}


def _apng(frames: int) -> bytes:
    small = [Image.new("RGB", (4, 4), (number % 256, 0, 0)) for number in range(frames)]
    return encoded(small[0], "PNG", save_all=True, append_images=small[1:])


WEBPS = {
    "signature alone": (lambda: b"RIFF\x04\0\0\0WEBP", "undecodable"),
    "longer than the file": (lambda: webp((b"VP8 ", noise(100)), size=10_000), "truncated"),
    "of 4 GB": (lambda: webp((b"VP8 ", noise(100)), size=0xFFFFFFFF), "truncated"),
    "pixels of noise": (lambda: webp((b"VP8 ", noise(500))), "undecodable"),
    "lossless noise": (lambda: webp((b"VP8L", b"\x2f" + noise(500))), "undecodable"),
    "canvas of 16,384 x 16,384": (lambda: webp(canvas(16_384, 16_384), (b"VP8 ", noise(100))), "undecodable"),
    "canvas without a picture": (lambda: webp(canvas(64, 64)), "undecodable"),
    "exif that follows itself": (
        lambda: encoded(picture(), "WEBP", exif=b"Exif\0\0" + ifd((0x0112, 3, 1, 1), following=8)),
        "accepted",
    ),
    "film of 16,000 x 16,000": (
        lambda: webp(canvas(16_000, 16_000, 2), (b"ANIM", bytes(6)), (b"ANMF", noise(60))),
        "undecodable",
    ),
    "a film of 300 frames": (lambda: _film(300), "accepted"),
    "page behind it": (lambda: encoded(picture(), "WEBP") + b"<html><script>alert(1)</script>", "accepted"),
    "chunk of 4 GB": (lambda: webp((b"VP8 ", noise(20))) + b"EXIF\xff\xff\xff\xff", "undecodable"),
}


def _film(frames: int) -> bytes:
    small = [Image.new("RGB", (16, 16), (number % 256, 0, 0)) for number in range(frames)]
    return encoded(small[0], "WEBP", save_all=True, append_images=small[1:])


HEICS = {
    "brand alone": (lambda: FTYP, "truncated"),
    "pixels of noise": (lambda: FTYP + box(b"mdat", noise(500)), "undecodable"),
    "box of length 0 in front": (lambda: FTYP + box(b"free", size=0) + heic()[len(FTYP) :], "truncated"),
    "box of length 4": (lambda: FTYP + box(b"free", size=4) + box(b"mdat", noise(20)), "undecodable"),
    "box of 16 exabytes": (lambda: FTYP + box(b"mdat", b"\x7f" + b"\xff" * 7 + noise(20), size=1), "truncated"),
    "box of 4 GB": (lambda: heic() + box(b"mdat", b"x", size=0xFFFFFFFF), "truncated"),
    "boxes in boxes": (lambda: FTYP + _nested(2000) + box(b"mdat", noise(20)), "undecodable"),
    "ten thousand empty boxes": (lambda: heic() + box(b"free") * 10_000, "accepted"),
    "of 65,535 x 65,535 pixels": (lambda: _heic_of(65_535, 65_535), "too_many_pixels"),
    "of 0 pixels": (lambda: _heic_of(0, 0), "undecodable"),
    "smaller than its pixels": (lambda: _heic_of(1, 1), "failed"),
    "without its list of items": (lambda: heic().replace(b"iloc", b"free"), "undecodable"),
    "film behind it": (lambda: heic() + box(b"moov", noise(500)), "undecodable"),
}


def _heic_of(width: int, height: int) -> bytes:
    """A HEIC whose description claims another size than its data has."""
    whole = heic()
    at = whole.index(b"ispe") + 8
    return whole[:at] + struct.pack(">II", width, height) + whole[at + 8 :]


def _nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = box(b"meta", content)
    return content


WHOLE = {
    "jpeg": jpeg,
    "progressive jpeg": lambda: jpeg(progressive=True),
    "png": lambda: encoded(picture(), "PNG"),
    "webp": lambda: encoded(picture(), "WEBP"),
    "lossless webp": lambda: encoded(picture(), "WEBP", lossless=True),
    "heic": heic,
}


def _cuts(make) -> list[bytes]:
    """The same photo, broken off at every eighth and at each of the last bytes."""
    whole = make()
    return [whole[: len(whole) * eighth // 8] for eighth in range(1, 8)] + [whole[:-last] for last in (1, 2, 3, 12)]


TRUNCATIONS = {name: (lambda make=make: _cuts(make)) for name, make in WHOLE.items()}

IMAGES = (
    {f"{name}": (make, "not_an_image") for name, make in OTHER_FORMATS.items()}
    | {f"jpeg: {name}": row for name, row in JPEGS.items()}
    | {f"png: {name}": row for name, row in PNGS.items()}
    | {f"webp: {name}": row for name, row in WEBPS.items()}
    | {f"heic: {name}": row for name, row in HEICS.items()}
)
