"""Make `import torchvision` work beside a CPU build of torch.

The registry's torchvision wheel is built against CUDA. Beside a CPU-only torch its compiled operators
cannot load, and its Python side then fails at import with "operator torchvision::nms does not exist",
because it registers fake kernels for operators that nobody has defined. open_clip imports torchvision
for its image transforms only, which need none of these operators. Defining the two schemas, and
nothing else, lets the import pass; calling them would still raise. Where the real operators load
(a CUDA machine, or a CPU build of torchvision) nothing is done. Import this module before open_clip.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _real_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # nothing installed: let the import say so itself
    for library in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return True


_library: torch.library.Library | None = None
if not _real_operators_load():
    _library = torch.library.Library("torchvision", "DEF")  # kept alive: its end undoes the definitions
    for _schema in _SCHEMAS:
        _library.define(_schema)
