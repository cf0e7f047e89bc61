"""The still life put together: a set table before a papered wall."""

from __future__ import annotations

import numpy as np

from datasets.scenes.builtin import furniture, thin_things
from datasets.scenes.builtin.tracer import Part


def furnish(seed: int, detail: float) -> list[Part]:
    """Every mesh with its material.

    Args:
        seed: of the painted patterns and of the flowers' arrangement.
        detail: 1 for pictures 480 wide; below, triangles are fewer and larger.
    """
    rng = np.random.default_rng(seed)

    def count(wanted: int, least: int = 4) -> int:
        return max(least, round(wanted * detail))

    things = (
        furniture.walls,
        furniture.table,
        furniture.books,
        thin_things.vase,
        furniture.teapot,
        furniture.cup,
        thin_things.basket,
        thin_things.cage,
        furniture.lamp,
        furniture.picture,
        furniture.small_things,
    )
    return [part for thing in things for part in thing(rng, count)]
