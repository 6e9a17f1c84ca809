"""Masks that were saved as pictures: the one channel that is in them."""

from PIL import Image


def simpler(stored: Image.Image) -> tuple[Image.Image, str] | None:
    """Return the same mask with fewer channels, and how; None where that would lose something.

    Transparency that is opaque everywhere goes first, then two of three equal channels.
    """
    if stored.mode in ("LA", "RGBA") and stored.getchannel("A").getextrema() == (255, 255):
        return stored.convert(stored.mode[:-1]), "alpha dropped"
    if stored.mode == "RGB":
        red, green, blue = (stored.getchannel(channel).tobytes() for channel in "RGB")
        if red == green == blue:
            return stored.getchannel("R"), "equal channels joined"
    return None
