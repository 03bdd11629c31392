"""The search server: an API with OpenAPI, a page, health and measures.

The catalogue is loaded after the server has begun to listen: `/livez` answers at once, `/readyz` says when it is
ready or why it is not. Searches run in threads; the backbone runs in one worker of its own.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from lib.base.errors import BusyError, ConfigError, PipelineError
from lib.catalog.images import ImageError
from lib.serving.catalogue import UnknownItem, UnknownQuery
from lib.serving.guards import Guard, Limits
from lib.serving.measures import Measures
from lib.serving.messages import AnswerBody, ErrorBody, ItemId, SearchBody, as_query
from lib.serving.query import answer_dict
from lib.serving.searcher import Searcher

PAGE = Path(__file__).parent / "page"
SEARCH_SECONDS = 30.0
_PROBLEMS: dict[int | str, dict[str, object]] = {
    404: {"model": ErrorBody, "description": "no such item"},
    413: {"model": ErrorBody, "description": "the body is too large"},
    422: {"model": ErrorBody, "description": "the request cannot be answered as it stands"},
    503: {"model": ErrorBody, "description": "not ready, or too busy: try again"},
}


class Loading:
    """The searcher, or why there is none yet."""

    def __init__(self, opener: Callable[[], Searcher], measures: Measures) -> None:
        self._opener = opener
        self._measures = measures
        self.searcher: Searcher | None = None
        self.reason = "the catalogue is being loaded"

    def start(self) -> threading.Thread:
        """Load in a thread; `reason` says what went wrong."""
        thread = threading.Thread(target=self._load, name="load-catalogue", daemon=True)
        thread.start()
        return thread

    def _load(self) -> None:
        try:
            searcher = self._opener()
        except Exception as error:  # whatever it is: `/readyz` says so, and the process lives
            self.reason = f"the catalogue could not be loaded: {str(error) or type(error).__name__}"
            return
        searcher.encoder.observe = self._measures.batches.observe
        self.searcher = searcher


class NotReady(BusyError):
    """The catalogue is not there."""


def create_app(opener: Callable[[], Searcher], *, limits: Limits | None = None, api_key: str | None = None) -> Guard:
    """The server as an ASGI application.

    Args:
        opener: loads the catalogue; called once, in a thread, when the server starts.
        limits: bounds of requests.
        api_key: asked of every request but the health checks; None asks for nothing.
    """
    measures = Measures()
    loading = Loading(opener, measures)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading.start()
        yield
        if loading.searcher is not None:
            loading.searcher.encoder.close()

    app = FastAPI(
        title="Fashion search",
        description="Search a catalogue by text, picture or item, with filters, re-ranking and reasons.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    _explain_errors(app)
    _add_health(app, loading, measures)
    _add_search(app, loading)
    _add_items(app, loading)
    _add_page(app)
    return Guard(app, limits=limits or Limits(), api_key=api_key, measures=measures)


def _ready(loading: Loading) -> Searcher:
    if loading.searcher is None:
        raise NotReady(loading.reason)
    return loading.searcher


def _explain_errors(app: FastAPI) -> None:
    def answer(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"detail": detail}, status_code=status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, _in_words(error.errors()))  # without the input: NaN in an answer is a server error

    @app.exception_handler(ValidationError)
    async def invalid_form(request: Request, error: ValidationError) -> JSONResponse:
        return answer(422, _in_words(error.errors()))

    @app.exception_handler(UnknownQuery)
    async def unknown(request: Request, error: UnknownQuery) -> JSONResponse:
        return answer(404 if isinstance(error, UnknownItem) else 422, str(error))

    @app.exception_handler(ImageError)
    async def no_image(request: Request, error: ImageError) -> JSONResponse:
        return answer(422, f"the picture cannot be used: {error}")

    @app.exception_handler(ConfigError)
    async def bad_query(request: Request, error: ConfigError) -> JSONResponse:
        return answer(422, str(error))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return answer(503, str(error), {"Retry-After": "1"})

    @app.exception_handler(PipelineError)
    async def damaged(request: Request, error: PipelineError) -> JSONResponse:
        return answer(503, str(error))  # what the pipeline wrote is gone or damaged: the message has the remedy

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        # 400: a body that cannot be parsed, however deep or long its numbers
        status = 422 if error.status_code == 400 else error.status_code
        return answer(status, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(TimeoutError)
    async def slow(request: Request, error: TimeoutError) -> JSONResponse:
        return answer(503, f"no answer within {SEARCH_SECONDS:g} seconds; try again", {"Retry-After": "5"})


def _in_words(errors: object) -> str:
    lines = []
    for error in errors if isinstance(errors, list) else []:
        place = ".".join(str(part) for part in error["loc"] if part not in ("body", "query"))
        lines.append(f"{place[:100] or 'body'}: {error['msg']}")
    return "; ".join(lines[:5])


def _add_health(app: FastAPI, loading: Loading, measures: Measures) -> None:
    @app.get("/livez", summary="Whether the process answers", tags=["health"])
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Whether searches can be answered", tags=["health"], responses={503: _PROBLEMS[503]})
    async def readyz() -> dict[str, str]:
        _ready(loading)
        return {"status": "ready"}

    @app.get("/metrics", summary="Measures in Prometheus' text format", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        searcher = loading.searcher
        if searcher is not None:
            measures.items.set(len(searcher.catalogue))
            measures.waiting.set(searcher.encoder.waiting)
            measures.text_hits.set(searcher.encoder.text_hits)
            measures.text_misses.set(searcher.encoder.text_misses)
        return Response(measures.text(), media_type="text/plain; version=0.0.4")


def _add_search(app: FastAPI, loading: Loading) -> None:
    @app.get("/api/catalogue", summary="What can be asked: models, indexes, filters with counts", tags=["search"])
    def catalogue() -> dict[str, object]:
        searcher = _ready(loading)
        facets = searcher.catalogue.facets({})
        return {
            "items": len(searcher.catalogue),
            "models": searcher.models,
            "dims": {model: searcher.dim(model) for model in searcher.models},
            "indexes": searcher.indexes,
            "reranks": searcher.reranks,
            "facets": {
                name: [{"value": facet.value, "count": facet.count} for facet in values]
                for name, values in facets.items()
            },
        }

    @app.post(
        "/api/search",
        summary="Search by text, item or vector",
        tags=["search"],
        response_model=AnswerBody,
        responses=_PROBLEMS,
    )
    def search(body: SearchBody) -> dict[str, object]:
        return answer_dict(_ready(loading).search(as_query(body), timeout=SEARCH_SECONDS))

    @app.post(
        "/api/search/image",
        summary="Search by an uploaded picture, with a text beside it if wanted",
        tags=["search"],
        response_model=AnswerBody,
        responses=_PROBLEMS,
    )
    def search_image(
        image: Annotated[UploadFile, File(description="JPEG, PNG, WebP …, at most 10 MB")],
        options: Annotated[str, Form(max_length=20_000, description="the other keys of a search, as JSON")] = "{}",
    ) -> dict[str, object]:
        body = SearchBody.model_validate_json(options)
        query = as_query(body, image=image.file.read())
        return answer_dict(_ready(loading).search(query, timeout=SEARCH_SECONDS))


def _add_items(app: FastAPI, loading: Loading) -> None:
    @app.get("/api/item", summary="What is known of an item", tags=["items"], responses=_PROBLEMS)
    def item(id: Annotated[ItemId, Query()]) -> dict[str, str | None]:
        return _ready(loading).catalogue.describe(id)

    @app.get(
        "/api/picture", summary="An item's picture", tags=["items"], response_class=Response, responses=_PROBLEMS
    )
    def picture(id: Annotated[ItemId, Query()]) -> Response:
        data = _ready(loading).catalogue.picture(id)
        kind = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})


def _add_page(app: FastAPI) -> None:
    for page_file in sorted(PAGE.iterdir()):
        path = "/" if page_file.name == "index.html" else f"/{page_file.name}"

        def serve(file: Path = page_file) -> FileResponse:
            return FileResponse(file, headers={"Cache-Control": "no-cache"})

        app.get(path, include_in_schema=False)(serve)
