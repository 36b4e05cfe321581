"""Data of a test, from a file that it wrote."""

import numpy as np


def load(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, columns) and labels (rows,) of an .npz file."""
    with np.load(path) as file:
        return file["x"], file["y"]
