"""The handwritten digits that ship inside scikit-learn: 1,797 images of 8x8 pixels (E. Alpaydin, C. Kaynak, 1998)."""

import numpy as np


def load(seed=0):
    """Train and test arrays: images float32 [n, 64] in 0..1, labels int64 [n]; a fifth is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("this example needs scikit-learn: pip install 'graphc[examples]'") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    held_out = len(images) // 5
    return images[held_out:], labels[held_out:], images[:held_out], labels[:held_out]
