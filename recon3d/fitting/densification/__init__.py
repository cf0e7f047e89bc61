"""Adding, moving and removing Gaussians during a fit, after gsplat's strategies and with their calling convention."""

from recon3d.fitting.densification.base import DensificationStrategy
from recon3d.fitting.densification.co_pruning import CoPruning
from recon3d.fitting.densification.default import DefaultStrategy
from recon3d.fitting.densification.floaters import FloaterRemoval
from recon3d.fitting.densification.mcmc import MCMCStrategy

__all__ = ["CoPruning", "DefaultStrategy", "DensificationStrategy", "FloaterRemoval", "MCMCStrategy"]
