"""Bring the photos that a catalogue names by address into the cache."""

from __future__ import annotations

import hashlib
import ssl
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from lib.base.artifacts import write_bytes
from lib.base.errors import DataError
from lib.base.params import Download
from lib.catalog.download.addresses import Judge, Resolver, public_only, redacted, system_resolver
from lib.catalog.download.connections import Network
from lib.catalog.download.failures import FetchError
from lib.catalog.download.fetch import Fetcher
from lib.catalog.download.photo_index import Failure, IndexWriter, Photo, PhotoIndex
from lib.catalog.download.plan import Plan, Scheduler, Wanted
from lib.catalog.images import ImageError
from lib.catalog.sources.registry import Source

AHEAD = 32
"""Photos looked ahead per worker."""


@dataclass
class Summary:
    """What a run did; `str` says it in a few lines."""

    plan: Plan
    fetched: int = 0
    there: int = 0
    without_row: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, Failure] = field(default_factory=dict)

    def failed(self, failure: Failure) -> None:
        """Count a failure; the first of its reason is kept as an example."""
        self.reasons[failure.reason] += 1
        self.firsts.setdefault(failure.reason, failure)

    def __str__(self) -> str:
        plan, usable = self.plan, self.fetched + self.there
        sampled = f", a sample of {plan.addresses}" if plan.chosen < plan.addresses else ""
        lines = [
            f"{usable} of {plan.chosen} photos are there{sampled}: {self.fetched} fetched now, {self.there} before; "
            f"{self.reasons.total()} failed",
            f"of {plan.rows} rows, {plan.own_photo} name a photo file and {plan.neither} neither file nor address",
        ]
        for reason, count in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])):
            first = self.firsts[reason]
            lines.append(
                f"  {count} × {reason}, first item {first.item_id[:80]!r}, {redacted(first.address)}: "
                f"{repr(first.detail)[1:-1]}"
            )
        if plan.chosen < plan.addresses:
            lines.append("rows out of the sample count as not downloaded: data.max_bad_fraction decides about them")
        if self.without_row:
            lines.append(f"{self.without_row} photos in the cache belong to no row any more: left there, not used")
        return "\n".join(lines)


def download_photos(
    source: Source,
    cache: Path,
    limits: Download,
    *,
    max_pixels: int,
    decoders: int,
    sample: int | None,
    seed: int,
    judge: Judge = public_only,
    resolve: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> Summary:
    """Fetch what is not there yet: `<item>.<ending>` in the cache and a line in its index for each address.

    A photo appears whole or not at all. One that is there, fetched from the address that the row still has, is not
    fetched again; one that failed is. Photos of items that the catalogue does not have any more are left.

    Args:
        source: the catalogue.
        cache: folder of the photos and their index; made where it is missing. One run at a time.
        limits: the section of the parameters.
        max_pixels: of a photo, refused above.
        decoders: photos that are decoded at the same time.
        sample: how many addresses to choose, None for all.
        seed: of the sample, and of the jitter in waits.
        judge: which IP addresses may be asked.
        resolve: how hosts are found.
        tls: see `Network`.

    Raises:
        DataError: every address failed.
        IntegrityError: the index is damaged.
        BusyError: the disk is full; photos that were there are intact.
    """
    index = PhotoIndex(cache)
    plan = Plan(tqdm(source.rows(), desc="rows", unit=" rows", mininterval=1), sample=sample, seed=seed)
    summary = Summary(plan)
    network = Network(per_host=limits.per_host, judge=judge, resolve=resolve, tls=tls)
    fetcher = Fetcher(network, limits, max_pixels=max_pixels, decoders=decoders, rng=np.random.default_rng(seed))
    with (
        IndexWriter(index) as writer,
        tqdm(total=plan.chosen, desc="downloads", mininterval=1) as progress,
        ThreadPoolExecutor(limits.workers) as pool,
    ):
        missing = _missing(plan, index, summary, progress)
        scheduler = Scheduler(missing, per_host=limits.per_host, ahead=AHEAD * limits.workers)
        under_way: dict[Future[Photo | Failure], Wanted] = {}
        try:
            while True:
                while len(under_way) < limits.workers and (wanted := scheduler.next()) is not None:
                    future = pool.submit(_fetch_one, wanted, index, index.claim_stem(wanted.item_id), fetcher)
                    under_way[future] = wanted
                if not under_way:
                    break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    scheduler.finished(under_way.pop(future))
                    _take(future.result(), writer, summary)
                    progress.update()
                    progress.set_postfix(failed=summary.reasons.total(), refresh=False)
        finally:
            network.stop()  # a signal or a full disk: nobody waits for what is under way
    summary.without_row = sum(not plan.names(photo.item_id) for photo in index.photos())
    if summary.reasons and not summary.fetched + summary.there:
        raise DataError(f"{source.name}: no photo could be fetched\n{summary}")
    return summary


def _missing(plan: Plan, index: PhotoIndex, summary: Summary, progress: tqdm[NoReturn]) -> Iterator[Wanted]:
    for wanted in plan.wanted():
        known = index.find(wanted.item_id)
        if isinstance(known, Photo) and known.address == wanted.address and index.is_there(known):
            summary.there += 1
            progress.update()
        else:
            yield wanted


def _fetch_one(wanted: Wanted, index: PhotoIndex, stem: str, fetcher: Fetcher) -> Photo | Failure:
    """In a worker: the photo into the cache. What the index says of an older one holds no more, by its address."""
    try:
        data, ending = fetcher.fetch(wanted.address)
    except (FetchError, ImageError) as error:
        return Failure(item_id=wanted.item_id, address=wanted.address, reason=error.reason, detail=str(error))
    file = f"{stem}.{ending}"
    write_bytes(index.folder / file, data)
    return Photo(
        item_id=wanted.item_id,
        address=wanted.address,
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
    )


def _take(entry: Photo | Failure, writer: IndexWriter, summary: Summary) -> None:
    replaced = writer.index.find(entry.item_id)
    writer.record(entry)
    if isinstance(entry, Failure):
        summary.failed(entry)
    else:
        summary.fetched += 1
        if isinstance(replaced, Photo) and replaced.file != entry.file:
            (writer.index.folder / replaced.file).unlink(missing_ok=True)
