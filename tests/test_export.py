"""An exported file gives the checkpoint's probabilities from raw rows, without mlplab, in batches of any size."""

import io
import json
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from data.people import HEADER, people
from scripts.command import refusal, script

from mlplab.compose import CONF, load_config
from mlplab.config import SettingError
from mlplab.config.tools import Export
from mlplab.evaluate import load
from mlplab.experiment import run
from mlplab.export import export
from mlplab.reports.tables import write_csv
from mlplab.training.evaluation import score

FAST = ("accelerator=cpu", "logger=none", "trainer.max_epochs=2")
SETTINGS = {
    "allow_targets": [],
    "format": "onnx",
    "output": None,
    "overwrite": False,
    "check_rows": 1000,
    "tolerance": 1e-4,
}


def exported(folder: Path, **settings: object) -> object:
    return export(Export(run=str(folder), **{**SETTINGS, **settings}))  # type: ignore[arg-type]


def answers(file: Path, values: np.ndarray) -> np.ndarray:
    """What onnxruntime, which knows nothing of mlplab, makes of raw rows."""
    session = onnxruntime.InferenceSession(file)
    return session.run(None, {session.get_inputs()[0].name: values})[0]


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "wine"
    run(load_config("regularization=[batch_norm,dropout]", *FAST), folder)
    return folder


def test_onnx_takes_raw_rows_in_batches_of_any_size_and_gives_evaluates_probabilities(wine: Path) -> None:
    found = exported(wine)
    assert (found.file, found.about) == (wine / "model.onnx", wine / "model.onnx.json")
    assert 0 <= found.difference < 1e-6
    loaded = load(wine)
    test = loaded.prepared.parts["test"]
    kept = score(loaded.network, test, loaded.config, 3, None).probs.numpy()
    raw = loaded.prepared.raw[test.rows]
    for n in (0, 1, 2, len(raw)):
        assert answers(found.file, raw[:n]) == pytest.approx(kept[:n], abs=1e-6)
    about = json.loads(found.about.read_text())
    assert about["classes"] == loaded.prepared.class_names
    assert [c["name"] for c in about["input"]["columns"]] == loaded.prepared.feature_names
    assert about["checked"] == {"rows": len(loaded.prepared.parts["train"]), "difference": found.difference}
    session = onnxruntime.InferenceSession(found.file)
    (one,), told = session.get_inputs(), about["input"]
    assert (one.name, one.type, one.shape) == (told["name"], "tensor(double)", told["shape"])
    assert session.get_outputs()[0].name == about["output"]["name"]


@pytest.mark.slow
@pytest.mark.parametrize("encode", ["onehot", "embedding"])
@pytest.mark.parametrize("kind", ["periodic", "piecewise_linear"])
def test_numbers_as_learned_features_are_inside(kind: str, encode: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "people.csv", HEADER, people(300))
    words = ("data=table", f"data.path={tmp_path / 'people.csv'}", f"data.encode={encode}", "data.scaling=quantile")
    run(load_config(*words, f"embedding={kind}", *FAST), tmp_path / "run")
    loaded = load(tmp_path / "run")
    raw = loaded.raw("test")
    raw[0, :3] = torch.tensor([1e300, float("nan"), -1e300], dtype=torch.float64)
    expected = loaded.restored.probabilities(raw)
    assert expected.isfinite().all()
    for format in ("onnx", "pt2"):
        found = exported(tmp_path / "run", format=format)
        assert 0 <= found.difference < 1e-6
    assert answers(tmp_path / "run/model.onnx", raw.numpy()) == pytest.approx(expected.numpy(), abs=1e-6)
    archive = io.BytesIO((tmp_path / "run/model.pt2").read_bytes())
    assert torch.allclose(torch.export.load(archive).module()(raw), expected, rtol=0, atol=1e-6)


def test_pt2_gives_evaluates_probabilities_with_torch_alone(wine: Path) -> None:
    found = exported(wine, format="pt2")
    module = torch.export.load(io.BytesIO(found.file.read_bytes())).module()
    loaded = load(wine)
    raw = loaded.raw("test")
    for n in (1, 2, len(raw)):
        assert torch.allclose(module(raw[:n]), loaded.restored.probabilities(raw)[:n], rtol=0, atol=1e-6)


ACTIVATIONS = sorted(p.stem for p in (CONF / "activation").glob("*.yaml") if p.stem != "custom")


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision", [32, 64])
def test_every_activation_exports(activation: str, precision: int, tmp_path: Path) -> None:
    run(load_config(f"activation={activation}", f"accelerator.precision={precision}", *FAST), tmp_path)
    assert exported(tmp_path).difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ["model=linear"],
        ["model=numpy_mlp"],
        ["model=custom", "model.target=models.own.Net"],
        ["activation=custom", "activation.target=models.own.Swish", "+activation.kwargs.beta=1.5"],
        ["data=moons", "loss=bce"],
        ["regularization=[layer_norm,input_noise,mixup]", "data.scaling=minmax"],
        ["data.scaling=none"],
    ],
    ids=" ".join,
)
def test_every_kind_of_network_exports(choices: list[str], tmp_path: Path) -> None:
    run(load_config(*choices, *FAST), tmp_path)
    for kind in ("onnx", "pt2"):
        found = exported(tmp_path, format=kind)
        assert 0 <= found.difference < 1e-5
        assert found.note == ""


