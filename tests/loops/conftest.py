from __future__ import annotations

import os

# Two threads of torch and two processes of tests on two cores wait for each other: three times the CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
