"""The peer of the benchmarks: a plain PyTorch loop over Wine, as a tutorial writes it.

The network of `python src/train.py` (13-32-32-3, ReLU, Adam, batch 16, 30 epochs) with a DataLoader over rows. As a
script it trains one network; `train` is imported by the benchmarks that measure the loop alone.
"""

import time

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def rows(train_share: float, seed: int = 0) -> list[torch.Tensor]:
    """Scaled features and classes: train x, test x, train y, test y."""
    x, y = load_wine(return_X_y=True)
    parts = train_test_split(x, y, train_size=train_share, stratify=y, random_state=seed)
    scaler = StandardScaler().fit(parts[0])
    xs = [torch.tensor(scaler.transform(part), dtype=torch.float32) for part in parts[:2]]
    return [*xs, *(torch.tensor(part) for part in parts[2:])]


def train(parts: list[torch.Tensor], lr: float = 0.001, seed: int = 0, dropout: float = 0.0) -> float:
    """Train one network; returns the seconds of its loop."""
    torch.manual_seed(seed)
    hidden = [nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
    if dropout:
        hidden = [*hidden[:2], nn.Dropout(dropout), *hidden[2:], nn.Dropout(dropout)]
    network = nn.Sequential(*hidden, nn.Linear(32, 3))
    loader = DataLoader(TensorDataset(parts[0], parts[2]), batch_size=16, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    criterion = nn.CrossEntropyLoss()
    started = time.perf_counter()
    for _ in range(30):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(network(x), y).backward()
            optimizer.step()
    seconds = time.perf_counter() - started
    network.eval()
    with torch.no_grad():
        accuracy = (network(parts[1]).argmax(1) == parts[3]).float().mean()
    if __name__ == "__main__":
        print(f"test accuracy {accuracy:.4f}, trained in {seconds:.2f} s")
    return seconds


if __name__ == "__main__":
    train(rows(0.6))
