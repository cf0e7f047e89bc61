"""Fitting Gaussians to photos: the Lightning module, its data, densification, checkpoints and the command."""
