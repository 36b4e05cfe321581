"""The experiments on table files reach what their headers say; skipped where the files are absent."""

import os
import re
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
import torch

from mlplab.compose import CONF, load_config
from mlplab.data.prepared import prepare
from mlplab.fused.plan import Job, plan
from mlplab.fused.training import FusedTraining

FILES = {
    "adult": "adult-train.csv",
    "german": "german.csv",
    "pima": "pima-indians-diabetes.csv",
    "sonar": "sonar.csv",
    "banknote": "banknote_authentication.csv",
}


def there(name: str) -> None:
    path = Path(os.environ.get("MLPLAB_DATA", "data")) / "tabular" / FILES[name]
    if not path.is_file():
        pytest.skip(f"{path} is not there")


def scores(name: str, splits: int, seeds: int) -> list[dict[str, float]]:
    """Test metrics of each split and seed, trained together as a sweep trains them."""
    jobs: list[Job] = []
    data = {}
    for split, seed in product(range(splits), range(seeds)):
        place = ("accelerator=cpu", "logger=none")
        config = load_config(f"experiment={name}", f"data.split_seed={split}", f"seed={seed}", *place)
        data.setdefault(split, prepare(config.data))
        jobs.append(Job(config, CONF, data[split], len(jobs)))
    groups, alone = plan(jobs)
    assert not alone
    trained = [t for group in groups for t in FusedTraining(group.jobs, torch.device("cpu")).run()]
    return [t.scores["test"].metrics for t in trained]


def header(name: str) -> str:
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().split("\ndefaults:")[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["german", "pima", "sonar", "banknote"])
def test_a_small_table_reaches_what_its_header_says(name: str) -> None:
    there(name)
    accuracy = [m["accuracy"] for m in scores(name, 5, 5)]
    told = re.search(r"test accuracy ([\d.]+) \(([\d.]+) to ([\d.]+)", header(name))
    assert told
    mean, low, high = map(float, told.groups())
    assert fmean(accuracy) == pytest.approx(mean, abs=0.01)
    assert min(accuracy) == pytest.approx(low, abs=0.03)
    assert max(accuracy) == pytest.approx(high, abs=0.03)


@pytest.mark.slow
def test_adult_reaches_what_its_header_says() -> None:
    there("adult")
    found = scores("adult", 1, 2)
    accuracy, auroc = (fmean(m[name] for m in found) for name in ("accuracy", "auroc"))
    assert accuracy >= 0.857
    assert auroc >= 0.911
    told = re.search(r"test accuracy ([\d.]+) .*?AUROC ([\d.]+) ", header("adult"))
    assert told
    assert (accuracy, auroc) == pytest.approx((float(told[1]), float(told[2])), abs=0.002)


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_understood(name: str) -> None:
    there(name)
    data = prepare(load_config(f"experiment={name}").data)
    rows = {"adult": 48842, "german": 1000, "pima": 768, "sonar": 208, "banknote": 1372}[name]
    columns = {"adult": (6, 8), "german": (7, 13), "pima": (8, 0), "sonar": (60, 0), "banknote": (4, 0)}[name]
    assert sum(len(part) for part in data.parts.values()) == rows
    assert data.schema is not None
    assert (len(data.schema.numeric), len(data.schema.categorical)) == columns
