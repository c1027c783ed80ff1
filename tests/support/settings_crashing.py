"""Settings of a worker whose decoder has a fault: photos of one size end the process that decodes them.

As faults in libraries written in C do: not by an exception, but by a signal.
"""

import ctypes

from ml.images import preprocessing
from tests.support.settings_short_leases import *  # noqa: F403

CLAIM_LEASE_SECONDS = 3
FATAL_SIZE = (123, 77)

_decode = preprocessing.decode_image


def decode_image(image_bytes: bytes, *arguments, **options):
    image = _decode(image_bytes, *arguments, **options)
    if image.size == FATAL_SIZE:
        ctypes.string_at(0)
    return image


preprocessing.decode_image = decode_image
