"""``python -m tests.killing.sharing``: kills guests that share, and says what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `support`, as pytest has it

from ..controller import Violated
from .controller import COUNTS
from .run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.killing.sharing", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many guests to kill (1000)")
    parser.add_argument("--seed", type=int, default=1, help="what the random choices follow from (1)")
    parser.add_argument("--roles", nargs="+", choices=COUNTS, default=(), help="who takes part (all)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    try:
        report = run(options.kills, options.seed, options.roles)
    except Violated as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(report)) if options.json else "\n".join(report.lines()))
    return 0


sys.exit(main())
