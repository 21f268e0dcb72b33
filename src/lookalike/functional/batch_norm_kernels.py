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

PARTS = 16  # of each block, so that a block has the same sums wherever it is
CHUNK = 16384  # numbers that are added up in float32
NONE = np.float32(-np.inf)  # no lower bound

bits, single, half = np.uint32, np.float32, np.uint16
serial, in_threads = (partial(compiled, threads=threads, fastmath={"contract"}) for threads in (False, True))


@serial
def forward(x, y, onto, adds, weight, bias, eps, low, rate, running_mean, running_var, mean, inverse, scale, shift):
    """y = max(BatchNorm(x) + onto, low) for each block, whose mean, 1 / std, scale and shift it tells: (G, L).

    onto: counts if `adds`. running_mean, running_var: (C,), moved towards the average of the blocks' own.
    """
    groups, rows, width = x.shape
    channels = len(weight)
    count = rows * (width // channels)
    means, spreads = parts_of(x), parts_of(x)
    moments(x, means, spreads)
    all_means, all_vars = np.zeros(channels), np.zeros(channels)
    for group in range(groups):
        center, spread = joined(means[group], spreads[group], rows, channels)
        all_means += center / groups
        all_vars += spread / (count - 1) / groups
        for i in range(width):
            c = i % channels
            mean[group, i] = center[c]
            inverse[group, i] = 1 / np.sqrt(spread[c] / count + eps)
            scale[group, i] = weight[c] * inverse[group, i]
            shift[group, i] = bias[c] - mean[group, i] * scale[group, i]
    for c in range(channels):
        running_mean[c] += rate * (all_means[c] - running_mean[c])
        running_var[c] += rate * (all_vars[c] - running_var[c])
    if adds:
        scaled_onto(x, onto, scale, shift, single(low), y)
    else:
        scaled(x, scale, shift, single(low), y)


@serial
def backward(x, y, dy, dx, d_onto, adds, low, mean, inverse, scale, shift, d_weight, d_bias):
    """dx, if `adds` the gradient of what was added, and those of weight and bias, added up over the blocks."""
    groups, rows, width = x.shape
    channels = len(d_weight)
    count = rows * (width // channels)
    sums, products = parts_of(x), parts_of(x)
    if adds:
        bounded(y, dy, single(low), d_onto)
        slopes(x, d_onto, mean, scale, shift, NONE, sums, products)
    else:
        slopes(x, dy, mean, scale, shift, single(low), sums, products)
    by_x, constant = np.empty_like(scale), np.empty_like(scale)
    d_weight[:] = 0
    d_bias[:] = 0
    for group in range(groups):
        total, product = added(sums[group], channels), added(products[group], channels)
        for c in range(channels):
            product[c] *= inverse[group, c]
            d_bias[c] += total[c]
            d_weight[c] += product[c]
        for i in range(width):
            c = i % channels
            by_x[group, i] = -scale[group, i] * inverse[group, i] * product[c] / count
            constant[group, i] = -scale[group, i] * total[c] / count - by_x[group, i] * mean[group, i]
    if adds:
        returned(x, d_onto, scale, shift, NONE, by_x, constant, dx)
    else:
        returned(x, dy, scale, shift, single(low), by_x, constant, dx)


@serial
def parts_of(x):
    """A row of numbers for each part of each block."""
    return np.empty((x.shape[0], PARTS, x.shape[2]))


@serial
def added(rows, channels):
    """Sums over the parts and over the k pixels of a row: (C,)."""
    total = np.zeros(channels)
    for row in rows:
        for start in range(0, len(row), channels):
            for c in range(channels):
                total[c] += row[start + c]
    return total


@serial
def joined(means, spreads, rows, channels):
    """The mean of a block, and the sum of squares around it, from those of its parts: (C,) each."""
    parts, width = means.shape
    shares, offsets = np.empty_like(means), np.empty_like(means)
    for part in range(parts):
        first, last = span(part, parts, rows)
        shares[part] = means[part] * ((last - first) / (rows * (width // channels)))
    center = added(shares, channels)
    for part in range(parts):
        first, last = span(part, parts, rows)
        for i in range(width):
            off = means[part, i] - center[i % channels]
            offsets[part, i] = spreads[part, i] + off * off * (last - first)
    return center, added(offsets, channels)


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
def moments(x, means, spreads):
    """Means over the rows of each part, and sums of squares around them: (G, P, L), float64."""
    groups, parts, _ = means.shape
    for item in prange(groups * parts):
        group, part = item // parts, item % parts
        first, last = span(part, parts, x.shape[1])
        part_moments(x[group, first:last], means[group, part], spreads[group, part])


@serial
def part_moments(x, mean, spread):
    rows, width = x.shape
    step = max(1, CHUNK // width)
    mean[:] = 0
    spread[:] = 0
    near, total, square = np.empty(width, single), np.empty(width, single), np.empty(width, single)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        total[:] = 0
        square[:] = 0
        for i in range(width):
            near[i] = widen(x[start, i])  # subtracting any of the values keeps the squares small
        for row in range(start + 1, stop):
            for i in range(width):
                off = widen(x[row, i]) - near[i]
                total[i] += off
                square[i] += off * off
        size, share = single(stop - start), single(stop - start) / single(stop)
        for i in range(width):
            center = total[i] / size
            off = near[i] + center - mean[i]
            mean[i] += off * share
            spread[i] += square[i] - center * total[i] + off * off * start * share


@in_threads
def scaled(x, scale, shift, low, y):
    """y = max(x * scale + shift, low); scale, shift: (G, L)."""
    groups, rows, width = x.shape
    for item in prange(groups * PARTS):
        group, part = item // PARTS, item % PARTS
        first, last = span(part, PARTS, rows)
        for row in range(first, last):
            for i in range(width):
                value = widen(x[group, row, i]) * scale[group, i] + shift[group, i]
                y[group, row, i] = narrow(low if value < low else value)


@in_threads
def scaled_onto(x, onto, scale, shift, low, y):
    """y = max(x * scale + shift + onto, low)."""
    groups, rows, width = x.shape
    for item in prange(groups * PARTS):
        group, part = item // PARTS, item % PARTS
        first, last = span(part, PARTS, rows)
        for row in range(first, last):
            for i in range(width):
                value = widen(x[group, row, i]) * scale[group, i] + (shift[group, i] + widen(onto[group, row, i]))
                y[group, row, i] = narrow(low if value < low else value)


@in_threads
def bounded(y, dy, low, out):
    """dy, and 0 where y is at its lower bound."""
    groups, rows, width = y.shape
    for item in prange(groups * PARTS):
        group, part = item // PARTS, item % PARTS
        first, last = span(part, PARTS, rows)
        for row in range(first, last):
            for i in range(width):
                out[group, row, i] = dy[group, row, i] if widen(y[group, row, i]) > low else half(0)


@in_threads
def slopes(x, dy, mean, scale, shift, low, sums, products):
    """Sums over the rows of each part of dy, and of dy * (x - mean), where y was not at its lower bound: float64."""
    groups, parts, _ = sums.shape
    for item in prange(groups * parts):
        group, part = item // parts, item % parts
        first, last = span(part, parts, x.shape[1])
        facts = mean[group], scale[group], shift[group], low
        part_slopes(x[group, first:last], dy[group, first:last], facts, sums[group, part], products[group, part])


@serial
def part_slopes(x, dy, facts, sums, products):
    mean, scale, shift, low = facts
    rows, width = x.shape
    step = max(1, CHUNK // width)
    sums[:] = 0
    products[:] = 0
    total, product = np.empty(width, single), np.empty(width, single)
    for start in range(0, rows, step):
        total[:] = 0
        product[:] = 0
        for row in range(start, min(start + step, rows)):
            for i in range(width):
                value, slope = widen(x[row, i]), widen(dy[row, i])
                slope = slope if value * scale[i] + shift[i] > low else single(0)
                total[i] += slope
                product[i] += slope * (value - mean[i])
        sums += total
        products += product


@in_threads
def returned(x, dy, scale, shift, low, by_x, constant, dx):
    """dx = dy * scale + x * by_x + constant, with dy = 0 where y was at its lower bound."""
    groups, rows, width = x.shape
    for item in prange(groups * PARTS):
        group, part = item // PARTS, item % PARTS
        first, last = span(part, PARTS, rows)
        for row in range(first, last):
            for i in range(width):
                value, slope = widen(x[group, row, i]), widen(dy[group, row, i])
                slope = slope if value * scale[group, i] + shift[group, i] > low else single(0)
                dx[group, row, i] = narrow(slope * scale[group, i] + (value * by_x[group, i] + constant[group, i]))
