"""DSVT: Dynamic Sparse Voxel Transformer with Rotated Sets (Wang et al., CVPR 2023), without custom operations.

Space is cut into windows as high as the grid. The voxels of a window, sorted along one axis, are cut into sets of equal
size (within one) that never exceed a limit, and attention works within sets. Layers sort along y and along x in turn,
so that a set's voxels meet others in the next layer, and blocks shift the windows in turn, so that windows meet.

A voxel is in exactly one set, so queries, keys and values are computed once per voxel, before sets are formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.sparse import SparseTensor
from detection.sparse.scatter import scatter_max


@dataclass(frozen=True)
class Windows:
    """How the grid is cut into windows.

    Attributes:
        size: voxels along x and y; along z a window is as high as the grid.
        shift: voxels along x and y by which the first window begins before the grid.
    """

    size: tuple[int, int]
    shift: tuple[int, int]


@dataclass(frozen=True)
class Sets:
    """N voxels as S sets of up to L, each voxel in one set.

    Attributes:
        voxels: [S, L] int64 voxel at each place; 0 where there is none.
        filled: [S, L] bool.
        places: [N] int64 place (set * L + slot) of each voxel.
    """

    voxels: Tensor
    filled: Tensor
    places: Tensor


def window_coordinates(indices: Tensor, shape: tuple[int, int, int], windows: Windows) -> tuple[Tensor, Tensor]:
    """The window of each voxel and where in it the voxel lies.

    Args:
        indices: [N, 4] voxels (batch, z, y, x).
        shape: voxels of the grid along z, y, x.

    Returns:
        [N] int64 numbers of windows, unique within the batch, and [N, 3] int64 x, y, z within the window.
    """
    (size_x, size_y), (shift_x, shift_y) = windows.size, windows.shift
    batch, z, y, x = indices.long().unbind(dim=1)
    x, y = x + shift_x, y + shift_y
    across, along = (shape[2] - 1 + shift_x) // size_x + 1, (shape[1] - 1 + shift_y) // size_y + 1
    window = (batch * along + y // size_y) * across + x // size_x
    return window, torch.stack([x % size_x, y % size_y, z], dim=1)


def partition(window: Tensor, rank: Tensor, limit: int) -> Sets:
    """Cut the voxels of each window, in the order of ``rank``, into as few sets of at most ``limit`` as will hold them.

    With N voxels in a window and S = ceil(N / limit) sets, set j holds the ranks floor((j limit + k) N / (S limit)) for
    k < limit: the ranks from floor(j N / S) up to the next set's first, some of them several times. Here each is there
    once and the places that are left stay empty.

    Args:
        window, rank: [N] int64, the window of each voxel and its rank there (unique, not necessarily consecutive).
    """
    order = (window * (rank.max() + 1 if len(rank) else 1) + rank).argsort()
    _, window_of, counts = window[order].unique_consecutive(return_inverse=True, return_counts=True)
    first = counts.cumsum(dim=0) - counts
    sets = (counts + limit - 1) // limit
    first_set = sets.cumsum(dim=0) - sets
    position = torch.arange(len(order), device=order.device) - first[window_of]
    counts, sets = counts[window_of], sets[window_of]
    within = ((position + 1) * sets - 1) // counts  # the last set that begins at or before this position
    slot = position - within * counts // sets
    place = (first_set[window_of] + within) * limit + slot
    total = int(first_set[-1:].sum() + sets[-1:].sum())
    voxels = torch.zeros(total * limit, dtype=torch.int64, device=order.device)
    voxels[place] = order
    filled = torch.zeros(total * limit, dtype=torch.bool, device=order.device)
    filled[place] = True
    places = torch.empty_like(order)
    places[order] = place
    return Sets(voxels.view(total, limit), filled.view(total, limit), places)


class PositionEmbedding(nn.Module):
    """Learned embedding of a voxel's place within its window: linear layer, normalisation, ReLU, linear layer.

    The first layer is normalised over all places of the window. For these mean and variance are known, as the axes of a
    window are independent and symmetric, so that nothing depends on the data and no running statistics are needed.
    """

    def __init__(self, channels: int, size: tuple[int, int, int], eps: float = 1e-5) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in size]
        self.register_buffer("places", torch.cartesian_prod(*axes).view(-1, 3), persistent=False)
        spread = torch.stack([axis.var(correction=0) for axis in axes])
        self.register_buffer("spread", spread, persistent=False)
        self.first = nn.Parameter(nn.Linear(3, channels).weight.detach())
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.last = nn.Linear(channels, channels)

    def forward(self, coordinates: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings [R, channels] and the row of each voxel [N]; None where each voxel has its own row, in order.

        Whichever are fewer are computed: places of the window or voxels.

        Args:
            coordinates: [N, 3] int64 x, y, z within the window.
        """
        x, y, z = coordinates.unbind(dim=1)
        numbers = (x * self.size[1] + y) * self.size[2] + z
        places = self.get_buffer("places")
        rows = None if len(numbers) < len(places) else numbers
        hidden = F.relu(F.linear(places[numbers] if rows is None else places, self.weight(), self.shift))
        return self.last(hidden), rows

    def weight(self) -> Tensor:
        """[channels, 3] of the first layer, normalised."""
        deviation = (self.first.square() @ self.get_buffer("spread") + self.eps).sqrt()
        return self.first * (self.scale / deviation)[:, None]


