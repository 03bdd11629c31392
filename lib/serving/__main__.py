"""`python -m lib.serving serve`, `search` and `query-two-tower`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from lib.base.errors import ConfigError, PipelineError
from lib.serving.guards import Guard
from lib.serving.opening import Places, open_searcher

KEY_VARIABLE = "FASHION_SEARCH_API_KEY"
DRAIN_SECONDS = 20


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0, or the exit code of an error that is said in one line."""
    parser = argparse.ArgumentParser(prog="python -m lib.serving", description="Search the catalogue.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(commands.add_parser("serve", help="the search server with its page"))
    _add_search(commands.add_parser("search", help="one search on the command line"))
    _add_two_tower(commands.add_parser("query-two-tower", help="find photos of the shop by one of a customer"))
    for command in commands.choices.values():
        command.add_argument("--root", type=Path, default=Path(), help="the repository whose artifacts are used")
    args = parser.parse_args(argv)
    try:
        return {"serve": serve, "search": search, "query-two-tower": query_two_tower}[args.command](args)
    except PipelineError as error:
        print(f"error: {args.command}: {error}", file=sys.stderr)
        return error.exit_code


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help=f"other than loopback needs {KEY_VARIABLE}")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the backbone and exact searches")


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", help="what is looked for, in words")
    parser.add_argument("--image", type=Path, help="a picture's file")
    parser.add_argument("--item", help="an item's id")
    parser.add_argument("--model", choices=("protocol", "baseline"), default="protocol")
    parser.add_argument("--rerank", choices=("none", "protocol", "compatibility"), default="none")
    parser.add_argument("--index", help="a kind of index, or exact")
    parser.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", type=Path, help="also write a contact sheet with pictures")


def _add_two_tower(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, required=True, help="the photo's file")
    parser.add_argument("--topk", type=int, default=10)
    parser.add_argument("--index", help="a kind of index that was built; the first of two_tower.index if not given")
    parser.add_argument("--nprobe", type=int, help="lists that ivf_pq looks into")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", type=Path, help="also write a contact sheet with pictures")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; answers at work are finished first, for `DRAIN_SECONDS` at most."""
    key = os.environ.get(KEY_VARIABLE) or None
    if not _is_loopback(args.host) and key is None:
        raise ConfigError(f"--host {args.host} is reachable by others: set {KEY_VARIABLE}, or serve on 127.0.0.1")
    from lib.base.stage import pin_threads
    from lib.serving.app import create_app

    pin_threads(args.threads)
    places = Places.under(args.root)
    listen(create_app(lambda: open_searcher(places), api_key=key), host=args.host, port=args.port)
    return 0


def listen(app: Guard, *, host: str, port: int) -> None:
    """Serve an application until SIGTERM or SIGINT."""
    import uvicorn

    uvicorn.run(
        app,
        host=host,
        port=port,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        h11_max_incomplete_event_size=16 * 1024,
    )


def search(args: argparse.Namespace) -> int:
    """Answer one search on stdout."""
    from lib.base.artifacts import write_text
    from lib.serving.contact_sheet import contact_sheet
    from lib.serving.messages import SearchBody, as_query
    from lib.serving.query import answer_dict
    from lib.serving.table import table

    filters: dict[str, list[str]] = {}
    for given in args.filter:
        name, equals, value = given.partition("=")
        if not equals:
            raise ConfigError(f"--filter {given}: expected NAME=VALUE, such as color=red")
        filters.setdefault(name, []).append(value)
    try:
        body = SearchBody(
            text=args.text,
            item=args.item,
            model=args.model,
            rerank=args.rerank,
            index=args.index,
            k=args.k,
            filters=filters,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}; got {first['input']!r:.100}"
        ) from None
    searcher = open_searcher(Places.under(args.root))
    query = as_query(body, image=_read(args.image))
    answer = searcher.search(query)
    print(json.dumps(answer_dict(answer), indent=2, ensure_ascii=False) if args.json else table(answer))
    if args.html is not None:
        write_text(args.html, contact_sheet(query, answer, searcher.catalogue))
        print(f"contact sheet: {args.html}", file=sys.stderr)
    return 0


def query_two_tower(args: argparse.Namespace) -> int:
    """Answer one photo on stdout, with the time that it took."""
    from lib.base.artifacts import write_text
    from lib.base.stage import pin_threads
    from lib.serving.two_tower import as_dict, as_table, open_two_tower

    pin_threads(args.threads)
    towers = open_two_tower(args.root, kind=args.index)
    image = _read(args.image)
    answer = towers.search(image or b"", k=args.topk, nprobe=args.nprobe)
    print(json.dumps(as_dict(answer), indent=2, ensure_ascii=False) if args.json else as_table(answer))
    if args.html is not None:
        write_text(args.html, towers.sheet(image or b"", answer))
        print(f"contact sheet: {args.html}", file=sys.stderr)
    return 0


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--image {path}: {error.strerror}") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
