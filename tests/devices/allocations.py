"""Counts what a call allocates, and what this process keeps: objects of ours, threads and open descriptors."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable


def most_allocated(work: Callable[[], bytes]) -> int:
    """The most bytes that ``work``, which returns something, has allocated at once."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def kept() -> Counter[str]:
    """How many objects of each class of ours there are, and arrays, threads and open descriptors."""
    gc.collect()
    classes = [type(each) for each in gc.get_objects()]
    found = Counter(f"{each.__module__}.{each.__name__}" for each in classes)
    counted = Counter({name: count for name, count in found.items() if name.partition(".")[0].startswith("tinymetafed")})
    counted["threads"] = threading.active_count()
    counted["descriptors"] = len(os.listdir("/dev/fd"))
    return counted
