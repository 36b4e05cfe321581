"""A messy table as a person has it: numbers with gaps, categories, dates, yes and no, and an identifier."""

import numpy as np

HEADER = ["id", "age", "city", "since", "member", "label"]


def people(n: int, seed: int = 0) -> list[list[str]]:
    """Rows of numbers with gaps, categories, dates, yes and no, and an identifier that says nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        age, city = rng.normal(40, 12), rng.choice(["Ulm", "Bonn", "Kiel, Nord", ""], p=[0.4, 0.3, 0.25, 0.05])
        member = rng.random() < 0.5
        bad = age + 10 * (city == "Ulm") - 8 * member + rng.normal(0, 6) > 42
        day = f"20{rng.integers(10, 25)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
        gone = rng.random() < 0.1
        rows.append(
            [
                f"p{i:05d}",
                "?" if gone else f"{age:.3f}",
                city,
                day,
                "yes" if member else "no",
                "-bad" if bad else "good",
            ]
        )
    return rows
