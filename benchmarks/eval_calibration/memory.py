"""Largest memory of a process."""
import resource
import sys


def peak_memory() -> float:
    """Largest resident memory of this process so far, in GB."""
    return in_gb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def in_gb(max_rss: int) -> float:
    """GB of what ``getrusage`` says: bytes on macOS, else KiB."""
    return max_rss * (1 if sys.platform == 'darwin' else 1024) / 1e9
