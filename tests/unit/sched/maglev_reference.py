#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The Maglev paper's pseudo code, written down again for clarity instead of speed.

Prints the known answers of test_maglev.c: FNV-1a over the table's 16-bit entries, little-endian.
Backend i has identity splitmix64(seed 1, output i); its weight is 1, or 1 + i % 5.
"""
M = 65537
MASK = (1 << 64) - 1


def splitmix(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def permutation(identity):
    outputs = splitmix(identity)
    offset = next(outputs) % M
    skip = next(outputs) % (M - 1) + 1
    return [(offset + j * skip) % M for j in range(M)]


def order_of_turns(backends):
    """All backends' turns by due time; among equals the heavier first, then by identity."""
    total = sum(weight for _, weight in backends)
    turns = []
    for i, (identity, weight) in enumerate(backends):
        stride = 2**32 // weight
        for k in range(M * weight // total + 3):
            due = k * stride + stride // 2 if k > 0 else 0
            turns.append((due, -weight, identity, i))
    return [turn[-1] for turn in sorted(turns)]


def populate(backends):
    permutations = [iter(permutation(identity)) for identity, _ in backends]
    entry = [-1] * M
    filled = 0
    for i in order_of_turns(backends):
        c = next(permutations[i])
        while entry[c] >= 0:
            c = next(permutations[i])
        entry[c] = i
        filled += 1
        if filled == M:
            return entry
    raise AssertionError("too few turns")


def fnv1a(entry):
    h = 0xCBF29CE484222325
    for value in entry:
        for byte in value.to_bytes(2, "little"):
            h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


for count, weights in ((1, 1), (3, 1), (100, 1), (4, 5), (100, 5)):
    identities = splitmix(1)
    backends = [(next(identities), 1 + i % weights) for i in range(count)]
    print(f"{{{count}, {weights}, 0x{fnv1a(populate(backends)):016x}}},")
