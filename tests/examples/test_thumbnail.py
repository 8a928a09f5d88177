"""The example ``thumbnail``: a photo as a phone makes it, shrunk by Pillow."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import coldframe

THUMBNAIL = Path(__file__).resolve().parents[2] / "examples" / "thumbnail"
# Held upright it is 400 pixels wide and 600 high, but stored as the sensor lies.
PHOTO = THUMBNAIL / "photo.jpg"


@pytest.fixture
def thumbnail() -> Iterator[coldframe.Function]:
    with coldframe.Function("app.handler", code=THUMBNAIL / "app.py", memory_mb=1769, timeout_s=60) as function:
        yield function


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def test_a_photo_is_shrunk_and_stands_upright(thumbnail: coldframe.Function) -> None:
    result = thumbnail({"image": encoded(PHOTO.read_bytes()), "width": 128})

    assert (result["width"], result["height"], result["format"]) == (128, 192, "JPEG")
    data = base64.b64decode(result["image"], validate=True)
    assert data.startswith(b"\xff\xd8\xff")
    assert data.endswith(b"\xff\xd9")
    assert len(data) < PHOTO.stat().st_size / 2
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (128, 192)
        assert not image.getexif(), "the place and the camera do not leave with the thumbnail"
        sky, meadow = (colour(image, box) for box in ((90, 5, 120, 25), (10, 165, 120, 190)))
    assert max(sky) == sky[2], f"the sky is above, and blue: {sky}"
    assert max(meadow) == meadow[1], f"the meadow is below, and green: {meadow}"


def test_a_thumbnail_is_never_larger_than_the_image(thumbnail: coldframe.Function) -> None:
    result = thumbnail({"image": encoded(PHOTO.read_bytes()), "width": 5000})
    assert (result["width"], result["height"]) == (400, 600)


def test_a_png_keeps_its_transparency(thumbnail: coldframe.Function) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (300, 100), (200, 30, 30, 0)).save(file, "PNG")
    result = thumbnail({"image": encoded(file.getvalue())})

    assert (result["width"], result["height"], result["format"]) == (128, 43, "PNG")
    with Image.open(io.BytesIO(base64.b64decode(result["image"]))) as image:
        assert image.mode == "RGBA"
        assert image.getchannel("A").getextrema() == (0, 0)


def test_what_is_no_image_is_an_error_and_the_next_one_works(thumbnail: coldframe.Function) -> None:
    invocation = thumbnail.invoke({"image": encoded(b"GIF89a, or so they say")})
    assert isinstance(invocation.error, coldframe.HandlerError)
    assert invocation.error.error_type == "UnidentifiedImageError"

    assert thumbnail({"image": encoded(PHOTO.read_bytes()), "width": 60})["height"] == 90


def colour(image: Image.Image, box: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """Give the mean colour of a part of an image."""
    red, green, blue = image.convert("RGB").resize((1, 1), Image.Resampling.BOX, box=box).tobytes()
    return red, green, blue
