"""Which views train and which test, as the field's protocols state it.

Indices count the views in the reader's order: sorted by file name, Blender's train file before its test file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from datasets.errors import InputError

SplitName = Literal["llff", "dtu", "blender8", "every_nth"]
Split = tuple[tuple[int, ...], tuple[int, ...]]

DTU_TRAIN = (25, 22, 28, 40, 44, 48, 0, 8, 13)
DTU_TEST = (1, 2, 9, 10, 11, 12, 14, 15, 23, 24, 26, 27, *range(29, 36), *range(41, 44), *range(45, 48))
BLENDER8_TRAIN = (2, 16, 26, 55, 73, 76, 86, 93)  # as the public code has it; papers print another order and number


def spread(pool: Sequence[int], views: int | None) -> tuple[int, ...]:
    """``views`` members of ``pool``, evenly spaced, ends included; all of it for None.

    Positions are rounded half to even, as the protocol's reference code does.

    Raises:
        InputError: where the pool is too small.
    """
    if views is None:
        return tuple(pool)
    if not 1 <= views <= len(pool):
        raise InputError(f"{views} training views were asked for, of {len(pool)} that may train")
    return tuple(pool[int(position)] for position in np.round(np.linspace(0, len(pool) - 1, views)))


def every_nth(count: int, views: int | None, nth: int = 8) -> Split:
    """Every ``nth`` view tests, beginning with the first; ``views`` of the others train, evenly spread.

    With nth = 8 this is LLFF's rule (RegNeRF's protocol, Niemeyer et al., 2022), also used on Mip-NeRF 360.

    Raises:
        InputError: for nth below 2, or where too few views are left to train.
    """
    if nth < 2:
        raise InputError(f"every {nth}th view would test and none would train: choose 2 or more")
    test = tuple(range(0, count, nth))
    return spread([i for i in range(count) if i % nth], views), test


def dtu(count: int, views: int | None) -> Split:
    """pixelNeRF's split of a DTU scan's 49 views (Yu et al., 2021): the first ``views`` (at most 9) of its list train.

    Raises:
        InputError: where the scan has another number of views, or more than 9 are to train.
    """
    if count != 49:
        raise InputError(f"the DTU split is for the 49 views of a scan; this scene has {count}")
    if views is not None and not 1 <= views <= len(DTU_TRAIN):
        raise InputError(f"the DTU split trains on 1 to {len(DTU_TRAIN)} views, not {views}")
    return DTU_TRAIN[:views], DTU_TEST


def blender8(train: Sequence[tuple[int, str]], test: Sequence[tuple[int, str]], views: int | None) -> Split:
    """The 8-view protocol on NeRF's synthetic scenes (DietNeRF, Jain et al., 2021): 8 fixed views, every 8th tests.

    Args:
        train, test: (index, file stem such as "r_26") of the views of transforms_train.json and _test.json.
        views: 8 or None.

    Raises:
        InputError: where one of the eight is absent, nothing is left to test, or ``views`` is another number.
    """
    if views not in (None, 8):
        raise InputError(f"the blender8 split trains on 8 views, not {views}")
    numbered = {_frame_number(stem): index for index, stem in train}
    if missing := [f"r_{n}" for n in BLENDER8_TRAIN if n not in numbered]:
        raise InputError(f"the blender8 split needs train views that this scene lacks: {', '.join(missing)}")
    chosen = tuple(index for index, stem in test if (n := _frame_number(stem)) is not None and n % 8 == 0)
    if not chosen:
        raise InputError("the blender8 split tests every 8th view of transforms_test.json, and none was found")
    return tuple(numbered[n] for n in BLENDER8_TRAIN), chosen


def _frame_number(stem: str) -> int | None:
    found = re.fullmatch(r"\D*(\d{1,9})", stem)
    return int(found[1]) if found else None


def expect_split_name(name: str) -> None:
    """Raise InputError, listing what is accepted, for an unknown split."""
    if name not in get_args(SplitName):
        raise InputError(f"unknown split {name!r}: choose one of {', '.join(get_args(SplitName))}")
