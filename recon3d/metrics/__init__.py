"""How close a render is to the photo: PSNR, SSIM, LPIPS, and the sparse-view papers' average of the three."""

from recon3d.metrics.images import avge, composite, psnr, ssim, ssim_map

__all__ = ["avge", "composite", "psnr", "ssim", "ssim_map"]
