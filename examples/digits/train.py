"""Train a 64-128-10 classifier of handwritten digits: the whole training step is one static graph and one native call.

Run with `make demo` or `python examples/digits/train.py [--seed N] [--epochs N] [--quick]`. Then the same code runs
dynamically (and in PyTorch, where it is installed), the two are compared, and the classifier is exported and used by a
script of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from data import load
from tqdm import tqdm

import graphc as gx
from graphc import nn, optim
from graphc.data import DataLoader, TensorDataset

HERE = Path(__file__).parent


class Training:
    """A model, its optimiser and its training step, from a seed."""

    def __init__(self, seed):
        gx.random.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.optimizer = optim.Adam(self.model.parameters(), lr=3e-3)

    def step(self, x, y):
        """Forward, loss, backward, update of all parameters."""
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def predict(self, x):
        """The most likely class of each image."""
        return self.model(x).argmax(axis=1)


def batches(images, labels, seed):
    """Batches of 64 in an order that depends on seed and epoch; the short last one is dropped."""
    return DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True, seed=seed, drop_last=True)


def run(step, loader, epochs, title):
    """All epochs; the losses, and the median seconds of a step."""
    losses, seconds = [], []
    with tqdm(total=epochs * len(loader), desc=title, unit="step", file=sys.stdout, ncols=100) as bar:
        for _ in range(epochs):
            for x, y in loader:
                start = time.perf_counter()
                loss = step(x, y)
                seconds.append(time.perf_counter() - start)
                losses.append(float(loss))
                bar.update()
            bar.set_postfix(loss=f"{np.mean(losses[-len(loader) :]):.4f}")
    return np.array(losses), float(np.median(seconds))


def accuracy(predict, images, labels):
    """Share of right answers."""
    return float(np.mean(np.asarray(predict(images)) == labels))


def torch_step(training, x, y):
    """Seconds of one eager PyTorch step from the same parameters, or None where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    with torch.no_grad():
        for mine, theirs in zip(training.model.parameters(), model.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(mine.detach().numpy()))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)

    def step():
        loss = torch.nn.functional.cross_entropy(model(xs), ys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    times = []
    for _ in range(200):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def table(rows, head):
    """Aligned columns."""
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(str(c).ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [head, *rows]]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="one epoch, whatever accuracy that gives")
    options = parser.parse_args()
    if options.quick:
        options.epochs = 1
    images, labels, test_images, test_labels = load()
    print(f"{len(images)} training and {len(test_images)} test images of 8x8 pixels, 10 classes\n")

    static = Training(options.seed)
    step = gx.compile(static.step)
    start = time.perf_counter()
    step.trace(images[:64], labels[:64])
    traced = time.perf_counter() - start
    losses, seconds = run(step, batches(images, labels, options.seed), options.epochs, "static ")
    predict = gx.compile(static.predict)
    share = accuracy(predict, test_images, test_labels)
    print(f"test accuracy {100 * share:.1f} %, after {step.stats.compiles} compilation\n")

    dynamic = Training(options.seed)
    dynamic_losses, dynamic_seconds = run(
        dynamic.step, batches(images, labels, options.seed), options.epochs, "dynamic"
    )
    difference = float(np.max(np.abs(losses - dynamic_losses) / np.abs(dynamic_losses)))
    print(f"largest relative difference of the {len(losses)} losses: {difference:.1e}\n")

    compare(static, dynamic, step, (images[:64], labels[:64]), seconds, dynamic_seconds, traced)
    export(predict, test_images, test_labels, share)
    if (share < 0.97 and not options.quick) or difference > 1e-5:
        raise SystemExit("the demo did not reach its goals: accuracy 97 %, losses equal to 1e-5")


def compare(static, dynamic, step, batch, seconds, dynamic_seconds, traced):
    """Print what the static graph saves."""
    with gx.count_ops() as count:
        dynamic.step(*batch)
    report = step.inspect(*batch)
    calls = sum(k.calls for k in report.kernels)
    eager = torch_step(static, *batch)
    rows = [
        (
            "time of a step",
            f"{dynamic_seconds * 1e6:.0f} us",
            f"{seconds * 1e6:.0f} us",
            eager and f"{eager * 1e6:.0f} us",
        ),
        ("calls from Python", f"{count.calls} ops", "1", "-"),
        ("native kernels", "-", f"{calls}", "-"),
        ("temporaries", f"{count.temporaries} arrays", "1 arena", "-"),
        ("bytes of them", f"{count.bytes:,}", f"{report.arena_bytes:,}", "-"),
        ("tracing, once", "-", f"{traced * 1e3:.0f} ms", "-"),
    ]
    columns = 4 if eager else 3
    head = ("one training step", "dynamic", "static", "PyTorch eager")
    print(table([r[:columns] for r in rows], head[:columns]), "\n")


def export(predict, images, labels, share):
    """Write the classifier as a package and let a script in a new process use it."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "test.npz", images=images, labels=labels)
        predict.export(Path(folder) / "digits_classifier", images)
        size = sum(f.stat().st_size for f in (Path(folder) / "digits_classifier").rglob("*") if f.is_file())
        print(f"exported to a package of {size / 1024:.0f} KiB; a new process imports it:")
        done = subprocess.run(
            [sys.executable, HERE / "classify.py", folder], check=True, capture_output=True, text=True
        )
    print(done.stdout)
    expected = f" {round(share * len(labels))} right"
    if expected not in done.stdout:
        raise SystemExit(f"the exported classifier does not agree with the compiled one, which had{expected}")


if __name__ == "__main__":
    main()