def test_images_are_given_as_bytes_and_halves_are_told_of(tmp_path: Path) -> None:
    run(load_config("data=digits_images", "accelerator.precision=bf16-mixed", *FAST), tmp_path)
    found = exported(tmp_path)
    assert found.difference < 1e-6
    assert "trained in bf16-mixed; the file computes in float32" in found.note
    loaded = load(tmp_path)
    images = loaded.raw("val")
    kept = loaded.restored.probabilities(images).numpy()
    assert answers(found.file, images.numpy()) == pytest.approx(kept, abs=0.05)
    about = json.loads(found.about.read_text())["input"]
    assert about == {"name": "images", "dtype": "uint8", "shape": ["rows", 1, 8, 8], "color": "grey"}


@pytest.mark.parametrize("choices", [["data.encode=onehot"], ["data.encode=embedding", "data.scaling=quantile"]])
def test_categories_are_given_as_the_codes_of_the_json_and_gaps_as_nan(choices: list[str], tmp_path: Path) -> None:
    rows = people(300)
    write_csv(tmp_path / "people.csv", HEADER, rows)
    table = ("data=table", f"data.path={tmp_path}/people.csv", "data.target=label")
    run(load_config(*table, *choices, *FAST), tmp_path / "run")
    found = exported(tmp_path / "run")
    assert found.difference < 1e-6
    assert exported(tmp_path / "run", format="pt2").difference < 1e-6
    columns = {column["name"]: column for column in json.loads(found.about.read_text())["input"]["columns"]}
    assert columns.keys() == {"age", "since.day", "since.month", "since.weekday", "member", "city"}
    city = columns["city"]
    assert city["codes"] == {"Bonn": 1, "Kiel, Nord": 2, "Ulm": 3}
    assert (city["unknown"], city["missing"]) == (0, 4)

    def by_hand(row: list[str]) -> list[float]:
        _, age, where, since, member, _ = row
        day = date.fromisoformat(since)
        values = {
            "age": float("nan") if age == "?" else float(age),
            "since.day": (day - date(1970, 1, 1)).days,
            "since.month": day.month,
            "since.weekday": day.isoweekday(),
            "member": member == "yes",
            "city": city["codes"].get(where, city["unknown"]) if where else city["missing"],
        }
        return [float(values[name]) for name in columns]

    loaded = load(tmp_path / "run")
    raw = np.array([by_hand(rows[i]) for i in loaded.prepared.parts["test"].rows])
    part = loaded.prepared.parts["test"]
    kept = score(loaded.network, part, loaded.config, 2, None).probs.numpy()
    assert answers(found.file, raw) == pytest.approx(kept, abs=1e-6)
    unseen = raw[:1].copy()
    unseen[0, list(columns).index("city")] = 0
    assert np.isfinite(answers(found.file, unseen)).all()


def test_a_file_that_differs_too_much_is_not_written(wine: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"differ from the checkpoint's by .* more than tolerance=1e-12"):
        exported(wine, output=str(tmp_path / "m.onnx"), tolerance=1e-12)
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_is_written_over_only_when_told(wine: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    exported(wine, output=str(file))
    before = file.stat().st_mtime_ns
    with pytest.raises(SettingError, match=r"m\.onnx exists; use overwrite=true"):
        exported(wine, output=str(file))
    assert file.stat().st_mtime_ns == before
    exported(wine, output=str(file), overwrite=True)
    assert file.stat().st_mtime_ns > before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_a_module_that_cannot_be_traced_is_refused_with_the_reason(tmp_path: Path) -> None:
    run(load_config("model=custom", "model.target=models.own.Untraceable", *FAST), tmp_path)
    with pytest.raises(SettingError, match="cannot be exported as onnx"):
        exported(tmp_path)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_the_script_exports_a_run_of_a_fused_sweep_and_says_how_far_it_is_off(tmp_path: Path) -> None:
    sweep = script("train", "-m", "seed=0,1", "trainer.max_epochs=2", "logger=none", "hydra.sweep.dir=s", cwd=tmp_path)
    assert sweep.returncode == 0, sweep.stderr
    done = script("export", "run=s/1", "format=onnx", "output=m.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("106 rows differ from the checkpoint by at most ")
    assert done.stderr == ""
    loaded = load(tmp_path / "s" / "1")
    raw = loaded.raw("test")
    kept = loaded.restored.probabilities(raw).numpy()
    assert answers(tmp_path / "m.onnx", raw.numpy()) == pytest.approx(kept, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run=nowhere"], "no folder nowhere"),
        (["run=.", "format=onx"], "format='onx'"),
        (["run=.", "formt=onnx"], "Did you mean 'format'?"),
        (["run=."], "is . a run folder"),
        (["run=.", "output=."], "is a folder"),
        ([], "run has no value yet"),
    ],
)
def test_the_script_refuses_in_one_message(arguments: list[str], said: str, tmp_path: Path) -> None:
    assert said in refusal(script("export", *arguments, cwd=tmp_path))
    assert not list(tmp_path.iterdir())
