"""Peak memory of a process."""
import resource
import sys


def peak_memory() -> float:
    """Return the peak resident memory of this process in GB."""
    return in_gb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def in_gb(max_rss: int) -> float:
    """Convert memory from ``getrusage``, bytes on macOS, else KiB, to GB."""
    return max_rss * (1 if sys.platform == 'darwin' else 1024) / 1e9
