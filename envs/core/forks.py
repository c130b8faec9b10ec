"""Processes that are forked after torch or a kernel has started threads."""

from __future__ import annotations

import os
from functools import cache, partial


@cache
def keep_forks_alive() -> None:
    """Lets processes that are forked from now on use one thread of torch.

    OpenMP's threads, which kernels and torch itself start, do not exist in a forked process, which
    would wait for them in the first torch operation that wants some.
    """
    import torch

    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
