"""The demo's picture: digits as the model saw them, what it read, and how sure it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS = 6
CARD = (150, 208)
GAP = 18
MARGIN = 36
DIGIT = 112
PAPER, INK = (255, 255, 255), (24, 33, 60)
BACKGROUND, MUTED, TRACK = (241, 243, 248), (98, 108, 132), (226, 230, 239)
RIGHT, WRONG = (30, 142, 96), (205, 60, 60)


@dataclass(frozen=True, slots=True)
class Reading:
    """One digit: image (8, 8) in 0..1, what it is, what was read and with what probability."""

    image: np.ndarray
    label: int
    read: int
    probability: float


def draw(shown: Sequence[Reading], unsure: Sequence[Reading], summary: str) -> Image.Image:
    """Cards of all readings in rows, those the model was least sure of under a heading of their own."""
    rows = _rows(len(shown)) + _rows(len(unsure))
    width = 2 * MARGIN + COLUMNS * CARD[0] + (COLUMNS - 1) * GAP
    picture = Image.new("RGB", (width, 2 * MARGIN + 84 + 52 + rows * (CARD[1] + GAP) - GAP), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN - 6), "tilewise demo", INK, ImageFont.load_default(30))
    pen.text((MARGIN, MARGIN + 36), summary, MUTED, ImageFont.load_default(19))
    top = _cards(picture, pen, shown, MARGIN + 84)
    pen.text((MARGIN, top + 8), "and those it was least sure of", MUTED, ImageFont.load_default(19))
    _cards(picture, pen, unsure, top + 52)
    return picture


def _rows(count: int) -> int:
    return -(-count // COLUMNS)


def _cards(picture: Image.Image, pen: ImageDraw.ImageDraw, readings: Sequence[Reading], top: int) -> int:
    """Draw the readings from `top` down; where the next thing may begin."""
    for i, reading in enumerate(readings):
        x = MARGIN + i % COLUMNS * (CARD[0] + GAP)
        y = top + i // COLUMNS * (CARD[1] + GAP)
        _card(picture, pen, reading, x, y)
    return top + _rows(len(readings)) * (CARD[1] + GAP)


def _card(picture: Image.Image, pen: ImageDraw.ImageDraw, reading: Reading, x: int, y: int) -> None:
    color = RIGHT if reading.read == reading.label else WRONG
    pen.rounded_rectangle((x, y, x + CARD[0] - 1, y + CARD[1] - 1), 14, PAPER)
    left = x + (CARD[0] - DIGIT) // 2
    picture.paste(_digit(reading.image), (left, y + 14))
    base = y + DIGIT + 56
    pen.text((left, base), str(reading.read), color, ImageFont.load_default(34), anchor="ls")
    share = f"{100 * reading.probability:.1f} %"
    pen.text((left + DIGIT, base), share, INK, ImageFont.load_default(17), anchor="rs")
    if reading.read != reading.label:
        pen.text((left + 28, base), f"is {reading.label}", color, ImageFont.load_default(15), anchor="ls")
    _bar(pen, left, base + 14, reading.probability, color)


def _digit(image: np.ndarray) -> Image.Image:
    """The 8x8 pixels, ink on paper."""
    shade = np.asarray(image, np.float32)[..., None]
    pixels = np.array(PAPER) * (1 - shade) + np.array(INK) * shade
    return Image.fromarray(pixels.round().astype(np.uint8)).resize((DIGIT, DIGIT), Image.Resampling.NEAREST)


def _bar(pen: ImageDraw.ImageDraw, x: int, y: int, share: float, color: tuple[int, int, int]) -> None:
    pen.rounded_rectangle((x, y, x + DIGIT, y + 8), 4, TRACK)
    pen.rounded_rectangle((x, y, x + max(8, round(share * DIGIT)), y + 8), 4, color)
