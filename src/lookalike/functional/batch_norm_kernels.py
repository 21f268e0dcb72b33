"""BatchNorm of bf16 maps on a CPU, compiled by numba: each pass over the memory once, in all threads.

Torch's own kernel reads a map twice for its statistics and leaves the vector unit half empty below 32 channels; as a
fifth of a training step on a CPU that is worth a compiler, which numba brings along (`pip install 'lookalike[cpu]'`).
Arrays are memory of channels_last maps: (G, n, L) for G blocks of n rows of L = k * C numbers, k pixels in a row; bf16
as its 16 bits. Sums are taken in float32 over a few rows, and in float64 beyond. Work is cut into the same parts
whatever the number of threads, so that results do not depend on it.
"""

from functools import partial

import numpy as np
from numba import prange

from lookalike.functional.machine_code import compiled

PARTS = 16  # of all blocks together, or more
CHUNK = 16384  # numbers that are added up in float32

bits, single, half = np.uint32, np.float32, np.uint16
serial, in_threads = (partial(compiled, threads=threads, fastmath={"contract"}) for threads in (False, True))


@serial
def forward(x, y, weight, bias, eps, low, rate, running_mean, running_var, mean, inverse, scale, shift):
    """y = max(BatchNorm(x), low) for each block, whose mean, 1 / std, scale and shift it tells: (G, L), k times (C,).

    running_mean, running_var: (C,), moved towards the average of the blocks' own.
    """
    means, spreads = parts_of(x), parts_of(x)
    moments(x, means, spreads)
    join_moments(means, spreads, x.shape[1], eps, rate, running_mean, running_var, mean, inverse)
    channels = len(weight)
    for group in range(len(mean)):
        for start in range(0, mean.shape[1], channels):
            for c in range(channels):
                scale[group, start + c] = weight[c] * inverse[group, start + c]
                shift[group, start + c] = bias[c] - mean[group, start + c] * scale[group, start + c]
    scaled(x, scale, shift, single(low), y)


