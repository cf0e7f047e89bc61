"""The Lightning module that fits Gaussians to photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import Parameter, ParameterDict
from torch.nn.functional import normalize, softplus
from torch.optim import Optimizer

from datasets.errors import InputError
from recon3d.fitting.data import Batch, SceneData
from recon3d.fitting.densification import CoPruning
from recon3d.fitting.densification.base import DensificationStrategy, edit_gaussians
from recon3d.fitting.fields import beside_one_another
from recon3d.fitting.optimisers import LearningRates, make_optimisers
from recon3d.gaussians import Gaussians
from recon3d.initialise import Initialiser, Start
from recon3d.losses import Loss, Photometric, PriorDepth, Step, Target
from recon3d.render import NEAR, Render, render
from recon3d.splats.splat import Splat
from recon3d.views import TrainingViews

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

_HARMONICS = (0, 3, 8, 15)


def with_sh_degree(gaussians: Gaussians, degree: int) -> Gaussians:
    """The same Gaussians storing harmonics up to ``degree``: further ones are zero, superfluous ones dropped."""
    harmonics = gaussians.shN.new_zeros(len(gaussians), _HARMONICS[degree], 3)
    shared = min(harmonics.shape[1], gaussians.shN.shape[1])
    harmonics[:, :shared] = gaussians.shN[:, :shared]
    return Gaussians.from_parameters(gaussians.parameters() | {"shN": harmonics})


WITHIN_SIGHT = 3  # times the nearest distance that is drawn, at which half of the Gaussians must at least be


class SplatModule(LightningModule):
    """Gaussians under optimisation.

    Every step is a pure function of the parameters, the optimisers' moments, the seed, the step's number and, where
    there is a limit to it, of the time that was gone when it began: ``time_progress`` is its share, and ``haste`` a
    factor on learning rates where it leaves few steps. Noise is drawn from the global generator, seeded anew at each
    step, so that a resumed fit continues bit for bit (on the CPU; gsplat's CUDA kernels add gradients up in no fixed
    order).

    Args:
        initialiser: makes the first Gaussians from the train views.
        losses: terms of the objective, added up; None is the photometric loss alone.
        densification: adds and removes Gaussians (also gsplat's strategies); None keeps the first ones.
        learning_rates: of each parameter.
        sh_degree: highest spherical harmonic, 0 to 3.
        sh_every: steps after which one more degree is used; 0 uses all from the start.
        dropout: share of Gaussians that a step leaves out, growing linearly from 0 to this at the last step, while the
            others' opacity is divided by what remains (Park et al., DropGaussian, 2025).
        sh_dropout: share of Gaussians that a step shows without their higher harmonics, growing likewise, so that what
            two views agree upon stays in the constant one (after ReDI-GS).
        opacity_decay: factor on the opacity of every Gaussian that got a gradient, after each step (after Han et al.,
            Binocular3DGS, 2024, which decays all).
        bound: share of the fit during which each Gaussian stays on the ray of the pixel that it was made from: only
            its depth moves (after Peng et al., SCGaussian, 2024, and Paliwal et al., CoherentGS, 2024). Needs a start
            from pixels, and no densification.
        antialiased: render as Mip-Splatting does.
        background: red, green, blue in 0..1 behind everything; None is the train photos' mean colour. Where the data
            say what the background is, as for objects cut out, that is what counts.
        fields: how many sets of Gaussians are fitted to the photos side by side, each from a seed of its own, and from
            another opinion of a depth prior that has several; the result shows their mean (:class:`Splat`), and is as
            many times as large. Of the strategies only CoPruning goes with it.
        seed: seed of the initialiser and of all noise.
    """

    def __init__(
        self,
        initialiser: Initialiser,
        losses: list[Loss] | None = None,
        densification: DensificationStrategy | None = None,
        learning_rates: LearningRates = LearningRates(),  # noqa: B008 (frozen)
        sh_degree: int = 0,
        sh_every: int = 1000,
        dropout: float = 0.0,
        sh_dropout: float = 0.0,
        opacity_decay: float = 1.0,
        bound: float = 0.0,
        antialiased: bool = False,
        background: tuple[float, float, float] | None = None,
        fields: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, valid, accepted in (
            ("sh_degree", sh_degree, 0 <= sh_degree <= 3, "0, 1, 2 or 3"),
            ("sh_every", sh_every, sh_every >= 0, "0 or more"),
            ("dropout", dropout, 0 <= dropout < 1, "0 or more and less than 1"),
            ("sh_dropout", sh_dropout, 0 <= sh_dropout <= 1, "0 to 1"),
            ("opacity_decay", opacity_decay, 0 < opacity_decay <= 1, "more than 0 and at most 1"),
            ("bound", bound, 0 <= bound <= 1, "0 to 1"),
            ("background", background, all(0 <= c <= 1 for c in background or ()), "three numbers of 0 to 1"),
            ("fields", fields, fields >= 1, "1 or more"),
            ("seed", seed, seed >= 0, "0 or more"),
        ):
            if not valid:
                raise ValueError(f"model.{name} is {value}, expected {accepted}")
        if bound > 0 and densification is not None:
            raise ValueError("model.bound keeps Gaussians on their pixels' rays: take model.densification out")
        if densification is not None and isinstance(densification, CoPruning) != (fields > 1):
            raise ValueError(
                f"model.fields is {fields} and model.densification {type(densification).__name__}: several fields go "
                "with CoPruning or none, and CoPruning only with several fields. Set model.fields to "
                f"{2 if isinstance(densification, CoPruning) else 1}"
            )
        if fields == 1 and any(term.uses_fields for term in losses or ()):
            raise ValueError("a loss of model.losses compares fields, but model.fields is 1: set it to 2")
        self.automatic_optimization = False
        self.initialiser = initialiser
        self.losses = losses if losses is not None else [Photometric()]
        self.densification = densification
        self.learning_rates = learning_rates
        self.sh_degree, self.sh_every = sh_degree, sh_every
        self.dropout, self.sh_dropout, self.opacity_decay = dropout, sh_dropout, opacity_decay
        self.bound, self.antialiased, self.fields = bound, antialiased, fields
        self.chosen_background = background
        self.seed = seed
        self.extent = 1.0
        self.time_progress, self.haste = 0.0, 1.0
        self.params = ParameterDict()
        self.densification_state: dict[str, Any] = {}
        self.prior: list[PriorDepth] = []
        self.origins: Tensor | None = None
        self.background: Tensor
        self.register_buffer("background", torch.zeros(3))

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians of all fields as they are now, attached to the parameters."""
        return Gaussians.from_parameters(dict(self.params.items()))

    @property
    def result(self) -> Splat:
        """What the fit has found so far, detached, in the scene's world."""
        red, green, blue = self.background.tolist()
        fields = [gaussians.detach() for gaussians, _ in self._fields()]
        return Splat.of_fields(fields, (red, green, blue), self.antialiased)

    @property
    def active_sh_degree(self) -> int:
        """Highest spherical harmonic that the next step uses."""
        return self.sh_degree if self.sh_every == 0 else min(self.sh_degree, self.global_step // self.sh_every)

    @property
    def progress(self) -> float:
        """Share of the fit that is done after this step, 0 to 1: of its steps, or of its time where that is more."""
        return max((self.global_step + 1) / self.trainer.max_steps, self.time_progress)

    def setup(self, stage: str) -> None:
        """Make the first Gaussians if nobody did and no checkpoint brings them (Lightning's hook)."""
        if not self.params and self.trainer.ckpt_path is None:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            assert isinstance(data, SceneData)
            self.begin(data.views)

    def begin(self, views: TrainingViews) -> None:
        """Make the first Gaussians.

        Raises:
            InputError: where the initialiser finds none, or does not give the depth or the rays that the fit asks for.
        """
        seeds = range(self.seed * self.fields, (self.seed + 1) * self.fields)
        start, field = beside_one_another(self.initialiser.several(views, seeds))
        if len(start.gaussians) == 0:
            raise InputError(f"{type(self.initialiser).__name__} gave no Gaussians: there is nothing to fit")
        _expect_within_sight(start.gaussians, views)
        first = with_sh_degree(start.gaussians, self.sh_degree).detach()
        for name, value in first.parameters().items():
            self.params[name] = Parameter(value.float().contiguous())
        if any(term.uses_uncertainty for term in self.losses):
            self.params["uncertainty"] = Parameter(torch.zeros(len(first)))
        if any(term.uses_prior for term in self.losses):
            self.prior = self._prior_of(start)
        if self.bound > 0:
            if start.origins is None:
                raise InputError(
                    f"model.bound keeps Gaussians on their pixels' rays, but {type(self.initialiser).__name__} has "
                    "others too. Leave it 0, or choose recon3d.initialise.DenseInitialiser"
                )
            self.origins = start.origins
        chosen = self.chosen_background if views.background is None else None
        self.background.copy_(start.background if chosen is None else torch.tensor(chosen))
        self.extent = float(start.extent)
        if self.densification is not None:
            self.densification_state = self.densification.initialize_state(scene_scale=self.extent)
        if self.fields > 1:
            # There, because what removes Gaussians keeps the state in step with them, and checkpoints bring it back.
            self.densification_state["field"] = field

    def _prior_of(self, start: Start) -> list[PriorDepth]:
        if start.estimates is None:
            using = next(type(term).__name__ for term in self.losses if term.uses_prior)
            raise InputError(
                f"{using} holds renders against a prior's depth, but {type(self.initialiser).__name__} has none. Take "
                "the loss out of model.losses, or choose recon3d.initialise.DenseInitialiser"
            )

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(values, np.float32))

        return [PriorDepth(tensor(one.depth), tensor(one.confidence)) for one in start.estimates]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One Adam per parameter (Lightning's hook)."""
        return list(make_optimisers(dict(self.params.items()), self.learning_rates, self.extent).values())

    @property
    def optimisers(self) -> dict[str, Optimizer]:
        """The raw optimisers by parameter."""
        return dict(zip(self.params, self.trainer.optimizers, strict=True))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """One step on one view (Lightning's hook); returns the detached loss and colour."""
        step, progress = self.global_step, self.progress
        self._seed_noise(step)
        optimisers = self.optimisers
        rates = self.learning_rates.at(self.extent, progress, self.haste)
        for name, optimiser in optimisers.items():
            optimiser.param_groups[0]["lr"] = rates[name]

        fields = self._fields()
        draws = [self._renderer(gaussians, progress) for gaussians, _ in fields]
        loss = self.params["means"].new_zeros(())
        for i, (gaussians, uncertainty) in enumerate(fields):
            others = (*draws[i + 1 :], *draws[:i])
            rendered = self._render(draws[i], uncertainty, batch)
            target = self._target(batch, Step(step, progress, batch.index, self.cameras, draws[i], others))
            loss = sum((term(rendered, target, gaussians) for term in self.losses), loss)
        info = self._info(rendered) | {"cameras": self.cameras}
        if self.densification is not None:
            self.densification.step_pre_backward(self.params, optimisers, self.densification_state, step, info)
        loss.backward()
        self._update(optimisers, progress)
        if self.densification is not None:
            edit_gaussians(
                self.densification, self.params, optimisers, self.densification_state, step, info, rates["means"]
            )
        return {"loss": loss.detach(), "colour": rendered.colour.detach()}

    def _seed_noise(self, step: int) -> None:
        """Make the device's generator a function of the seed and the step."""
        mixed = int(np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0] >> 1)
        # Not torch.manual_seed: it seeds every kind of device, which takes longer than the rest of our Python.
        if self.device.type == "cuda":
            torch.cuda.manual_seed(mixed)
        else:
            torch.default_generator.manual_seed(mixed)

    def _fields(self) -> list[tuple[Gaussians, Tensor | None]]:
        """Each field as it is now, attached to the parameters, and what is uncertain of it."""
        parameters, uncertainty = dict(self.params.items()), self.params.get("uncertainty")
        if self.fields == 1:
            return [(Gaussians.from_parameters(parameters), uncertainty)]
        # They lie one after another: what removes Gaussians keeps their order.
        counts = torch.bincount(self.densification_state["field"], minlength=self.fields).tolist()
        parts = {name: values.split(counts) for name, values in parameters.items()}
        fields = [{name: values[i] for name, values in parts.items()} for i in range(self.fields)]
        return [(Gaussians.from_parameters(field), field.get("uncertainty")) for field in fields]

    def _renderer(self, gaussians: Gaussians, progress: float) -> Callable[..., Render]:
        """render() of one field as this step does it, from any camera: dropout is drawn once."""
        factor = None
        if self.dropout > 0:
            rate = self.dropout * progress
            kept = torch.rand(len(gaussians), device=self.device) >= rate
            factor = kept.float() / (1 - rate)
        if self.sh_dropout > 0 and self.active_sh_degree > 0:
            plain = torch.rand(len(gaussians), 1, 1, device=self.device) < self.sh_dropout * progress
            gaussians = replace(gaussians, shN=gaussians.shN.masked_fill(plain, 0))
        return partial(
            render,
            gaussians,
            sh_degree=self.active_sh_degree,
            background=self.background,
            opacity_factor=factor,
            antialiased=self.antialiased,
        )

    def _render(self, draw: Callable[..., Render], uncertainty: Tensor | None, batch: Batch) -> Render:
        mask = batch.target.mask
        return draw(
            batch.camera,
            features=None if uncertainty is None else softplus(uncertainty)[:, None],
            mask=None if mask is None else mask[None],
            absolute_gradients=getattr(self.densification, "absgrad", False),
        )

    def _target(self, batch: Batch, step: Step) -> Target:
        return replace(batch.target, prior=self.prior[batch.index] if self.prior else None, step=step)

    @staticmethod
    def _info(rendered: Render) -> dict[str, Any]:
        """What gsplat's strategies read about a render."""
        cameras, height, width = rendered.alpha.shape
        return {
            "means2d": rendered.means2d,
            "radii": rendered.radii,
            "width": width,
            "height": height,
            "n_cameras": cameras,
            "gaussian_ids": None,
        }

    def _update(self, optimisers: dict[str, Optimizer], progress: float) -> None:
        """Step all optimisers; Lightning counts one step per wrapped optimiser, so only one goes through it."""
        before = self.params["means"].detach().clone() if progress <= self.bound else None
        opacities = self.params["opacities"]
        decays = None if self.opacity_decay == 1 or opacities.grad is None else opacities.grad != 0
        wrapped = self.optimizers()
        counted = wrapped[0] if isinstance(wrapped, list) else wrapped
        counted.step()
        for optimiser in list(optimisers.values())[1:]:
            optimiser.step()
        for param in self.params.values():
            param.grad = None
        if before is not None:
            self._bind(before)
        if decays is not None:
            with torch.no_grad():
                decayed = torch.sigmoid(opacities) * self.opacity_decay
                opacities.copy_(torch.where(decays, torch.logit(decayed, eps=1e-6), opacities))

    @torch.no_grad()
    def _bind(self, before: Tensor) -> None:
        """Take back the part of the last step that left the rays on which the means were ``before``."""
        assert self.origins is not None
        means, ray = self.params["means"], normalize(before - self.origins, dim=1)
        means.copy_(before + ray * ((means - before) * ray).sum(1, keepdim=True))

    def require_finite(self) -> None:
        """Raise InputError where a parameter became NaN or infinite."""
        finite = torch.ones(len(self.params["means"]), dtype=torch.bool, device=self.device)
        for param in self.params.values():
            finite &= torch.isfinite(param.detach()).flatten(1).all(1) if param.ndim > 1 else torch.isfinite(param)
        if broken := int((~finite).sum()):
            raise InputError(
                f"after step {self.global_step} {broken} of {len(finite)} Gaussians are not finite. Lower "
                "model.learning_rates, or look for a photo or camera that is wrong; the last checkpoint is from before"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the parameters alone do not tell (Lightning's hook); InputError for what must not be kept."""
        self.require_finite()
        prior = [{"depth": one.depth, "confidence": one.confidence} for one in self.prior]
        checkpoint["fit"] = {
            "extent": self.extent,
            "fields": self.fields,
            "densification": dict(self.densification_state),
            "prior": prior,
            "origins": self.origins,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the stored number of Gaussians and the strategy's state (Lightning's hook)."""
        prefix = "params."
        for name, value in checkpoint["state_dict"].items():
            if name.startswith(prefix):
                self.params[name.removeprefix(prefix)] = Parameter(torch.empty_like(value))
        self.extent = checkpoint["fit"]["extent"]
        self.fields = checkpoint["fit"].get("fields", self.fields)  # a budget may have chosen others
        self.densification_state = checkpoint["fit"]["densification"]
        self.prior = [PriorDepth(**one) for one in checkpoint["fit"].get("prior", [])]
        self.origins = checkpoint["fit"].get("origins")

    def on_fit_start(self) -> None:
        """Bring what is no parameter to the device of the parameters (Lightning's hook)."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SceneData)
        self.cameras = data.views.cameras.to(self.device, torch.float32)
        self.prior = [one.to(self.device) for one in self.prior]
        self.origins = None if self.origins is None else self.origins.to(self.device)
        for key, value in self.densification_state.items():
            if isinstance(value, Tensor):
                self.densification_state[key] = value.to(self.device)


def _expect_within_sight(gaussians: Gaussians, views: TrainingViews) -> None:
    """Raise InputError where the first Gaussians lie about as near to the cameras as nothing is drawn any more."""
    means = gaussians.means.detach().cpu()
    nearest = torch.full((len(means),), torch.inf)
    for centre in views.cameras.centres.float():
        nearest = torch.minimum(nearest, (means - centre).norm(dim=1))
    if (distance := float(nearest.median())) < WITHIN_SIGHT * NEAR:
        raise InputError(
            f"what the photos show lies {distance:.2g} units from their cameras, and nothing nearer than {NEAR} is "
            "drawn: scale the poses (and measured depth) up, for instance from kilometres to metres"
        )
