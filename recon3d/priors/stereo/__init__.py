"""What :mod:`recon3d.priors.multi_view_stereo` is built from: plane sweep, semi-global aggregation, PatchMatch.

Geometry everywhere is a plane per pixel, held as the inverse depth at the pixel and its gradient in the image: inverse
depth is linear in the image along a plane, so the homography that a plane induces between two views is
``A + b m^T``, with m the three coefficients of the inverse depth (see :mod:`recon3d.priors.epipolar` for A and b).
"""
