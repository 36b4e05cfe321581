"""Every file of a run folder damaged in turn: what reads the folder works as before, or names the file."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from damage import BITS, assert_one_sentence, damaged
from scripts.command import refusal, script
from scripts.killed import assert_same_training

from mlplab import runs
from mlplab.compare import answer
from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.config.tools import Compare, Export, Predict
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.export import export
from mlplab.predict import predict
from mlplab.resume import resume
from mlplab.training import checkpoints

EPOCHS = 3


def table(path: Path) -> Path:
    draw = random.Random(0)
    lines = [f"{draw.gauss(i % 2, 1):.3f},{draw.choice('abc')},{'yes' if i % 2 else 'no'}" for i in range(80)]
    path.write_text("\n".join(["height,kind,label", *lines]) + "\n")
    return path


WORDS = ("data=table", "data.target=label", f"trainer.max_epochs={EPOCHS}", "model.hidden=8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`, a run of a table file with TensorBoard but no pictures; `other`, another run."""
    home = tmp_path_factory.mktemp("whole")
    path = f"data.path={table(home / 'rows.csv')}"
    config = load_config(*WORDS, path, "logger.figures=false", "logger.histograms=false", "logger.graph=false")
    run(config, home / "plain")
    (home / "plain" / ".hydra").mkdir()  # what Hydra leaves there
    (home / "plain" / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (home / "plain" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["data=table", path]))
    run(load_config("data=iris", "trainer.max_epochs=1", "logger=csv"), home / "other")
    (home / "other" / ".hydra").mkdir()
    (home / "other" / ".hydra" / "overrides.yaml").write_text("[data=iris]")
    return home


@pytest.fixture(scope="module")
def drawn(folders: Path) -> Path:
    """The same run by the script, with pictures."""
    made = script("train", *WORDS, f"data.path={folders / 'rows.csv'}", "hydra.run.dir=drawn", cwd=folders)
    assert made.returncode == 0, made.stderr
    return folders


def evaluated(folder: Path, home: Path) -> object:
    return evaluate(folder).metrics


def predicted(folder: Path, home: Path) -> object:
    shared = {"keep": "auto", "overwrite": True, "on_bad_file": "error", "allow_targets": []}
    predict(Predict(run=str(folder), input=str(home / "rows.csv"), output=str(home / "told.csv"), **shared))
    return (home / "told.csv").read_bytes()


def exported(folder: Path, home: Path) -> object:
    shared = {"format": "pt2", "overwrite": True, "check_rows": 20, "tolerance": 1e-5, "allow_targets": []}
    done = export(Export(run=str(folder), output=str(home / "model.pt2"), **shared))
    return done.rows


def compared(folder: Path, home: Path) -> object:
    shared = {"metric": "val/accuracy", "best": True, "retrain": 0, "ensemble": 0, "allow_targets": []}
    answer(Compare(runs=[str(folder), str(home / "other")], out=str(home / "compared"), **shared))
    return None


def check(tool: Callable[[Path, Path], object], folder: Path, home: Path, bits: int) -> int:
    """Damage each file of a folder in each way; how many times the tool had to refuse."""
    wanted, refused = tool(folder, home), 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for how, bad in damaged(content, bits):
            file.unlink() if bad is None else file.write_bytes(bad)
            try:
                assert tool(folder, home) == wanted, f"{file.name} {how}: another answer"
            except SettingError as error:
                assert_one_sentence(str(error), file)
                refused += 1
            except Exception as error:
                raise AssertionError(f"{file.name} {how}: {type(error).__name__}: {error}") from error
        file.write_bytes(content)
    return refused


