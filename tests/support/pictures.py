"""Pictures drawn by code, and their files as bytes. Nothing here needs Django."""

import io

import numpy as np
from PIL import Image, ImageDraw


def picture(seed: int = 0, size: tuple[int, int] = (320, 240), mode: str = "RGB") -> Image.Image:
    """Soft random blobs: never twice the same bytes for two seeds."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def drawn_dog(coat: str = "#a8632f", size: tuple[int, int] = (1200, 900)) -> Image.Image:
    """A dog's head on a meadow, for pages and screenshots."""
    scale = 4 * size[0] // 1200
    image = Image.new("RGB", (300, 225), "#bcd7e8")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 160, 300, 225), fill="#7fa05a")
    draw.ellipse((85, 120, 215, 290), fill=coat)
    draw.ellipse((92, 30, 208, 160), fill=coat)
    draw.ellipse((118, 92, 182, 158), fill="#f2e6d8")
    for left in (72, 188):
        draw.ellipse((left, 42, left + 40, 132), fill="#5c3518")
    for left in (122, 164):
        draw.ellipse((left, 76, left + 14, 92), fill="#20150d")
        draw.ellipse((left + 3, 78, left + 8, 83), fill="white")
    draw.ellipse((138, 104, 162, 121), fill="#20150d")
    draw.arc((132, 110, 150, 136), 20, 160, fill="#20150d", width=2)
    draw.arc((150, 110, 168, 136), 20, 160, fill="#20150d", width=2)
    return image.resize((300 * scale, 225 * scale), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, image_format: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def jpeg(seed: int = 0, **options) -> bytes:
    return encoded(picture(seed), "JPEG", **options)
