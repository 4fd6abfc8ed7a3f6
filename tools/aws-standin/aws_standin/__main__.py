"""Command line: `python -m aws_standin [--port N] [--speed X]`.

Prints one line with the address when it answers, then serves until it is stopped.
"""

import argparse
import sys
import threading

from . import backup, rds  # noqa: F401  (they register their actions)
from . import moto_bridge
from .server import Server
from .world import World


def main():
    parser = argparse.ArgumentParser(prog="aws_standin", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: only this machine)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, picks a free one")
    parser.add_argument("--speed", type=float, default=1.0, help="virtual seconds per second")
    parser.add_argument("--no-warm-up", action="store_true", help="import moto only when it is needed")
    options = parser.parse_args()

    world = World(options.speed)
    server = Server((options.host, options.port), world)
    print(f"aws-standin ready on http://{options.host}:{server.server_address[1]}", flush=True)
    if not options.no_warm_up:
        threading.Thread(target=moto_bridge.load, daemon=True).start()
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        sys.exit(0)


main()
