"""Make a thumbnail: an image goes in as base64, a small one comes out."""

import base64
import io
from typing import Any

from PIL import Image, ImageOps


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Shrink ``event["image"]`` to at most ``event["width"]`` pixels across (128 unless told); never enlarge it.

    A JPEG stays a JPEG, everything else becomes a PNG. What a camera adds beside the pixels (place, time, serial
    number) does not reach the thumbnail.
    """
    width = int(event.get("width", 128))
    if width < 1:
        message = f"width must be at least 1 pixel, not {width}"
        raise ValueError(message)
    with Image.open(io.BytesIO(base64.b64decode(event["image"]))) as image:
        kind = "JPEG" if image.format == "JPEG" else "PNG"
        # Cameras store the pixels as the sensor lies and only note which side was up.
        small = ImageOps.exif_transpose(image)
    small.thumbnail((width, small.height))
    file = io.BytesIO()
    small.save(file, kind, optimize=True, exif=b"")
    return {
        "image": base64.b64encode(file.getvalue()).decode("ascii"),
        "width": small.width,
        "height": small.height,
        "format": kind,
    }
