"""Images against their peers: `MLPLAB_DATA=... python benchmarks/images.py [--repeats 7] [--threads 0]`.

Real Fashion-MNIST. Each ratio is the median of neighbouring pairs taken in turns, over stretches of training steps:

* `loader_64`, `loader_bf16_64`, `loader_bf16_256`: our loader and network, 784-512-512-10 with Adam, against a plain
  loop over torchvision's data set with DataLoader and ToTensor.
* `bound`: the same against what cannot be saved: its matrix products on data at hand, and Adam's update alone.
* `template`: a whole epoch of 784-64-128-64-10 with batch normalization at batch 128 through our trainer, against a
  LightningModule with torchmetrics, self.log and per-image transforms, as common templates have it.
* `whole_epoch_*`: an epoch of `python src/train.py` with validation, metrics, TensorBoard and checkpoints, against the
  bare loop of our own loader and network.
* `memory`: most memory that such a process took.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from measure import BENCHMARKS, TRAIN, Timed, claim, clock, interleave, limit_threads, process, ratio, record

STEPS = 120
"""Steps of one stretch."""
WIDE = ("data=fashion_mnist", "model.hidden=[512,512]", "data.scaling=minmax", "accelerator=cpu")


def network(*sizes: int) -> Any:
    """A plain ReLU network."""
    from torch import nn

    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def plain(batch: int, device: str = "cpu") -> Timed:
    """A loop as tutorials write it: an image at a time from the data set, ToTensor, default collation."""
    import torch
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    data = datasets.FashionMNIST(os.environ["MLPLAB_DATA"], transform=transforms.ToTensor())
    loader = DataLoader(Subset(data, range(STEPS * batch)), batch, shuffle=True)
    model, loss_of = network(784, 512, 512, 10).to(device), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def steps() -> None:
        for x, y in loader:
            loss = loss_of(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return lambda: clock(steps)


def ours(batch: int, precision: str, device: str = "cpu", n: int = STEPS) -> Timed:
    """Our loader, preprocessing and network, and the optimizer that our settings build; no trainer."""
    import torch
    import torch.nn.functional as F

    from mlplab.compose import load_config
    from mlplab.data.batches import Batches
    from mlplab.data.prepared import prepare
    from mlplab.models.build import build
    from mlplab.training import optimizers
    from mlplab.training.evaluation import number_format

    config = load_config(*WIDE, f"accelerator.precision={precision}", f"data.batch_size={batch}")
    part = prepare(config.data).parts["train"].to(torch.device(device))
    model = build(config, 784, 10).to(device)
    optimizer = optimizers.build(config.optimizer, model.parameters(), fused=True)
    epoch = iter(range(10**6))
    batches = Batches(part, batch, 0, epoch=lambda: next(epoch), limit=n or None)

    def steps() -> None:
        for one in batches:
            with number_format(precision, torch.device(device)):
                logits = model(part.inputs(one.x))
            loss = F.cross_entropy(logits.float(), one.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return lambda: clock(steps)


def bound(batch: int, dtype: str) -> Timed:
    """The eight matrix products of a step, in place and without autograd, and Adam's pass over its memory."""
    import torch

    kind = {"32": torch.float32, "bf16": torch.bfloat16}[dtype]
    sizes = [(784, 512), (512, 512), (512, 10)]
    products = []
    for i, (n_in, n_out) in enumerate(sizes):
        x, w, g = (torch.randn(*s).to(kind) for s in ((batch, n_in), (n_out, n_in), (batch, n_out)))
        products += [(x, w.T, torch.empty(batch, n_out, dtype=kind)), (g.T, x, torch.empty(n_out, n_in, dtype=kind))]
        if i:
            products.append((g, w, torch.empty(batch, n_in, dtype=kind)))
    model = network(784, 512, 512, 10)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def steps() -> None:
        for _ in range(STEPS):
            for a, b, out in products:
                torch.mm(a, b, out=out)
            optimizer.step()

    return lambda: clock(steps)


def against(name: str, target: float, repeats: int, peer: Timed, mine: Timed, batch: int) -> dict[str, Any]:
    """How many times as fast as a peer."""
    mine(), peer()
    found = interleave({"peer": peer, "ours": mine}, repeats)
    ms = {f"{k}_ms_a_step": 1000 * median(v) / STEPS for k, v in found.items()}
    return claim(name, ratio(found["peer"], found["ours"]), target, False, repeats, batch=batch, **ms)


def near_bound(repeats: int) -> dict[str, Any]:
    """How far above the bound, in both number formats; the target is on float32."""
    sides = {"ours": ours(64, "32"), "bound": bound(64, "32"), "ours_bf16": ours(64, "bf16-mixed")}
    sides["bound_bf16"] = bound(64, "bf16")
    for side in sides.values():
        side()
    found = interleave(sides, repeats)
    more = {f"{k}_ms_a_step": 1000 * median(v) / STEPS for k, v in found.items()}
    more["bf16_ratio"] = ratio(found["ours_bf16"], found["bound_bf16"])
    return claim("step / bound", ratio(found["ours"], found["bound"]), 1.3, True, repeats, **more)


