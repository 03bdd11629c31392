"""Load everything that a search needs from the folders that the pipeline wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lib.base.artifacts import FloatArray, file_sha256, sequence_sha256
from lib.base.errors import IntegrityError
from lib.base.params import load_params
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.partner_kinds import PARTNERS, load_partner_kinds
from lib.catalog.processed import read_rows
from lib.embeddings import EmbeddingSet, load_embedding_set
from lib.encoding.backbone import load_backbone
from lib.retrieval.index import load_indexes
from lib.serving.catalogue import ServedCatalogue
from lib.serving.query import Model
from lib.serving.query_encoder import QueryEncoder
from lib.serving.searcher import Searcher
from lib.training.compatibility_head import load_head
from lib.training.trained_model import load_model


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
        """The same places under another repository; the schema is the one that its parameters name.

        Raises:
            ConfigError: they cannot be used.
        """
        places = cls(**{name: root / path for name, path in vars(cls()).items()})
        params = root / "params.yaml"
        if not params.is_file():
            return places
        return replace(places, schema=root / load_params(params).data.attribute_schema)


def open_searcher(places: Places) -> Searcher:
    """Verify and load catalogue, models and indexes.

    Raises:
        IntegrityError: something is missing, damaged, or was made from other embeddings; the message has the remedy.
    """
    backbone = load_backbone(places.backbone)
    baseline = load_embedding_set(places.baseline)
    if baseline.fingerprint != backbone.fingerprint:
        raise IntegrityError(
            f"{places.baseline}: expected embeddings of backbone {backbone.fingerprint[:12]}, got "
            f"{baseline.fingerprint[:12]}; run `dvc repro embed_catalog`"
        )
    protocol = load_embedding_set(places.protocol)
    expected = sequence_sha256([baseline.fingerprint, file_sha256(places.checkpoint)])
    if protocol.fingerprint != expected or list(protocol.catalog.meta["item_id"]) != list(
        baseline.catalog.meta["item_id"]
    ):
        raise IntegrityError(
            f"{places.protocol}: expected the items of {places.baseline} seen through {places.checkpoint} "
            f"({expected[:12]}), got {protocol.fingerprint[:12]}; run `dvc repro embed_protocol`"
        )
    heads = load_model(places.checkpoint, dim=baseline.catalog.images.shape[1], backbone=baseline.fingerprint)
    indexes = load_indexes(places.index, protocol)
    embedded: dict[Model, EmbeddingSet] = {"baseline": baseline, "protocol": protocol}
    _check_pictures(places, baseline)
    catalogue = ServedCatalogue(baseline, places.processed, load_attribute_schema(places.schema))
    return Searcher(
        catalogue,
        embedded,
        QueryEncoder(backbone),
        heads=heads,
        indexes=dict(indexes.items()),
        default_index=next(iter(indexes)),
        compatibility=_open_compatibility(places, baseline),
        partners=load_partner_kinds(places.compatibility / PARTNERS),
    )


def _check_pictures(places: Places, baseline: EmbeddingSet) -> None:
    """Refuse a processed catalogue without the items: results would be shown without their pictures."""
    there = set(read_rows(places.processed, columns=["item_id"])["item_id"])
    for meta in (baseline.catalog.meta, baseline.queries.meta):
        missing = [item_id for item_id in meta["item_id"] if item_id not in there]
        if missing:
            raise IntegrityError(
                f"{places.processed}: item '{missing[0]}' ({len(missing)} in all) of {places.baseline} is not there; "
                "run `dvc repro`"
            )


def _open_compatibility(
    places: Places, baseline: EmbeddingSet
) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]] | None:
    """The gallery as the compatibility head sees it, and the head; None where no pairs were there to learn from."""
    best = places.compatibility / "checkpoints/best.pt"
    if not best.exists():
        return None
    gallery = baseline.catalog.images
    head = load_head(best, in_dim=gallery.shape[1], backbone=baseline.fingerprint)
    return head.encode(gallery), head.encode