@serial
def backward(x, dy, dx, low, mean, inverse, scale, shift, d_weight, d_bias):
    """dx, and the gradients of weight and bias, added up over the blocks."""
    sums, products = parts_of(x), parts_of(x)
    slopes(x, dy, mean, scale, shift, single(low), sums, products)
    by_x, constant = np.empty_like(scale), np.empty_like(scale)
    groups, width = scale.shape
    channels = len(d_weight)
    count = x.shape[1] * (width // channels)
    d_weight[:] = 0
    d_bias[:] = 0
    for group in range(groups):
        total, product = np.zeros(channels), np.zeros(channels)
        for part in range(sums.shape[1]):
            for start in range(0, width, channels):
                for c in range(channels):
                    total[c] += sums[group, part, start + c]
                    product[c] += products[group, part, start + c]
        for c in range(channels):
            product[c] *= inverse[group, c]
            d_bias[c] += total[c]
            d_weight[c] += product[c]
        for start in range(0, width, channels):
            for c in range(channels):
                slope = -scale[group, c] * inverse[group, c] * product[c] / count
                by_x[group, start + c] = slope
                constant[group, start + c] = -scale[group, c] * total[c] / count - slope * mean[group, c]
    returned(x, dy, scale, shift, single(low), by_x, constant, dx)


@serial
def parts_of(x):
    return np.empty((x.shape[0], max(1, PARTS // x.shape[0]), x.shape[2]))


@serial
def join_moments(means, spreads, rows, eps, rate, running_mean, running_var, mean, inverse):
    """From those of the parts and of the k pixels of a row to those of a block; the running ones move."""
    groups, parts, width = means.shape
    channels = len(running_mean)
    count = rows * (width // channels)
    all_means, all_vars = np.zeros(channels), np.zeros(channels)
    for group in range(groups):
        center, spread = np.zeros(channels), np.zeros(channels)
        for part in range(parts):
            first, last = span(part, parts, rows)
            for start in range(0, width, channels):
                for c in range(channels):
                    center[c] += means[group, part, start + c] * (last - first) / count
        for part in range(parts):
            first, last = span(part, parts, rows)
            for start in range(0, width, channels):
                for c in range(channels):
                    off = means[group, part, start + c] - center[c]
                    spread[c] += spreads[group, part, start + c] + off * off * (last - first)
        for c in range(channels):
            all_means[c] += center[c] / groups
            all_vars[c] += spread[c] / (count - 1) / groups
            for start in range(0, width, channels):
                mean[group, start + c] = center[c]
                inverse[group, start + c] = 1 / np.sqrt(spread[c] / count + eps)
    for c in range(channels):
        running_mean[c] += rate * (all_means[c] - running_mean[c])
        running_var[c] += rate * (all_vars[c] - running_var[c])


@serial
def widen(x):
    """float32 from the bits of a bf16."""
    return bits(bits(x) << bits(16)).view(single)


@serial
def narrow(x):
    """The bits of the bf16 nearest to a float32, ties to even."""
    raw = single(x).view(bits)
    return half(bits(raw + bits(0x7FFF) + bits((raw >> bits(16)) & bits(1))) >> bits(16))


@serial
def span(part, parts, rows):
    """First and last row of a part."""
    return part * rows // parts, (part + 1) * rows // parts


@in_threads
def moments(x, mean, spread):
    """Means over the rows of each part, and sums of squares around them: (G, PARTS, L), float64."""
    groups, rows, width = x.shape
    step = max(1, CHUNK // width)
    parts = mean.shape[1]
    for item in prange(groups * parts):
        group, part = item // parts, item % parts
        first, last = span(part, parts, rows)
        own_mean, own_spread = mean[group, part], spread[group, part]
        own_mean[:] = 0
        own_spread[:] = 0
        near, total, square = np.empty(width, single), np.empty(width, single), np.empty(width, single)
        for start in range(first, last, step):
            stop = min(start + step, last)
            total[:] = 0
            square[:] = 0
            for i in range(width):
                near[i] = widen(x[group, start, i])  # subtracting any of the values keeps the squares small
            for row in range(start + 1, stop):
                for i in range(width):
                    off = widen(x[group, row, i]) - near[i]
                    total[i] += off
                    square[i] += off * off
            size = single(stop - start)
            share = single(stop - start) / single(stop - first)
            for i in range(width):
                center = total[i] / size
                off = near[i] + center - own_mean[i]
                own_mean[i] += off * share
                own_spread[i] += square[i] - center * total[i] + off * off * (start - first) * share


@in_threads
def scaled(x, scale, shift, low, y):
    """y = max(x * scale + shift, low); scale, shift: (G, L)."""
    groups, rows, width = x.shape
    parts = max(1, PARTS // groups)
    for item in prange(groups * parts):
        group, part = item // parts, item % parts
        first, last = span(part, parts, rows)
        for row in range(first, last):
            for i in range(width):
                value = widen(x[group, row, i]) * scale[group, i] + shift[group, i]
                y[group, row, i] = narrow(low if value < low else value)


@in_threads
def slopes(x, dy, mean, scale, shift, low, sums, products):
    """Sums over the rows of each part of dy, and of dy * (x - mean), where y was not at its lower bound: float64."""
    groups, rows, width = x.shape
    step = max(1, CHUNK // width)
    parts = sums.shape[1]
    for item in prange(groups * parts):
        group, part = item // parts, item % parts
        first, last = span(part, parts, rows)
        own_sums, own_products = sums[group, part], products[group, part]
        own_sums[:] = 0
        own_products[:] = 0
        total, product = np.empty(width, single), np.empty(width, single)
        for start in range(first, last, step):
            total[:] = 0
            product[:] = 0
            for row in range(start, min(start + step, last)):
                for i in range(width):
                    value = widen(x[group, row, i])
                    slope = widen(dy[group, row, i])
                    slope = slope if value * scale[group, i] + shift[group, i] > low else single(0)
                    total[i] += slope
                    product[i] += slope * (value - mean[group, i])
            for i in range(width):
                own_sums[i] += total[i]
                own_products[i] += product[i]


@in_threads
def returned(x, dy, scale, shift, low, by_x, constant, dx):
    """dx = dy * scale + x * by_x + constant, with dy = 0 where y was at its lower bound."""
    groups, rows, width = x.shape
    parts = max(1, PARTS // groups)
    for item in prange(groups * parts):
        group, part = item // parts, item % parts
        first, last = span(part, parts, rows)
        for row in range(first, last):
            for i in range(width):
                value = widen(x[group, row, i])
                slope = widen(dy[group, row, i])
                slope = slope if value * scale[group, i] + shift[group, i] > low else single(0)
                dx[group, row, i] = narrow(slope * scale[group, i] + (value * by_x[group, i] + constant[group, i]))
