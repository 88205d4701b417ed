"""Small pictures of plain figures, drawn in integers: the same bytes everywhere."""

import numpy as np
from jaxtyping import Bool, Int

from tasks.builders import Arrays, Source

COUNT = 4_000
SIZE = 12  # pixels a side
FIGURES = ("disc", "ring", "square", "frame", "plus", "diagonal cross", "triangle", "bar")
_SEED = 20_171
_NOISE = 24  # largest change of a pixel


def _figures(
    dx: Int[np.ndarray, "n 1 size"],
    dy: Int[np.ndarray, "n size 1"],
    radius: Int[np.ndarray, "n 1 1"],
) -> Bool[np.ndarray, "figures n size size"]:
    """Which pixels each figure covers, from their distances to its centre, in order of FIGURES."""
    around = dx * dx + dy * dy
    farthest = np.maximum(abs(dx), abs(dy))
    square = farthest <= radius
    return np.stack(
        [
            around <= radius**2,
            (around <= radius**2) & (around > (radius - 1) ** 2),
            square,
            farthest == radius,
            square & ((dx == 0) | (dy == 0)),
            square & (abs(dx) == abs(dy)),
            square & (2 * abs(dx) <= dy + radius),
            square & (dy >= 0) & (dy <= 1),
        ]
    )


def generate() -> Arrays:
    """image: uint8 (COUNT, SIZE, SIZE). label: the index in FIGURES.

    Centre, radius (2 .. 4 pixels), brightness (128 .. 255 on 0 .. 63) and noise are uniform.
    """
    # The raw stream of a bit generator is fixed for all time; the distributions over it are not.
    raw = np.random.PCG64(_SEED).random_raw(COUNT * (6 + SIZE * SIZE)).reshape(COUNT, -1)
    draws = (raw >> np.uint64(33)).astype(np.int64)
    label = draws[:, 0] % len(FIGURES)
    row, column, radius, bright, dark = (
        low + draws[:, i + 1] % count for i, (low, count) in enumerate(_RANGES)
    )
    pixels = np.arange(SIZE)
    dx = pixels[None, None, :] - column[:, None, None]
    dy = pixels[None, :, None] - row[:, None, None]
    covered = _figures(dx, dy, radius[:, None, None])[label, np.arange(COUNT)]
    image = np.where(covered, bright[:, None, None], dark[:, None, None])
    image += draws[:, 6:].reshape(-1, SIZE, SIZE) % (2 * _NOISE + 1) - _NOISE
    return {"image": image.clip(0, 255).astype(np.uint8), "label": label}


# lowest value and number of values: centre row, centre column, radius, brightness, background
_RANGES = ((4, 4), (4, 4), (2, 3), (128, 128), (0, 64))

SOURCE = Source(
    "shapes",
    "1.0.0",
    "4,000 pictures of 12x12 pixels of one of eight figures: " + ", ".join(FIGURES) + ".",
    (("image", ((SIZE, SIZE), "uint8")),),
    generate,
    classes=len(FIGURES),
)
