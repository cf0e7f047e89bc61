"""The first Gaussians of a fit whose time is limited: the best depth and as many fields as the time allows."""

from __future__ import annotations

import torch

from recon3d.fitting.affordable_prior import AffordablePrior
from recon3d.fitting.budget import MORE_FIELDS, PRIOR_SHARE, WRITING, Budget, Clock
from recon3d.fitting.data import SceneData
from recon3d.fitting.module import SplatModule
from recon3d.initialise import DenseInitialiser
from recon3d.render import render

ENOUGH = 0.7  # of the steps: a quarter fewer cost .03 dB on fern, another field gives .05 to .2
SAFE = 0.75  # of the time, for all steps of one field: fewer Gaussians cost less than steps that are missing
# Of a whole step, with loss and optimisers, to the first render with its gradients: on the average over a fit, in which
# dropout and opacities that part make renders quicker (42 ms to 54 on fern).
A_STEP = 0.8
TRIES = 4  # renders, the quickest of which counts: the first loads kernels, others are disturbed


def begin_within(
    module: SplatModule, data: SceneData, budget: Budget, steps: int, device: torch.device
) -> dict[str, float]:
    """Make the first Gaussians of ``module``.

    Only a start from a depth prior adapts. There are as many fields as the time allows most of ``steps`` with, at most
    :data:`MORE_FIELDS` or as many as the configuration says. Where it does not safely allow all of them with a single
    one, that has as few Gaussians as further fields have.

    Args:
        module: without Gaussians so far, on the CPU.
        data: its photos.
        budget: the time for everything.
        steps: how many the configuration asks for.
        device: where the steps will be taken.

    Returns:
        What was decided, for the record: scale of the photos for the prior, the seconds it took, the fields, and of how
        many pixels the first one is.
    """
    initialiser = module.initialiser
    if not isinstance(initialiser, DenseInitialiser):
        module.begin(data.views)
        return {}
    free = module.densification is None and not any(term.uses_fields for term in module.losses)
    fields = max(module.fields, MORE_FIELDS) if free else module.fields
    prior = AffordablePrior(initialiser.prior, PRIOR_SHARE * budget.left, budget.clock, fields)
    initialiser.prior = prior
    if free:
        module.fields = 1
    began = budget.clock()
    module.begin(data.views)
    of_start = max(budget.clock() - began - prior.took, 0)
    if free:
        begun = 1, initialiser.budget
        of_one, left = steps * seconds_of_step(module, data, budget.clock, device), budget.left - WRITING
        while fields > 1 and ENOUGH * fields * of_one + (fields - 1) * of_start > left:
            fields -= 1
        if of_one > SAFE * left:
            initialiser.budget = max(round(initialiser.further * initialiser.budget), 1)
        if (fields, initialiser.budget) != begun:
            module.fields = fields
            module.begin(data.views)
    initialiser.prior = prior.prior  # and with it goes the depth that was found
    facts = {"prior_scale": prior.scale, "prior_seconds": round(prior.took, 2)}
    return facts | {"fields": module.fields, "pixels": initialiser.budget}


def seconds_of_step(module: SplatModule, data: SceneData, clock: Clock, device: torch.device) -> float:
    """About how long a step takes on ``device``, over all of a fit."""
    batch, background = data.batch(0, device), module.background.to(device)
    took = []
    for _ in range(TRIES):
        gaussians = module.gaussians.to(device)
        began = clock()
        render(gaussians, batch.camera, background=background).colour.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(clock() - began)
    module.zero_grad(set_to_none=True)
    return A_STEP * min(took)
