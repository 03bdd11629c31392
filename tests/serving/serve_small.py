"""`python serve_small.py PORT FOLDER [REASON]`: the real server on the small catalogue, or on a broken one."""

import os
import sys
from pathlib import Path

from small_catalogue import open_small

from lib.base.errors import IntegrityError
from lib.serving.__main__ import KEY_VARIABLE, listen
from lib.serving.app import create_app
from lib.serving.guards import Limits
from lib.serving.searcher import Searcher


def main() -> None:
    port, folder, *reason = sys.argv[1:]

    def opener() -> Searcher:
        if reason:
            raise IntegrityError(reason[0])
        return open_small(Path(folder))

    app = create_app(opener, limits=Limits(in_flight=8), api_key=os.environ.get(KEY_VARIABLE))
    listen(app, host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main()
