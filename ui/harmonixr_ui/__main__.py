"""`python -m harmonixr_ui` serves the pages from a process of their own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the pages until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m harmonixr_ui", description=__doc__)
    parser.add_argument("--api", default="http://127.0.0.1:8000", help="address of the service (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (%(default)s)")
    parser.add_argument("--pool", default="default", help="the pool of pairs to judge (%(default)s)")
    args = parser.parse_args(arguments)

    import uvicorn

    from harmonixr_ui.app import make_app

    # Every open page holds a stream; closing must not wait for those.
    uvicorn.run(
        make_app(args.api, pool=args.pool),
        host=args.host,
        port=args.port,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
