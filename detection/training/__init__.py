"""Training a detector: data, steps, what is shown meanwhile, and the command ``detect3d fit``."""