class SetAttention(nn.Module):
    """Multi-head attention within sets; queries and keys know their voxel's position, values do not."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads = heads
        self.project = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor, embedding: Tensor, rows: Tensor | None, sets: Sets) -> Tensor:
        """What each voxel gathers from its set.

        Args:
            features: [N, C].
            embedding, rows: what :class:`PositionEmbedding` gives.
        """
        channels = features.shape[1]
        # (features + position) W = features W + position W, of which the second may have few different rows.
        offset = F.linear(embedding, self.project.weight[: 2 * channels])
        projected = self.project(features)
        projected[:, : 2 * channels] += offset if rows is None else offset[rows]
        count, limit = sets.voxels.shape
        gathered = projected[sets.voxels.flatten()].view(count, limit, 3, self.heads, channels // self.heads)
        query, key, value = gathered.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=sets.filled[:, None, None, :])
        return self.output(mixed.transpose(1, 2).reshape(count * limit, channels)[sets.places])


class Layer(nn.Module):
    """Attention within sets and a feed-forward network, each with a residual, and a residual around both."""

    def __init__(self, channels: int, heads: int, feedforward: int, window: tuple[int, int, int]) -> None:
        super().__init__()
        self.position = PositionEmbedding(channels, window)
        self.attention = SetAttention(channels, heads)
        self.feedforward = nn.Sequential(nn.Linear(channels, feedforward), nn.GELU(), nn.Linear(feedforward, channels))
        self.norm_attention, self.norm_feedforward, self.norm = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, features: Tensor, coordinates: Tensor, sets: Sets) -> Tensor:
        """[N, C] from [N, C] and the voxels' x, y, z within their windows [N, 3]."""
        gathered = self.attention(features, *self.position(coordinates), sets)
        result = self.norm_attention(features + gathered)
        result = self.norm_feedforward(result + self.feedforward(result))
        return self.norm(features + result)


class Block(nn.Module):
    """Two layers over the same windows, with sets along y and along x, and a residual around both."""

    def __init__(self, channels: int, heads: int, feedforward: int, window: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(channels, heads, feedforward, window) for _ in range(2))
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor, coordinates: Tensor, rotated: tuple[Sets, Sets]) -> Tensor:
        """[N, C] from [N, C], the voxels' x, y, z within their windows [N, 3], and the sets of either layer."""
        result = features
        for layer, sets in zip(self.layers, rotated, strict=True):
            result = layer(result, coordinates, sets)
        return self.norm(result + features)


