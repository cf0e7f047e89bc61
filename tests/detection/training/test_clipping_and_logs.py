"""What settings of the trainer do to a training of a detector: gradient clipping and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.optim import Optimizer

from detection.training.command import fit
from detection.training.module import DetectorModule

Arguments = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("precision", "algorithm", "limit"),
    [("32-true", "norm", 0.5), ("32-true", "value", 0.1), ("bf16-mixed", "norm", 0.5)],
)
def test_gradients_are_clipped(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, algorithm: str, limit: float
) -> None:
    whole: list[Tensor] = []

    def keep(module: DetectorModule, optimizer: Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        whole.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))

    monkeypatch.setattr(DetectorModule, "on_before_optimizer_step", keep)  # which comes before the clipping
    run = tmp_path / "run"
    options = [f"precision={precision}", f"gradient_clip_algorithm={algorithm}", f"gradient_clip_val={limit}"]
    fit(arguments(run, *(f"--trainer.{option}" for option in options), "--time_limit=0"))
    (gradient,) = whole
    expected = gradient.clamp(-limit, limit) if algorithm == "value" else gradient * (limit / gradient.norm())
    assert expected.norm() < 0.5 * gradient.norm()
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    # After one step AdamW's first moment is 1 - 0.95 of the gradient that it was given.
    given = torch.cat([state[number]["exp_avg"].flatten() for number in sorted(state)]) / (1 - 0.95)
    torch.testing.assert_close(given, expected)


def test_tensorboard_shows_what_the_history_holds(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run, "--trainer.logger=true", "--trainer.max_epochs=1", "--previews.score_every=1"))
    events = EventAccumulator(str(run / "logs")).Reload()
    shown = {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}
    expected: dict[tuple[str, int], float] = {}
    for record in json.loads((run / "history.json").read_text()):
        step, _ = record.pop("step"), record.pop("seconds")
        expected |= {(f"fit/{name.replace(' ', '_')}", step): value for name, value in record.items()}
    assert {("fit/loss", 3), ("fit/learning_rate", 3), ("fit/Car_bev_0.1_all", 3)} <= expected.keys()
    assert shown == pytest.approx(expected)
