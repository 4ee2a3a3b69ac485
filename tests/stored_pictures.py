"""Stored pictures without what nobody sees, which costs a sixth of the notebooks' size.

matplotlib writes an alpha channel that is opaque everywhere, and millions of possible colours for a plot that has thirty.
"""

import base64
import io

import numpy as np
from PIL import Image


def _with_few_colours(
    picture: Image.Image,  # RGB
) -> Image.Image:  # the same with a palette of 256 colours, or as it was where the eye might tell
    "A plot has few colours, and shades between them; an X-ray beside coloured boxes has too many"
    fewer = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    apart = np.abs(np.asarray(picture, np.int16) - np.asarray(fewer.convert("RGB"), np.int16)).max(axis=-1)
    return fewer if apart.mean() < 0.25 and np.quantile(apart, 0.99) <= 4 else picture


def packed_picture(
    text: str,  # a PNG as a notebook stores it: base64
) -> str:
    "The same picture without an alpha channel that says nothing, and with few colours where it has few; others stay"
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    if picture.format != "PNG" or picture.mode not in ("RGB", "RGBA"):
        return text
    if picture.mode == "RGBA" and picture.getextrema()[3] != (255, 255):
        return text
    dpi = {"dpi": picture.info["dpi"]} if "dpi" in picture.info else {}
    whole = picture.convert("RGB")
    smaller = _with_few_colours(whole)
    if picture.mode == "RGB" and smaller is whole:
        return text  # packed before
    buffer = io.BytesIO()
    smaller.save(buffer, "PNG", optimize=True, **dpi)
    return base64.b64encode(buffer.getvalue()).decode() + "\n" * text.endswith("\n")


def packed(
    notebook: dict,  # as JSON
) -> dict:  # the same notebook
    "Pack all stored pictures of a notebook"
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                stored = data["image/png"]
                text = packed_picture("".join(stored))
                data["image/png"] = text if isinstance(stored, str) else text.splitlines(keepends=True)
    return notebook
