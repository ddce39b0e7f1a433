"""Use an exported classifier: needs NumPy, neither graphc nor llvmlite.

Run by train.py as `python classify.py FOLDER`, with the exported package and test.npz in FOLDER.
"""

import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from digits_classifier import predict  # noqa: E402

test = np.load(folder / "test.npz")
answers = predict(test["images"])
foreign = sorted({"graphc", "llvmlite", "networkx"} & {name.partition(".")[0] for name in sys.modules})
if foreign:
    raise SystemExit(f"the exported classifier loaded {', '.join(foreign)}")
right = int(np.sum(answers == test["labels"]))
share = right / len(answers)
print(f"  {len(answers)} images classified without graphc and llvmlite: {right} right, accuracy {100 * share:.1f} %")
