"""Load everything that a search needs from the folders that the pipeline wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.catalog.attributes import load_attribute_schema
from lib.embeddings import EmbeddingSet, load_embedding_set
from lib.encoding.backbone import load_backbone
from lib.errors import IntegrityError
from lib.serving.catalogue import ServedCatalogue
from lib.serving.query_encoder import QueryEncoder
from lib.serving.searcher import Model, Searcher
from lib.training.protocol_model import ProtocolModel, load_model


@dataclass(frozen=True)
class Places:
    """Folders of the pipeline; the defaults are where `dvc.yaml` puts them."""

    processed: Path = Path("data/processed/hf")
    schema: Path = Path("lib/catalog/attributes.yaml")
    backbone: Path = Path("artifacts/backbone")
    baseline: Path = Path("artifacts/retrieval/baseline")
    protocol: Path = Path("artifacts/retrieval/protocol")
    checkpoint: Path = Path("artifacts/protocol/checkpoints/best.pt")
    index: Path = Path("artifacts/index")
    compatibility: Path = Path("artifacts/compatibility")

    @classmethod
    def under(cls, root: Path) -> Places:
        """The same places under another repository."""
        return cls(**{name: root / path for name, path in vars(cls()).items()})


def open_searcher(places: Places) -> Searcher:
    """Verify and load catalogue, models and indexes.

    Raises:
        IntegrityError: something is missing, damaged, or was made from other embeddings.
    """
    backbone = load_backbone(places.backbone)
    baseline = load_embedding_set(places.baseline)
    if baseline.fingerprint != backbone.fingerprint:
        raise IntegrityError(
            f"{places.baseline}: expected embeddings of backbone {backbone.fingerprint[:12]}, got "
            f"{baseline.fingerprint[:12]}; run `dvc repro embed_catalog`"
        )
    embedded: dict[Model, EmbeddingSet] = {"baseline": baseline}
    heads = _open_protocol(places, baseline, embedded)
    catalogue = ServedCatalogue(baseline, places.processed, load_attribute_schema(places.schema))
    return Searcher(catalogue, embedded, QueryEncoder(backbone), heads=heads)


def _open_protocol(
    places: Places, baseline: EmbeddingSet, embedded: dict[Model, EmbeddingSet]
) -> ProtocolModel | None:
    if not places.protocol.exists():
        return None
    protocol = load_embedding_set(places.protocol)
    if list(protocol.catalog.meta["item_id"]) != list(baseline.catalog.meta["item_id"]):
        raise IntegrityError(f"{places.protocol}: other items than {places.baseline}; run `dvc repro embed_protocol`")
    embedded["protocol"] = protocol
    return load_model(places.checkpoint, dim=baseline.catalog.images.shape[1], backbone=baseline.fingerprint)
