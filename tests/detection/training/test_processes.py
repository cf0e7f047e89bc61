"""Two training processes give the gradients of one process with the joint batch."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import yaml
from torch import nn
from toy import CONFIG, ToyClouds

from datasets.errors import InputError
from datasets.pointclouds.types import PointCloudSample
from detection.channels import select_channels
from detection.detector import Detector
from detection.normalisation import BatchNorm1d
from detection.trained import build
from detection.training.data import Needed
from detection.training.loader import collate, order
from detection.training.processes import JointBatchNorm, join_batch_norms

FEATURES = {"power": 100.0}


def detector() -> Detector:
    torch.manual_seed(3)
    made: Detector = build(Detector, yaml.safe_load(CONFIG)["model"]["detector"], "toy")
    return made.train()


def gradients(model: Detector, numbers: list[int]) -> dict[str, torch.Tensor]:
    clouds = ToyClouds()
    model.loss(collate([clouds[i] for i in numbers], FEATURES))["loss"].backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = detector()
    join_batch_norms(model)
    # One process gets two boxes and the other three, so that what normalises the loss matters.
    found = gradients(model, [[0, 2], [1, 4]][rank])
    for value in found.values():
        dist.all_reduce(value)
        value /= 2  # as DistributedDataParallel averages them
    state = dict(model.state_dict())
    torch.save((found, state), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def normalised() -> BatchNorm1d:
    """With statistics of batches before."""
    norm = BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([2.0, -1]))
    norm.running_var.copy_(torch.tensor([4.0, 9]))
    return norm


FEW = torch.tensor([[4.0, -5], [1, 3]])


def test_two_processes_have_the_gradients_of_the_joint_batch(tmp_path: Path) -> None:
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    joint = detector()
    wanted = gradients(joint, [0, 2, 1, 4])
    for rank in range(2):
        found, state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == wanted.keys()
        largest = max(float(value.norm()) for value in wanted.values())
        for name, value in wanted.items():
            # A bias before a normalisation has no gradient but rounding.
            assert float((found[name] - value).norm()) < 1e-3 * float(value.norm()) + 1e-6 * largest, name
        assert state.keys() == joint.state_dict().keys()
        for name in ("encoder.norms.0.running_mean", "encoder.norms.0.running_var", "neck.ups.0.1.running_var"):
            torch.testing.assert_close(state[name], joint.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_without_sharing_the_gradients_differ() -> None:
    """The comparison above can fail: each half alone, averaged, is something else."""
    wanted = gradients(detector(), [0, 2, 1, 4])
    halves = [gradients(detector(), numbers) for numbers in ([0, 2], [1, 4])]
    name = "head.shared.0.weight"
    mean = (halves[0][name] + halves[1][name]) / 2
    assert float((mean - wanted[name]).abs().max()) > 1e-2 * float(wanted[name].abs().max())


def test_joint_batch_norm_in_one_process_is_torchs(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        for norm, shape in ((nn.BatchNorm1d(4), (9, 4)), (nn.BatchNorm2d(4, eps=1e-3, momentum=0.01), (2, 4, 5, 3))):
            ours = JointBatchNorm(copy.deepcopy(norm))
            one, other = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) for _ in range(2))
            one.requires_grad_(), other.requires_grad_()
            first, second = norm(one), ours(other)
            torch.testing.assert_close(second, first)
            (first**3).sum().backward()
            (second**3).sum().backward()
            torch.testing.assert_close(other.grad, one.grad, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(ours.weight.grad, norm.weight.grad)
            torch.testing.assert_close(dict(ours.named_buffers()), dict(norm.named_buffers()))
            torch.testing.assert_close(ours.eval()(other), norm.eval()(one))
    finally:
        dist.destroy_process_group()


def few_rows_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    kept = []
    for rows in (0, 1, 2):
        norm = JointBatchNorm(normalised())
        features = FEW[:rows].tensor_split(2)[rank].clone().requires_grad_()
        found = norm(features)
        (found**3).sum().backward()
        kept.append((found.detach(), features.grad, dict(norm.named_buffers())))
    torch.save(kept, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_few_rows_among_two_processes_are_as_in_one(tmp_path: Path) -> None:
    multiprocessing.spawn(few_rows_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for rows in (0, 1, 2):
        norm, features = normalised(), FEW[:rows].clone().requires_grad_()
        found = norm(features) if rows else features
        (found**3).sum().backward()
        torch.testing.assert_close(torch.cat([first[rows][0], second[rows][0]]), found.detach())
        torch.testing.assert_close(torch.cat([first[rows][1], second[rows][1]]), features.grad)
        for name, value in norm.named_buffers():
            for _, _, buffers in (first[rows], second[rows]):
                torch.testing.assert_close(buffers[name], value)


def test_order_shows_every_sample_in_every_epoch() -> None:
    first = order(0, 10, 4, seed=5)
    assert first.shape == (3, 4)
    assert set(first.flatten().tolist()) == set(range(10))
    assert (order(1, 10, 4, seed=5) != first).any()
    assert (order(0, 10, 4, seed=5) == first).all()
    assert order(0, 2, 8, seed=0).shape == (1, 8)


def test_channels_are_chosen_and_divided() -> None:
    sample = ToyClouds()[0]
    chosen = select_channels(sample, FEATURES)
    torch.testing.assert_close(chosen.points[:, 3], sample.points[:, 3] / 100)
    assert select_channels(sample, {}).channels == ("x", "y", "z")
    assert select_channels(sample, None) is sample


def test_doppler_over_ground_is_made_where_files_lack_it() -> None:
    xyz = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) * 10 + 3
    rates = -7 * xyz[:, :1] / xyz.norm(dim=1, keepdim=True)  # a street, seen at 7 m/s
    rates[0] += 4
    points = torch.cat([xyz, torch.ones(40, 1), rates], dim=1)
    sample = PointCloudSample("0", points, ("x", "y", "z", "power", "doppler"), ("Car",))
    chosen = select_channels(sample, {"power": 10, "doppler_over_ground": 4})
    assert chosen.channels == ("x", "y", "z", "power", "doppler_over_ground")
    torch.testing.assert_close(chosen.points[:, 4], torch.tensor([1.0] + [0.0] * 39), atol=0.02, rtol=0)
    torch.testing.assert_close(
        select_channels(chosen, {"doppler_over_ground": 2}).points[:, 3], chosen.points[:, 4] / 2
    )
    with pytest.raises(InputError, match="no channel 'doppler_over_ground'"):
        select_channels(ToyClouds()[0], {"doppler_over_ground": 4})


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_training_keeps_what_it_needs(in_memory: bool) -> None:
    class Counted(ToyClouds):
        read = 0

        def __getitem__(self, index: int) -> PointCloudSample:
            self.read += 1
            return super().__getitem__(index)

    samples = Counted(2)
    needed = Needed(samples, {}, in_memory)
    seen = [needed[index] for index in (0, 1, 1, 0)]
    assert len(needed) == 2
    assert samples.read == (2 if in_memory else 4)
    assert torch.equal(seen[0].points, samples[0].points[:, :3])
    assert torch.equal(seen[0].points, seen[3].points)
    power = Needed(samples, FEATURES, in_memory)[0].points[:, 3]
    assert torch.equal(power, samples[0].points[:, 3]), "numbers are divided once, when batches are made"
