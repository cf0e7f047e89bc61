"""Whether points were read with fewer channels than they have, so that rows of several kinds take turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 5  # turns: eight channels read as four make two, five read as four make five
FEWEST = 100  # points of each turn from which on their means tell anything
LEAST = 0.3  # metres of x, y or z that are not told from less
# Rightly read points of LiDAR and radar differ by a factor of up to 1.4, of beams that look up and down in turn by
# up to 6, wrongly read ones by 12 and more.
APART = 8.0


def turns(clouds: Sequence[Tensor]) -> int:
    """How many kinds of rows take turns: 1 for points that were read rightly, 2 where 8 channels were read as 4.

    Neighbouring rows of a sweep hold neighbouring points, so that every second, third, ... of them lie about as far
    from the sensor along each axis; other channels than x, y and z do not.

    Args:
        clouds: points [N, C] in the order of their files.
    """
    for count in range(2, MOST + 1):
        rows = [torch.cat([cloud[turn::count, :3] for cloud in clouds]).double() for turn in range(count)]
        rows = [turn[(turn != 0).any(dim=1)] for turn in rows]  # what sent nothing back may stand there as zeros
        if min(map(len, rows)) < FEWEST:
            break
        sizes = torch.stack([turn.abs().mean(dim=0) for turn in rows])
        if float((sizes.amax(dim=0) / sizes.amin(dim=0).clamp(min=LEAST)).max()) > APART:
            return count
    return 1
