"""The CPU rasteriser: differentiable Gaussian splatting with numba on explicit vectors and own threads."""

from recon3d.rasteriser.pool import set_threads, thread_count, threads

__all__ = ["set_threads", "thread_count", "threads"]
