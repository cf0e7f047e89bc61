"""Sizes and record layout that the kernels share. Constants of this file are compiled into the cached kernels."""

# A tile is one unit of work. Its pixels' state must fit the first-level cache, of which two threads may share one.
TILE_WIDTH, TILE_HEIGHT = 32, 16
BLOCK = 4  # pixels a side; a block is one vector
BLOCKS_ACROSS, BLOCKS_DOWN = TILE_WIDTH // BLOCK, TILE_HEIGHT // BLOCK
BLOCKS = BLOCKS_ACROSS * BLOCKS_DOWN  # of a tile: the bits of one integer
CHUNK = 2048  # Gaussians drawn at a time by one thread

# A projected Gaussian is one cache line of 16 float32. With e = k0 dx + k1 dy and d = k2 dy for the offset (dx, dy) of
# a pixel from the centre, alpha = 2 ** (8 (log_opacity - e e - d d)): squares of a triangular form, so that long thin
# Gaussians lose no precision to cancellation.
RECORD = 16
CENTRE_X, CENTRE_Y = 0, 1  # pixels
K0, K1, K2 = 2, 3, 4
LOG_OPACITY = 5  # log2(opacity) / 8
CHANNELS = 6  # red, green, blue, depth: four composited channels
EXTENT_X, EXTENT_Y = 10, 11  # half size in pixels of the box around alpha >= 1/255

# What the backward pass over pixels leaves per (Gaussian, tile), also a cache line: sums over pixels, with
# g = dLoss / dlog(alpha).
MOMENTS = 16
G, G_E, G_D, G_EE, G_ED, G_DD = range(6)
V_CHANNELS = 6  # gradient of the four channels
ABS_X, ABS_Y = 10, 11  # sums of the absolute gradient with respect to the centre

ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
BLUR = 0.3  # pixel^2 added to the screen covariance