@pytest.mark.parametrize("tool", [evaluated, predicted])
def test_the_answer_is_the_same_or_the_damaged_file_is_named(
    tool: Callable[[Path, Path], object], folders: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(folders, tmp_path / "home")
    assert check(tool, home / "plain", home, BITS) >= BITS, "what is damaged in best.ckpt is found"


@pytest.mark.slow
@pytest.mark.parametrize("tool", [evaluated, predicted])
def test_pictures_too(tool: Callable[[Path, Path], object], drawn: Path, tmp_path: Path) -> None:
    home = shutil.copytree(drawn, tmp_path / "home")
    assert check(tool, home / "drawn", home, BITS) >= BITS


@pytest.mark.slow
def test_a_thousand_flipped_bits(folders: Path, tmp_path: Path) -> None:
    home = shutil.copytree(folders, tmp_path / "home")
    for path in home.glob("plain/*"):
        if path.name not in ("checkpoints", "result.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert check(evaluated, home / "plain", home, 350) > 200


@pytest.mark.slow
def test_export_of_a_damaged_folder(drawn: Path, tmp_path: Path) -> None:
    home = shutil.copytree(drawn, tmp_path / "home")
    shutil.rmtree(home / "drawn" / "figures")
    assert check(exported, home / "drawn", home, 1) >= 3


@pytest.mark.slow
def test_compare_lists_what_is_damaged_and_goes_on(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = shutil.copytree(drawn, tmp_path / "home")
    shutil.rmtree(home / "drawn" / "figures")
    check(compared, home / "drawn", home, 1)
    result = home / "drawn" / "result.json"
    for _, bad in damaged(result.read_bytes(), BITS):
        capsys.readouterr()
        shutil.copytree(home / "drawn", home / "one", dirs_exist_ok=True)
        (home / "one" / "result.json").unlink()
        if bad is not None:
            (home / "one" / "result.json").write_bytes(bad)
        compared(home / "one", home)
        screen = capsys.readouterr().out
        if "left out" not in screen:  # the bit was white space
            assert "2 runs by val/accuracy" in screen
            continue
        assert "1 runs by val/accuracy" in screen
        assert ("result.json is damaged" if bad is not None else "no result.json") in screen.replace("\n", " ")


def resumed(folder: Path, like: Path, home: Path) -> str | None:
    """Go on with a folder to one epoch more; what was said instead, or None."""
    try:
        resume([f"resume={folder}", f"trainer.max_epochs={EPOCHS + 1}"])
    except SettingError as error:
        return str(error)
    assert_same_training(folder, like)
    return None


@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_damaged_run_is_resumed_to_the_same_end_or_the_file_is_named(
    bits: int, folders: Path, tmp_path: Path
) -> None:
    like = shutil.copytree(folders / "plain", tmp_path / "like")
    resume([f"resume={like}", f"trainer.max_epochs={EPOCHS + 1}"])
    refused = set()
    for file in sorted(p.relative_to(folders / "plain") for p in (folders / "plain").rglob("*") if p.is_file()):
        for how, bad in damaged((folders / "plain" / file).read_bytes(), bits):
            folder = shutil.copytree(folders / "plain", tmp_path / "run")
            (folder / file).unlink() if bad is None else (folder / file).write_bytes(bad)
            try:
                message = resumed(folder, like, tmp_path)
            except Exception as error:
                raise AssertionError(f"{file} {how}: {type(error).__name__}: {error}") from error
            if message is not None:
                assert_one_sentence(message, file)
                refused.add(file.name)
            shutil.rmtree(folder)
    assert refused == {"last.ckpt"}, "everything else is written anew"


def test_a_finished_run_whose_best_checkpoint_is_lost_gets_it_back(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "plain", tmp_path / "run")
    best = checkpoints.load(folder / "checkpoints" / "best.ckpt")
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    with pytest.raises(SettingError, match=r"best\.ckpt is damaged .*resume=.* writes it anew from last\.ckpt"):
        evaluate(folder)
    resume([f"resume={folder}"])
    again = checkpoints.load(folder / "checkpoints" / "best.ckpt")
    assert all(torch.equal(again["network"][name], value) for name, value in best["network"].items())
    assert_same_training(folder, folders / "plain")


def test_without_last_checkpoint_it_says_what_still_works(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "plain", tmp_path / "run")
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(SettingError, match=r"last\.ckpt is damaged .*evaluate, predict and export still work"):
        resume([f"resume={folder}", "trainer.max_epochs=9"])
    evaluate(folder)


def test_a_run_that_lost_both_checkpoint_and_settings(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "plain", tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    for content in (b"", b"name: [", b"\xff\xfe", b"- 1\n", b"name: x\n"):
        (folder / ".hydra" / "config.yaml").write_bytes(content)
        with pytest.raises(SettingError, match=r"config\.yaml"):
            resume([f"resume={folder}"])


def test_best_ckpt_is_an_ordinary_file_of_torch(folders: Path) -> None:
    content = torch.load(folders / "plain" / "checkpoints" / "best.ckpt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in content["network"].values())


def test_result_json_holds_a_checksum_of_itself(folders: Path) -> None:
    values = json.loads((folders / "plain" / "result.json").read_text())
    kept = values.pop("crc32")
    assert kept == zlib.crc32(json.dumps(values, sort_keys=True).encode())
    assert runs.read_result(folders / "plain").values == values


@pytest.mark.slow
def test_scripts_refuse_a_damaged_folder_with_status_2(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "plain", tmp_path / "run")
    for name in ("best", "last"):
        path = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    said = refusal(script("evaluate", "run=run", cwd=tmp_path))
    assert "best.ckpt is damaged" in said
    assert "train again" in said
    words = ("run=run", f"input={folders / 'rows.csv'}", "output=told.csv")
    assert "best.ckpt is damaged" in refusal(script("predict", *words, cwd=tmp_path))
    assert not (tmp_path / "told.csv").exists()
    assert "last.ckpt is damaged" in refusal(script("train", "resume=run", "trainer.max_epochs=9", cwd=tmp_path))
    (tmp_path / "run" / "result.json").write_text("{")
    assert "result.json is damaged" in refusal(script("compare", "runs=run", cwd=tmp_path))