def template(repeats: int) -> dict[str, Any]:
    """An epoch of a small network through Lightning, theirs and ours."""
    import lightning.pytorch as L
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Subset
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision import datasets, transforms

    from mlplab.compose import load_config
    from mlplab.data.prepared import prepare
    from mlplab.training.fit import fit, quiet_lightning

    class Template(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = [nn.Flatten()]
            for n_in, n_out in ((784, 64), (64, 128), (128, 64)):
                layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]
            self.net = nn.Sequential(*layers, nn.Linear(64, 10))
            self.mean, self.accuracy = MeanMetric(), MulticlassAccuracy(10, average="micro")

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            logits = self.net(x)
            loss = nn.functional.cross_entropy(logits, y)
            self.mean(loss)
            self.accuracy(logits.argmax(1), y)
            self.log("train/loss", self.mean, on_step=False, on_epoch=True)
            self.log("train/acc", self.accuracy, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 1e-3)

    batch, rows = 128, 128 * STEPS
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])
    images = Subset(datasets.FashionMNIST(os.environ["MLPLAB_DATA"], transform=change), range(rows))
    config = load_config(
        "data=fashion_mnist", f"data.validation={60000 - rows}", "data.validation_rows=last", "logger=none",
        f"data.batch_size={batch}", "model.hidden=[64,128,64]", "regularization=batch_norm", "trainer.max_epochs=1",
        "accelerator=cpu",
    )  # fmt: skip
    prepared = prepare(config.data)
    prepared.parts["val"] = type(prepared.parts["val"])(*(v[:0] for v in _fields(prepared.parts["val"])))

    def theirs() -> None:
        with quiet_lightning():
            trainer = L.Trainer(
                accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(Template(), DataLoader(images, batch, shuffle=True))

    sides = {"template": lambda: clock(theirs), "ours": lambda: clock(lambda: fit(config, prepared, "cpu", None, []))}
    for side in sides.values():
        side()
    found = interleave(sides, repeats)
    ms = {f"{k}_ms_a_step": 1000 * median(v) / STEPS for k, v in found.items()}
    return claim("template epoch / ours", ratio(found["template"], found["ours"]), 6, False, repeats, batch=batch, **ms)


def _fields(part: Any) -> tuple[Any, Any, Any]:
    return part.x, part.y, part.rows


def whole_epoch(precision: str) -> Callable[[int], dict[str, Any]]:
    """An epoch of train.py with everything on against the bare loop over the same 50 000 images."""

    def measure(repeats: int) -> dict[str, Any]:
        bare, epochs = ours(64, precision, n=0), 4

        def script() -> float:
            with tempfile.TemporaryDirectory() as folder:
                options = (*WIDE, f"accelerator.precision={precision}", f"trainer.max_epochs={epochs}")
                process(TRAIN, *options, f"hydra.run.dir={folder}/run", folder=Path(folder))
                with (Path(folder) / "run/metrics.csv").open() as file:
                    ends = [float(row["seconds"]) for row in csv.DictReader(file)]
            return median(b - a for a, b in pairwise(ends))

        bare()
        found = interleave({"script": script, "bare": bare}, repeats)
        seconds = {f"{k}_s": median(v) for k, v in found.items()}
        name = f"epoch of train.py / bare loop, {precision}"
        return claim(name, ratio(found["script"], found["bare"]), 1.25, True, repeats, **seconds)

    return measure


def memory(repeats: int) -> dict[str, Any]:
    """Most memory of a training process, validation, TensorBoard and checkpoints on; in GB, not a ratio."""
    with tempfile.TemporaryDirectory() as folder:
        process(TRAIN, *WIDE, "trainer.max_epochs=1", f"hydra.run.dir={folder}/run", folder=Path(folder))
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return claim("peak memory in GB", gigabytes, 1.2, True, 1)


def gpu(repeats: int) -> dict[str, Any]:
    """The plain loop against ours on a GPU."""
    import torch

    if not torch.cuda.is_available():
        print("gpu: skipped, this machine has none")
        return {"skipped": "no GPU on the machine"}
    name = torch.cuda.get_device_name(0)
    return {**against("gpu, plain / ours", 2, repeats, plain(64, "cuda"), ours(64, "32", "cuda"), 64), "gpu": name}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "memory": memory,  # first: it reads the largest of all processes that were started
    "loader_64": lambda n: against("plain / ours", 2, n, plain(64), ours(64, "32"), 64),
    "loader_bf16_64": lambda n: against("plain / ours in bf16", 3.5, n, plain(64), ours(64, "bf16-mixed"), 64),
    "loader_bf16_256": lambda n: against("plain / ours in bf16", 6, n, plain(256), ours(256, "bf16-mixed"), 256),
    "bound": near_bound,
    "template": template,
    "whole_epoch_32": whole_epoch("32"),
    "whole_epoch_bf16": whole_epoch("bf16-mixed"),
    "gpu": gpu,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=0, help="of torch on every side; 0: as installed")
    parser.add_argument("--record", type=Path, default=BENCHMARKS / "images.json")
    chosen = parser.parse_args()
    if "MLPLAB_DATA" not in os.environ:
        raise SystemExit("MLPLAB_DATA must name the folder that holds FashionMNIST/raw")
    limit_threads(chosen.threads)
    started = time.perf_counter()
    record(chosen.record, {name: PARTS[name](chosen.repeats) for name in chosen.only})
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
