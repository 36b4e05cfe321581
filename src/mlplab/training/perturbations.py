"""What training does to a batch before the network sees it; every draw is addressed by the step."""

from __future__ import annotations

from torch import Tensor

from mlplab import randomness
from mlplab.randomness import Key


def add_noise(x: Tensor, address: Key, std: float | Tensor) -> Tensor:
    """x + std * normal draws (Bishop 1995), shape (..., rows, features)."""
    draws = randomness.normal(address, tuple(x.shape[-2:]), x.device)
    return x + (std * draws).to(x.dtype)


def mixup_share(address: Key, alpha: float | Tensor) -> Tensor:
    """Share of the first row, from Beta(alpha, alpha), by inversion of a uniform draw: shape () or (networks,)."""
    import torch
    from scipy.special import betaincinv

    u = randomness.uniform(address, (1,)).squeeze(-1).cpu()
    a = alpha.cpu().double().numpy() if isinstance(alpha, Tensor) else alpha
    return torch.as_tensor(betaincinv(a, a, u.numpy()))


def mixup(x: Tensor, targets: Tensor, address: Key, alpha: float) -> tuple[Tensor, Tensor]:
    """Mixtures of each row with another row of the batch, and of their targets (Zhang et al. 2018).

    Args:
        x: shape (rows, features). targets: probabilities, shape (rows, n_classes).
    """
    share = mixup_share(randomness.at(address, 0), alpha).to(x.device, x.dtype)
    partner = randomness.permutation(randomness.at(address, 1), len(x), x.device)
    return share * x + (1 - share) * x[partner], share * targets + (1 - share) * targets[partner]
