"""Parts of a table fitted anew: the same columns whatever rows there are, gaps and medians of the part's own rows."""

from __future__ import annotations

import numpy as np
import torch

from mlplab.data.preprocess import Features, SideBySide


def test_a_part_has_the_columns_of_the_whole_and_its_own_numbers() -> None:
    rng = np.random.default_rng(0)
    raw = np.column_stack([rng.normal(size=(40, 3)), rng.integers(1, 4, 40)])
    raw[30:, 1] = np.nan  # gaps only at the end, all of column 2's first rows missing
    raw[:20, 2] = np.nan
    whole = Features.fit(raw, 3, [4], True, "standard")
    first, last = (Features.fit(raw[rows], 3, [4], True, "standard", whole) for rows in (slice(20), slice(20, 40)))
    assert first.n_features == last.n_features == whole.n_features == 3 + 2 + 3
    assert first.gaps.tolist() == [1, 2]
    assert float(first.median[2]) == float(whole.median[2])  # the part has nothing of its own
    assert float(last.median[2]) == np.median(raw[20:, 2])
    np.testing.assert_allclose(first(torch.from_numpy(raw[:20]))[:, 0].mean(), 0, atol=1e-12)
    both = SideBySide([first, last], torch.float32)
    x = torch.from_numpy(raw)
    assert torch.equal(both(x), torch.cat([first(x).float(), last(x).float()], 1))
    assert bool(both(x).isfinite().all())
