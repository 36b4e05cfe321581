"""Randomness that is addressed, not consumed: each draw is a function of (seed, purpose, step, position).

No generator state exists, so a resumed run, a network trained among others and a network trained alone all see the
same draws, on any device, whatever else ran before. The bits come from the SplitMix64 finaliser (Steele, Lea and
Flood 2014, "Fast splittable pseudorandom number generators") over a Weyl sequence that starts at a hashed key.

A key is one int, or an int64 tensor of shape (networks,): then every draw gains that leading dimension, and network
m's part is exactly what its own int would have given.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Key = int | Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_TAU = 2 * math.pi


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def key(seed: int, *purpose: str | int) -> int:
    """The 64-bit address of one purpose of one seed, such as `key(0, "dropout", 1)`, as a signed int."""
    text = "/".join(map(str, (seed, *purpose))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _finalise(z: Tensor) -> Tensor:
    if z.device.type == "cpu":
        _finalise_in_numpy(z.numpy().view(np.uint64))
        return z
    # >> is arithmetic on int64: the masks keep the shifted-in sign bits out
    z.bitwise_xor_((z >> 30).bitwise_and_(0x3FFFFFFFF)).mul_(_signed(_MIX1))
    z.bitwise_xor_((z >> 27).bitwise_and_(0x1FFFFFFFFF)).mul_(_signed(_MIX2))
    return z.bitwise_xor_((z >> 31).bitwise_and_(0x1FFFFFFFF))


def _finalise_in_numpy(z: np.ndarray) -> None:
    # the same bits: NumPy has unsigned shifts and a buffer to write to, which halves the time
    shifted = np.empty_like(z)
    for places, factor in ((30, _MIX1), (27, _MIX2), (31, None)):
        np.right_shift(z, places, out=shifted)
        np.bitwise_xor(z, shifted, out=z)
        if factor is not None:
            np.multiply(z, np.uint64(factor), out=z)


def at(key: Key, counter: int | Tensor) -> Key:
    """The key of step (or epoch) `counter` below `key`; neighbouring counters are unrelated.

    Args:
        counter: or several, int64 of a shape that broadcasts with the key's.
    """
    if isinstance(counter, Tensor):
        return _finalise(key + (counter * _signed(_GOLDEN) + _signed(_MIX2)))
    if isinstance(key, Tensor):
        return _finalise(key + _signed((counter * _GOLDEN + _MIX2) & _MASK))
    z = (key + counter * _GOLDEN + _MIX2) & _MASK
    z = ((z ^ (z >> 30)) * _MIX1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX2) & _MASK
    return _signed(z ^ (z >> 31))


@lru_cache(maxsize=64)
def _kept_weyl(start: int, n: int, device: torch.device) -> Tensor:
    return _made_weyl(start, n, device)


def _weyl(start: int, n: int, device: torch.device) -> Tensor:
    return (_kept_weyl if n <= 1 << 16 else _made_weyl)(start, n, device)  # masks recur each step; big draws do not


def _made_weyl(start: int, n: int, device: torch.device) -> Tensor:
    return torch.arange(start, start + n, dtype=torch.int64, device=device).mul_(_signed(_GOLDEN))


def bits(key: Key, n: int, start: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """64 random bits for each position from `start` on: int64 of shape (n,), or (networks, n)."""
    if isinstance(key, Tensor):
        return _finalise(_weyl(start, n, key.device) + key[:, None])
    return _finalise(_weyl(start, n, torch.device(device)) + key)


def uniform(key: Key, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Uniform draws in [0, 1), float64, of the shape (with the key's leading dimension in front)."""
    words = bits(key, math.prod(shape), device=device)
    unit = ((words >> 11) & ((1 << 53) - 1)).double() * 2.0**-53
    return unit.view(*words.shape[:-1], *shape)


def normal(key: Key, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal draws, float64, by Box and Muller (1958): two uniforms give two neighbouring normals.

    A draw depends on its position alone: the first rows of a larger shape of the same width are the same.
    """
    n = math.prod(shape)
    u = uniform(key, ((n + 1) // 2, 2), device)
    radius = (-2 * torch.log1p(-u[..., 0])).sqrt_()
    angle = u[..., 1] * _TAU
    draws = torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(-2)[..., :n]
    return draws.reshape(*draws.shape[:-1], *shape)


def permutation(key: Key, n: int, device: torch.device | str = "cpu") -> Tensor:
    """A random order of n things: int64 of shape (n,), or (networks, n)."""
    return bits(key, n, device=device).argsort(dim=-1, stable=True)


def keep(
    key: Key,
    rows: int,
    width: int,
    p: float | Tensor,
    first_row: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bool,
) -> Tensor:
    """True (or 1) where a unit survives dropout: of shape (rows, width), or (networks, rows, width).

    Each unit has 16 bits of its own (four units share a 64-bit word), so p is exact to 1/65536.

    Args:
        p: probability of each unit to be dropped; with several networks, int16 thresholds from `threshold`.
        first_row: place of the first row in the batch that all processes share.
        dtype: of the result; a floating one directly costs a third of a bool that is converted later.
    """
    first, n = first_row * width, rows * width
    word = first // 4
    words = bits(key, (first + n + 3) // 4 - word, word, device)
    lanes = words.view(torch.int16)[..., first - 4 * word : first - 4 * word + n]
    limit = p.view(-1, 1) if isinstance(p, Tensor) else threshold(p)
    kept = torch.empty(lanes.shape, dtype=dtype, device=lanes.device)
    return torch.ge(lanes, limit, out=kept).view(*words.shape[:-1], rows, width)


def threshold(p: float) -> int:
    """The int16 value below which a share p of all int16 values lies."""
    return min(round(p * 65536) - 32768, 32767)
