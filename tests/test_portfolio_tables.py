"""A portfolio on tables of any kind: few rows and many, numbers, categories, and both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from data.people import HEADER, people
from test_portfolio import QUICK

from mlplab.compose import load_config
from mlplab.config import Config, SettingError
from mlplab.config.tools import Export, Predict
from mlplab.evaluate import evaluate, load
from mlplab.experiment import run
from mlplab.export import export
from mlplab.predict import predict
from mlplab.reports.tables import write_csv
from mlplab.runs import Result


def test_a_setting_is_for_tables_of_so_many_rows(tmp_path: Path) -> None:
    config = load_config(*QUICK)

    def of(**settings: dict[str, object]) -> Config:
        return config.model_copy(update={"portfolio": config.portfolio.model_copy(update={"settings": settings})})

    for least, tried in ((142, {"plain", "other"}), (143, {"plain"})):  # of Wine 142 rows train
        result = run(of(plain={"model": {"hidden": [4]}}, other={"least_rows": least}), tmp_path / str(least))
        assert set(result.values["portfolio"]["tried"]) == tried
    with pytest.raises(SettingError, match="least_rows is more than the 142 that train"):
        run(of(other={"least_rows": 1000}), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Numbers with gaps, categories and dates."""
    folder = tmp_path_factory.mktemp("mixed")
    write_csv(folder / "people.csv", HEADER, people(300))
    config = load_config(*QUICK, "data=table", f"data.path={folder}/people.csv")
    return run(config, folder / "run")


def test_mixed_tables_predict_and_export_what_they_evaluate(mixed: Result, tmp_path: Path) -> None:
    loaded = load(mixed.folder)
    raw = loaded.prepared.raw[loaded.prepared.parts["test"].rows]
    kept = loaded.restored.probabilities(torch.from_numpy(raw))
    file = tmp_path / "model.onnx"
    chosen = {"allow_targets": [], "format": "onnx", "overwrite": False, "check_rows": 200, "tolerance": 1e-4}
    assert export(Export(run=str(mixed.folder), output=str(file), **chosen)).difference < 1e-5  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(file)
    answer = session.run(None, {session.get_inputs()[0].name: raw})[0]
    torch.testing.assert_close(torch.from_numpy(answer), kept, rtol=1e-4, atol=1e-5)
    told = predict(
        Predict(
            run=str(mixed.folder),
            input=str(mixed.folder.parent / "people.csv"),
            output=str(tmp_path / "told.csv"),
            keep="all",
            overwrite=False,
            on_bad_file="error",
            allow_targets=[],
        )
    )
    assert told.rows == 300


def test_folds_that_the_rows_do_not_fill_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "few.csv", HEADER, people(20))
    data = ("data=table", f"data.path={tmp_path}/few.csv", "data.stratified=false")
    with pytest.raises(SettingError, match=r"portfolio\.folds=9 is too many for 16 rows"):
        run(load_config(*QUICK, *data, "portfolio.folds=9"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_table_of_categories_alone_has_nothing_to_embed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = rng.choice(list("abcd"), (200, 4))
    label = np.where((columns[:, 0] < "c") ^ (columns[:, 1] < "b"), "yes", "no")
    write_csv(tmp_path / "cats.csv", [*"wxyz", "label"], [[*row, y] for row, y in zip(columns, label, strict=True)])
    data = ("data=table", f"data.path={tmp_path}/cats.csv", "data.target=label")
    result = run(load_config(*QUICK, *data), tmp_path / "run")
    tried = result.values["portfolio"]["tried"]
    assert set(tried) == {"linear", "additive", "standard", "standard_strong"}, "the others would be the same networks"
    assert evaluate(result.folder).metrics["test"] == result.metrics["test"]
    periodic = "portfolio.settings.standard.embedding={name: periodic, frequencies: 4, scale: 0.1, width: 2}"
    assert "standard" in run(load_config(*QUICK, *data, "+" + periodic), tmp_path / "b").values["portfolio"]["tried"]
