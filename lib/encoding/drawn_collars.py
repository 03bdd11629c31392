"""Warm-up of what reads collars, on drawn garments.

Some hundred labelled photographs do not teach six convolutions what a collar is. Drawn garments have as many labels
as one likes; they look different, but a neckline is a neckline, and convolutions that tell the drawn ones apart need
fewer photographs to tell those apart that were worn. The classifier is thrown away; no drawn garment enters anything
else.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from tqdm import tqdm

from lib.base.params import BackboneTraining
from lib.encoding.collars import collar_places, cut_out
from lib.encoding.drawn_necks import draw_necks
from lib.encoding.random_crops import normalise, random_collars, to_bytes, to_unit
from lib.encoding.schedule import Descent

EPOCHS = 30
PICTURE = 128
"""Pixels a side of the drawn pictures."""
SMOOTHING = 0.1
_SEED = 0xC011A5
"""Added to the seed: a catalogue that is drawn itself has other garments."""
_BLOCK = 256
"""Products asked for at once."""

Collars = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def draw_collars(n: int, *, side: int, seed: int, workers: int) -> Collars:
    """Cut-outs of `n` drawn pictures, (n, side, side, 3), and their necklines, (n,) codes in sorted order.

    The same for any number of worker processes.
    """
    work = partial(draw_necks, seed=_SEED + seed, size=PICTURE)
    cut: list[npt.NDArray[np.uint8]] = []
    necklines: list[str] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, tqdm(total=n, desc="draw collars") as bar:
        first = 0
        while len(necklines) < n:
            found = [one for product in pool.map(work, range(first, first + _BLOCK), chunksize=8) for one in product]
            first += _BLOCK
            pixels = to_unit(np.stack([picture for picture, _ in found]))
            cut.append(to_bytes(cut_out(pixels, collar_places(normalise(pixels)), side)))
            necklines += [neckline for _, neckline in found]
            bar.update(min(len(found), n - bar.n))
    return np.concatenate(cut)[:n], np.unique(necklines[:n], return_inverse=True)[1].astype(np.int64)


def warm_up(trunk: Any, drawn: Collars, side: int, params: BackboneTraining) -> None:
    """Train the trunk's collar column in place to tell the necklines of drawn garments apart.

    Args:
        trunk: `PlainConvNet` with `collar`.
        drawn: see `draw_collars`; at least two of them.
        side: pixels a side of the crops.
        params: batch size, learning rate and its schedule, weight decay, seed.
    """
    collars, codes = drawn
    batch_size = min(params.batch_size, len(codes))
    n_batches = len(codes) // batch_size
    classifier = torch.nn.Linear(trunk.n_collar_features, int(codes.max()) + 1)
    trained = torch.nn.ModuleList([trunk.collar, classifier])
    descent = Descent(trained, params, n_steps=EPOCHS * n_batches)
    rng = np.random.default_rng([params.seed, 1])
    trunk.collar.to(memory_format=torch.channels_last)
    trained.train()
    with tqdm(total=EPOCHS * n_batches, desc="warm up collars", unit="batch", mininterval=1) as bar:
        for _ in range(EPOCHS):
            order = rng.permutation(len(codes))
            for start in range(0, n_batches * batch_size, batch_size):
                rows = order[start : start + batch_size]
                shown = normalise(random_collars(to_unit(collars[rows]), side, rng))
                read = trunk.read_collars(shown.contiguous(memory_format=torch.channels_last))
                logits = classifier(trunk.dropout(read))
                loss = functional.cross_entropy(logits, torch.from_numpy(codes[rows]), label_smoothing=SMOOTHING)
                descent.step(loss)
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    trunk.collar.to(memory_format=torch.contiguous_format)
