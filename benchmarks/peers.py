"""This project beside the machine's limit and its peers: `python -m benchmarks.peers [--quick] [--write]`.

Embedding, exact search, mining, evaluation and pair building on the same images, embeddings and machine, every
contender in a process of its own, in turns. Peers are packages of the registry in an environment of their own
(`make peers`); one that is missing or fails is in the table with the reason. `--write` also draws
`benchmarks/peers.png`. Needs the sample's pictures (`dvc repro make_sample`).

Limits: of embedding, the backbone's forward passes on inputs that are ready (ViT-B/32, random weights, batches of
64); of everything else, float32 matrix multiplication by the faster of numpy's and torch's library, measured in the
same process before, between and after the repetitions. The best of the repetitions counts, of ours, of the peers and
of the limit: what else runs on a shared machine only adds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peer_data
from benchmarks.contenders import PEERS_PYTHON, Peers
from benchmarks.figures import KEPT, Figure, keep, markdown, terminal
from benchmarks.peer_chart import draw_peers
from benchmarks.peer_parts import BATCH, DIM, MIDDLING, SHORT, Sizes, embedding, evaluation, mining, pairs, search
from benchmarks.results import ROOT, write_section
from lib.base.artifacts import write_bytes
from lib.base.params import load_params

CHART = ROOT / "benchmarks" / "peers.png"
FULL = Sizes()
QUICK = Sizes(128, 1, 10_000, 512, 2000, 1000, 64, 10_000, 1)
PARTS = ("embedding", "search", "mining", "evaluation", "pairs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--peers-python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers' environment"
    )
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    if args.write and (args.quick or set(args.only) != set(PARTS)):
        parser.error("--write needs all parts at their full size")
    sizes = QUICK if args.quick else FULL
    threads = load_params(ROOT / "params.yaml").runtime.threads
    peers = Peers(args.peers_python, threads=threads)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        for part in PARTS:
            if part in args.only:
                print(part, file=sys.stderr, flush=True)
                figures += measure(part, sizes, peers, Path(name))
                keep(part, [figure for figure in figures if figure.part == part])
    print(terminal(figures))
    if args.write:
        write_section("Limits and peers", section(figures, sizes, peers))
        write_bytes(CHART, draw_peers(figures))
        for part in PARTS:
            keep(part, [figure for figure in figures if figure.part == part], path=KEPT)
    return 0


def measure(part: str, sizes: Sizes, peers: Peers, home: Path) -> list[Figure]:
    """Make what a part needs, run its contenders, and tell what came out."""
    if part == "embedding":
        backbone, checkpoint = peer_data.write_checkpoint(home / "backbone")
        peer_data.write_images(home / "all" / "images", sizes.images + BATCH)
        files = peer_data.image_files(home / "all" / "images")
        (home / "images").mkdir()
        for path in files[: sizes.images]:
            (home / "images" / path.name).hardlink_to(path)
        # the last batch are the queries; what is added goes between, as new rows of train do
        last, added = files[sizes.images - BATCH : sizes.images], files[sizes.images :]
        before = files[: sizes.images - BATCH]
        peer_data.write_processed([*before, *last], home / "processed", n_queries=BATCH)
        peer_data.write_processed([*before, *added, *last], home / "grown", n_queries=BATCH)
        return embedding(sizes, peers, home, backbone=backbone, checkpoint=checkpoint)
    if not (home / "rows").is_dir():
        (home / "rows").mkdir()
        peer_data.write_rows(
            home / "rows",
            items=sizes.items,
            queries=sizes.queries,
            searched=sizes.searched,
            anchors=sizes.anchors,
            dim=DIM,
        )
    return {"search": search, "mining": mining, "evaluation": evaluation, "pairs": pairs}[part](
        sizes, peers, home / "rows"
    )


def section(figures: Sequence[Figure], sizes: Sizes, peers: Peers) -> str:
    """The section of `RESULTS.md`."""
    libraries = ", ".join(
        f"{name} {peers.versions[name]}" for name in ("torch", "open_clip_torch") if name in peers.versions
    )
    repeats = f"{sizes.repeats} repetitions each (embedding: one; search: {SHORT * sizes.repeats}; evaluation: "
    return (
        f"`python -m benchmarks.peers --write`, {os.cpu_count()} cores, {peers.threads} threads, the best of "
        f"{sizes.rounds} rounds in turns\nof {repeats}{MIDDLING * sizes.repeats}); a process each, its peak resident "
        f"memory. Peers with {libraries or 'nothing'}.\n\n"
        f"{markdown(figures)}\n\n![This project, its limit and its peers](peers.png)"
    )


if __name__ == "__main__":
    sys.exit(main())
