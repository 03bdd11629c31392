"""Memory and time of processing and embedding as a catalogue grows: `python -m benchmarks.growth [--write]`.

Makes catalogues of parquet shards in Hugging Face form by repeating the sample's pictures, each cropped, brightened
and encoded anew, then runs `process_data` and `embed_catalog` as commands with the sample's backbone: on a part of
the rows, on all of them, on 1 % more (with the embedding cache of the run before), and on the same without a cache.
Peak memory is the largest resident set of the command, by the kernel. Needs a pipeline that has run.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageEnhance

from benchmarks.results import ROOT, write_section
from lib.base.artifacts import file_sha256
from lib.catalog.photo_folder import PhotoFolder

HOME = ROOT / ".cache" / "growth"
SHARD = 5000
SEED = 42
OUTS = ("catalog_img.npy", "catalog_txt.npy", "catalog_meta.parquet", "queries_img.npy", "queries_txt.npy",
        "queries_meta.parquet", "manifest.json")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One command: wall seconds and peak resident bytes."""

    seconds: float
    peak: int
    said: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 50_000], help="a small and a large catalogue")
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    small, large = args.rows
    if small % SHARD or large % SHARD:
        parser.error(f"--rows must be multiples of {SHARD}, the rows of a shard")
    grown = large + large // 100
    HOME.mkdir(parents=True, exist_ok=True)
    make_shards(HOME / "raw", grown)
    for name in ("state", "clean"):
        shutil.rmtree(HOME / name, ignore_errors=True)
    lines = [
        f"`python -m benchmarks.growth --rows {small} {large} --write`, {os.cpu_count()} cores: parquet shards in",
        "the form of Hugging Face, the sample's pictures repeated and perturbed, its backbone. Peak resident memory.",
        "",
        "| rows | process_data | MB | embed_catalog | MB | |",
        "|---:|---:|---:|---:|---:|---|",
    ]
    runs = {}
    for label, rows, state in (
        ("from nothing", small, "small"),
        ("from nothing", large, "state"),
        ("1 % more, with the cache", grown, "state"),
        ("the same from nothing", grown, "clean"),
    ):
        if state == "small":
            shutil.rmtree(HOME / state, ignore_errors=True)
        process, embed = measure(rows, state)
        runs[rows, state] = (process, embed)
        lines.append(
            f"| {rows:,} | {process.seconds:.1f} s | {process.peak / 1e6:,.0f} | {embed.seconds:.1f} s | "
            f"{embed.peak / 1e6:,.0f} | {label}: {embed.said} |"
        )
        print(lines[-1], flush=True)
    same = [digest(grown, "state", name) == digest(grown, "clean", name) for name in OUTS]
    full, more = runs[large, "state"], runs[grown, "state"]
    start = seconds_to_start()
    share = (more[1].seconds - start) / (full[1].seconds - start)
    lines += [
        "",
        f"Peak of {large:,} rows over {small:,}: process_data {full[0].peak / runs[small, 'small'][0].peak:.2f}, "
        f"embed_catalog {full[1].peak / runs[small, 'small'][1].peak:.2f}.",
        f"1 % more rows: {share:.1%} of the time of all, {more[1].seconds / full[1].seconds:.1%} with the",
        f"{start:.1f} s that starting Python and loading the backbone takes. Its files equal those of the run",
        f"without a cache: {'all of them' if all(same) else 'NOT ALL'}.",
    ]
    text = "\n".join(lines)
    print(text)
    if args.write:
        write_section("Growth of a catalogue", text)
    return 0 if all(same) else 1


def make_shards(folder: Path, n_rows: int) -> None:
    """Write `n_rows` rows in shards of `SHARD`; shards that are there are kept."""
    table = pyarrow.csv.read_csv(
        ROOT / "data" / "raw" / "sample" / "catalogue.csv",
        convert_options=pyarrow.csv.ConvertOptions(column_types={"id": pa.string()}),
    ).to_pylist()
    pictures = PhotoFolder(ROOT / "data" / "raw" / "sample" / "images")
    for start in range(0, n_rows, SHARD):
        path = folder / f"rows-{start:07d}-{min(start + SHARD, n_rows):07d}.parquet"
        if path.is_file():
            continue
        rng = np.random.default_rng([SEED, start])
        rows = []
        for number in range(start, min(start + SHARD, n_rows)):
            row = table[number % len(table)]
            copy = number // len(table)
            data = perturbed(pictures.read(row["image"]), rng)
            rows.append(
                {
                    "image": {"bytes": data, "path": f"{copy}-{row['image']}"},
                    "item_id": f"{copy}-{row['id']}",
                    **{name: row[name] for name in ("title", "description", "gender", "category", "color")},
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000)


def perturbed(data: bytes, rng: np.random.Generator) -> bytes:
    """A picture cropped by a few pixels, brightened or darkened, as JPEG."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    left, top, right, bottom = (int(value) for value in rng.integers(0, 8, 4))
    image = image.crop((left, top, image.width - right, image.height - bottom))
    buffer = io.BytesIO()
    ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.85, 1.15))).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(n_rows: int, state: str) -> tuple[Run, Run]:
    """Process and embed the first rows in a folder of their own; `state` names the one that holds the cache."""
    folder = HOME / state
    raw = folder / f"raw-{n_rows}"
    raw.mkdir(parents=True, exist_ok=True)
    for path in sorted((HOME / "raw").glob("*.parquet")):
        if int(path.stem.split("-")[2]) <= n_rows:
            (raw / path.name).unlink(missing_ok=True)
            (raw / path.name).symlink_to(path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"] |= {"source": "huggingface", "metadata": "", "image_root": "", "raw_dir": str(raw)}
    params["data"]["columns"] = {
        "item_id": "item_id",
        "image": "image",
        "text": ["title", "description"],
        "category1": "gender",
        "category2": "category",
        "color": "color",
    }
    params["data"]["product_keys"] = ["item_id"]
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    schema = str(ROOT / params["data"]["attribute_schema"])
    hf, out = f"hf-{n_rows}", f"embedded-{n_rows}"
    process = run(folder, "process_data", "--raw", str(raw), "--schema", schema, "--out", hf)
    backbone = str(ROOT / "artifacts" / "backbone")
    return process, run(folder, "embed_catalog", "--processed", hf, "--backbone", backbone, "--out", out)


def run(folder: Path, stage: str, *arguments: str) -> Run:
    """A stage command with its time and peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} in {folder} ended with {os.waitstatus_to_exitcode(status)}: {said}")
    return Run(time.perf_counter() - started, usage.ru_maxrss * 1024, said.splitlines()[0].partition(": ")[2])


def digest(n_rows: int, state: str, name: str) -> str:
    return file_sha256(HOME / state / f"embedded-{n_rows}" / name)


def seconds_to_start() -> float:
    """Seconds of starting Python and loading the backbone."""
    code = (
        "from pathlib import Path; from lib.encoding.backbone import load_backbone; "
        "from lib.encoding.encoder import Encoder; import lib.encoding.embed; "
        "Encoder(load_backbone(Path('artifacts/backbone')), batch_size=64)"
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        times.append(time.perf_counter() - started)
    return sorted(times)[1]


if __name__ == "__main__":
    sys.exit(main())