class AttentionPooling(nn.Module):
    """The voxels of a larger cell become one: attention whose query is their maximum.

    Keys know where in the cell their voxel is; places without a voxel take no part.

    Args:
        factor: voxels along z, y, x that become one.
    """

    def __init__(self, channels: int, heads: int, factor: tuple[int, int, int]) -> None:
        super().__init__()
        self.factor, self.heads = factor, heads
        self.position = nn.Parameter(torch.empty(math.prod(factor), channels).normal_(std=0.02))
        self.query, self.keys = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """Features of the pooled voxels, in a grid that is ``factor`` times as coarse.

        Raises:
            ValueError: for a grid whose size is no multiple of the factor.
        """
        if any(size % factor for size, factor in zip(voxels.spatial_shape, self.factor, strict=True)):
            raise ValueError(f"a grid of {voxels.spatial_shape} voxels along z, y, x cannot be pooled by {self.factor}")
        depth, height, width = (size // n for size, n in zip(voxels.spatial_shape, self.factor, strict=True))
        batch, z, y, x = voxels.indices.long().unbind(dim=1)
        along_z, along_y, along_x = self.factor
        keys = ((batch * depth + z // along_z) * height + y // along_y) * width + x // along_x
        place = (z % along_z * along_y + y % along_y) * along_x + x % along_x
        keys, cell = keys.unique(return_inverse=True)
        mixed = self._gathered(voxels.features, cell, place, len(keys))
        line, plane = keys // width, keys // (width * height)
        indices = torch.stack([plane // depth, plane % depth, line % height, keys % width], dim=1).int()
        return SparseTensor(mixed, indices, (depth, height, width), voxels.batch_size)

    def _gathered(self, features: Tensor, cell: Tensor, place: Tensor, cells: int) -> Tensor:
        """[cells, C] of features [N, C] in cells [N], at places [N] within them."""
        channels = features.shape[1]
        greatest = scatter_max(features, cell, cells)
        # (features + position) W = features W + position W, of which the second has few different rows.
        key, value = self.keys(features).chunk(2, dim=1)
        key = key + F.linear(self.position, self.keys.weight[:channels])[place]
        weights = (self.query(greatest)[cell] * key).view(-1, self.heads, channels // self.heads).sum(dim=2)
        weights = weights * (channels // self.heads) ** -0.5
        weights = (weights - scatter_max(weights.detach(), cell, cells)[cell]).exp()
        total = weights.new_zeros(cells, self.heads).index_add(0, cell, weights)
        weights = (weights / total[cell]).repeat_interleave(channels // self.heads, dim=1)
        mixed = value.new_zeros(cells, channels).index_add(0, cell, (weights * value).to(value.dtype))
        return self.norm(greatest + self.output(mixed))


class DSVT(nn.Module):
    """The sparse voxel transformer: same voxels out as in, but for the pooling of the voxel variant.

    Args:
        channels: features of a voxel, in and out.
        height: voxels of the grid along z: 1 for pillars.
        heads, feedforward: of each layer.
        blocks: blocks of each stage, e.g. (4,) for pillars, (1, 1, 1, 1) for voxels.
        pooling: voxels that become one between the stages, along z, or along z, y, x: (4, 4, 2) makes 32 levels one.
        set_size: most voxels of a set.
        window: voxels along x and y of the windows of every other block of the first stage. Where a stage pools along
            y and x its windows hold fewer voxels, and cover the same space.
        hybrid: how much larger the windows of the blocks between are; those are shifted by half of ``window``.

    Raises:
        ValueError: where stages and pooling, or pooling and height, do not fit.
    """

    def __init__(
        self,
        channels: int = 192,
        height: int = 1,
        heads: int = 8,
        feedforward: int = 384,
        blocks: Sequence[int] = (4,),
        pooling: Sequence[int | tuple[int, int, int]] = (),
        set_size: int = 36,
        window: tuple[int, int] = (12, 12),
        hybrid: int = 2,
    ) -> None:
        super().__init__()
        if len(pooling) != len(blocks) - 1:
            raise ValueError(f"{len(blocks)} stages need {len(blocks) - 1} pooling factors between them, got {pooling}")
        self.out_channels = channels
        self.height, self.set_size = height, set_size
        self.stages, self.pooling = nn.ModuleList(), nn.ModuleList()
        self.windows: list[tuple[Windows, Windows]] = []
        number = 0
        for stage, count in enumerate(blocks):
            if stage > 0:
                factor = pooling[stage - 1]
                along_z, along_y, along_x = (factor, 1, 1) if isinstance(factor, int) else factor
                if height % along_z or window[0] % along_x or window[1] % along_y:
                    raise ValueError(
                        f"{height} voxels along z in windows of {window} along x, y cannot be pooled by {factor}"
                    )
                self.pooling.append(AttentionPooling(channels, heads, (along_z, along_y, along_x)))
                height, window = height // along_z, (window[0] // along_x, window[1] // along_y)
            larger = (hybrid * window[0], hybrid * window[1])
            self.windows.append((Windows(window, (0, 0)), Windows(larger, (window[0] // 2, window[1] // 2))))
            sizes = [(*self.windows[stage][(number + i) % 2].size, height) for i in range(count)]
            self.stages.append(nn.ModuleList(Block(channels, heads, feedforward, size) for size in sizes))
            number += count

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """Features [N, channels] of the voxels, or of fewer where stages pool.

        Raises:
            ValueError: for a grid of another height.
        """
        if voxels.spatial_shape[0] != self.height:
            raise ValueError(f"the grid has {voxels.spatial_shape[0]} voxels along z, expected {self.height}")
        number = 0
        for stage, blocks in enumerate(self.stages):
            if stage > 0:
                voxels = self.pooling[stage - 1](voxels)
            known: dict[int, tuple[Tensor, tuple[Sets, Sets]]] = {}
            features = voxels.features
            for block in blocks.children():
                which = number % 2
                if which not in known:
                    known[which] = self._rotated_sets(voxels, self.windows[stage][which])
                features = block(features, *known[which])
                number += 1
            voxels = voxels.with_features(features)
        return voxels

    def _rotated_sets(self, voxels: SparseTensor, windows: Windows) -> tuple[Tensor, tuple[Sets, Sets]]:
        """[N, 3] x, y, z within the window, and the sets along y (y is the slowest of the sorted axes) and along x."""
        window, coordinates = window_coordinates(voxels.indices, voxels.spatial_shape, windows)
        x, y, z = coordinates.unbind(dim=1)
        height = voxels.spatial_shape[0]
        along_y, along_x = (y * windows.size[0] + x) * height + z, (x * windows.size[1] + y) * height + z
        return coordinates, (
            partition(window, along_y, self.set_size),
            partition(window, along_x, self.set_size),
        )
