"""The color jitter of ops.py compiled by numba: the same operations on each pixel in the same order, so the same bits.

Torch reads and writes all images of a tile once for every operation, and gathers those that are at the same one; here
an image stays in a core's cache until it is done. Without fused multiply-adds, which round differently.
"""

from functools import partial

import numpy as np
from numba import prange

from lookalike.functional.machine_code import compiled

single, zero, one, white = np.float32, np.float32(0), np.float32(1), np.float32(255)


@partial(compiled, threads=True)
def jitter(x, order, factors, rests, turns, luma):
    """In place: the images x (B, C, n), whose operations are order (B, 4); -1 is none of the four.

    factors, rests: (B, 4), by what levels, and what they are blended with, are multiplied in the first three;
    turns: (B,), in sixths of the circle; luma: (3,).
    """
    for row in prange(len(x)):
        one_image(x[row], order[row], factors[row], rests[row], turns[row], luma)


@compiled
def jitter_serially(x, order, factors, rests, turns, luma):
    """The same in one thread."""
    for row in range(len(x)):
        one_image(x[row], order[row], factors[row], rests[row], turns[row], luma)


@compiled
def one_image(x, order, factors, rests, turn, luma):
    for number in order:
        if number == 0:
            brightness(x, factors[0])
        elif number == 1:
            contrast(x, factors[1], rests[1], luma)
        elif number == 2:
            saturation(x, factors[2], single(rests[2]), luma)
        elif number == 3:
            hue(x, turn)


@compiled
def clamped(level):
    return min(max(level, zero), white)


@compiled
def gray(x, i, luma):
    return x[0, i] * luma[0] + x[1, i] * luma[1] + x[2, i] * luma[2]


@compiled
def brightness(x, factor):
    channels, pixels = x.shape
    for c in range(channels):
        for i in range(pixels):
            x[c, i] = clamped(x[c, i] * factor)


@compiled
def contrast(x, factor, rest, luma):
    channels, pixels = x.shape
    total = np.int64(0)
    for i in range(pixels):  # of sixteenths: exact in any order
        level = gray(x, i, luma) if channels == 3 else x[0, i]
        total += np.int64(np.rint(level * single(16)))
    shift = single(rest * (total / (16 * pixels)))
    for c in range(channels):
        for i in range(pixels):
            x[c, i] = clamped(x[c, i] * factor + shift)


@compiled
def saturation(x, factor, rest, luma):
    channels, pixels = x.shape
    if channels == 3:
        for i in range(pixels):
            level = gray(x, i, luma) * rest
            for c in range(3):
                x[c, i] = clamped(x[c, i] * factor + level)


@compiled
def hue(x, turn):
    channels, pixels = x.shape
    if channels == 3:
        for i in range(pixels):
            red, green, blue = x[0, i], x[1, i], x[2, i]
            largest, smallest = max(max(red, green), blue), min(min(red, green), blue)
            chroma = largest - smallest
            h = np.copysign(green + blue - red + chroma - smallest, green - blue)
            h = h / max(chroma, single(1e-6)) + turn
            x[0, i] = largest - near(h) * chroma
            x[1, i] = largest - near(h - single(2)) * chroma
            x[2, i] = largest - near(h + single(2)) * chroma


@compiled
def near(difference):
    """How far a channel is from full chroma, by its distance on the circle of the hue."""
    distance = abs(abs(abs(difference) - single(3)) - single(3))
    return min(max(distance - one, zero), one)
