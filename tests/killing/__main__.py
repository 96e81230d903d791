"""``python -m tests.killing``: kills guests and says what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `support`, as pytest has it

from .controller import Violated, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000, help="how many guests to kill (2000)")
    parser.add_argument("--seed", type=int, default=1, help="what the random choices follow from (1)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    try:
        report = run(options.kills, options.seed)
    except Violated as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(report)) if options.json else "\n".join(report.lines()))
    return 0


sys.exit(main())
