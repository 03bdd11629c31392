"""Linear-probe ceiling: can a linear classifier read an attribute off the frozen embeddings at all?

A probe near chance says that no head on these embeddings can be expected to gain on that attribute
(Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes").
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lib.base.artifacts import FloatArray
from lib.evaluation.measure import Measured

IntArray = npt.NDArray[np.int64]

MIN_ITEMS = 20
"""Known train items below which a probe says nothing."""
MAX_ITEMS = 6_000
"""Known train items used at most; they bound the time."""
_ITERATIONS = 300
_TOLERANCE = 1e-3
"""Of the gradient; ten times scikit-learn's, because a ceiling needs no further digits."""
_INVERSE_PENALTY = 0.1  # for standardised inputs; weak enough to fit, strong enough for rare classes


@dataclass(frozen=True)
class Probe:
    """Accuracy of one attribute's probe.

    Attributes:
        splits: split -> per item: 1 where the probe names its value, else 0; as chance whether its value is the
            most frequent one of train; as ceiling whether train has its value at all. NaN where it is unknown.
        skipped: split -> why there is no accuracy.
    """

    splits: dict[str, Measured]
    skipped: dict[str, str]


def linear_probe(
    images: FloatArray,
    values: IntArray,
    held_out: Mapping[str, tuple[FloatArray, IntArray]],
    *,
    rng: np.random.Generator,
) -> Probe:
    """Fit a logistic regression on train embeddings and measure its accuracy on other splits.

    Args:
        images: (n_items, dim) float32 train embeddings.
        values: (n_items,) value codes, -1 = unknown (left out).
        held_out: split -> embeddings and value codes. A value that train does not have counts as wrong.
        rng: draws `MAX_ITEMS` of more known train items; a value that is not drawn keeps its first one.

    Returns:
        `Probe`: every split of `held_out` is in exactly one of its two dictionaries.
    """
    # Imported here: scikit-learn takes a second to load and only this function needs it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.flatnonzero(values >= 0)
    classes, counts = np.unique(values[rows], return_counts=True)
    reason = None
    if len(rows) < MIN_ITEMS:
        reason = f"{len(rows)} train items with a known value, a probe needs {MIN_ITEMS}"
    elif len(classes) < 2:
        reason = "only one value in train, nothing to tell apart"
    if reason is not None:
        return Probe({}, dict.fromkeys(held_out, reason))
    majority = classes[counts.argmax()]
    if len(rows) > MAX_ITEMS:
        first = rows[np.unique(values[rows], return_index=True)[1]]
        drawn = rng.choice(rows, size=MAX_ITEMS, replace=False)
        rows = np.union1d(drawn, first[~np.isin(values[first], values[drawn])])
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS, tol=_TOLERANCE)
    )
    with warnings.catch_warnings():
        # Stopping early costs a little accuracy of a ceiling; the iterations bound the time instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(np.asarray(images[rows], dtype=np.float32), values[rows])
    found = Probe({}, {})
    for split, (split_images, split_values) in held_out.items():
        known = np.flatnonzero(split_values >= 0)
        if not len(known):
            found.skipped[split] = "no query with a known value"
            continue
        wanted = split_values[known]
        predicted = probe.predict(np.asarray(split_images[known], dtype=np.float32))
        parts = np.full((3, len(split_values)), np.nan)
        parts[:, known] = predicted == wanted, wanted == majority, np.isin(wanted, classes)
        found.splits[split] = Measured(*parts)
    return found
