"""Elementary functions of vectors, to a few units in the last place of float32."""

from __future__ import annotations

from recon3d.rasteriser.simd import exponent_scaled, exponent_split, floor, inlined, maximum, minimum


@inlined
def exp2(x):
    """2 ** x, with x clamped to -126 .. 126."""
    x = minimum(maximum(x, -126.0), 126.0)
    whole = floor(x + 0.5)
    f = x - whole
    high = (0.000153458115 * f + 0.00133999312) * f + 0.00961848896
    low = ((high * f + 0.0555032878) * f + 0.240226469) * f + 0.693147206
    return exponent_scaled(low * f + 1.0, whole)


@inlined
def exp(x):
    """e ** x."""
    return exp2(x * 1.4426950408889634)


@inlined
def log2(x):
    """Binary logarithm of positive normal numbers."""
    mantissa, exponent = exponent_split(x)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    t = s * s
    series = ((t * 0.32059889 + 0.41219858) * t + 0.57707802) * t + 0.96179670
    return exponent + (series * t + 2.88539008) * s


@inlined
def sigmoid(x):
    """1 / (1 + e ** -x)."""
    return 1.0 / (1.0 + exp(-x))
