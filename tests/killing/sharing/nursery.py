"""``python -m tests.killing.sharing.nursery``: what guests are forked from."""

import sys

from .guest import nursery

nursery(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
