"""Timing of callables against each other, on a machine that does other things too."""

import dataclasses
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Median, smallest and largest of some numbers, here of ratios between two times of one round."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table. `limit` is the largest value that is right; None: for information only."""

    name: str
    measured: Ratio | float | bool | None
    limit: float | bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "skipped"
        if self.limit is None:
            return "-"
        value = self.measured.median if isinstance(self.measured, Ratio) else self.measured
        reached = value is self.limit if isinstance(self.limit, bool) else value <= self.limit
        return "ok" if reached else "missed"

    def __str__(self):
        measured = f"{self.measured:.3g}" if isinstance(self.measured, float) else str(self.measured)
        limit = "" if self.limit is None else f"{self.limit:g}" if isinstance(self.limit, float) else str(self.limit)
        return f"{self.name:<62} {measured:<22} {limit:>6}  {self.verdict:<8} {self.note}".rstrip()


HEADER = f"{'figure':<62} {'measured [min, max]':<22} {'limit':>6}  {'':<8} "


class Times:
    """The seconds of every callable in every round: on the clock, and of the processor in all threads.

    The figures are on the clock. The second shows whether a ratio owes something to what else the machine was doing.
    """

    def __init__(self, seconds: dict[str, list[float]], processor: dict[str, list[float]]):
        self.seconds, self.processor = seconds, processor

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, reference: str) -> Ratio:
        """Of the two times in the same round, since what else the machine does changes from round to round."""
        return self._ratio(self.seconds, name, reference)

    def processor_ratio(self, name: str, reference: str) -> str:
        """The same of the processor's time, in words."""
        return f"processor time {self._ratio(self.processor, name, reference).median:.3f}"

    def _ratio(self, seconds, name, reference):
        ratios = [a / b for a, b in zip(seconds[name], seconds[reference], strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def interleave(functions: dict[str, Callable], repeats: int = 15) -> Times:
    """Times each callable once in each round, after a warm-up that compiles."""
    for function in functions.values():
        jax.block_until_ready(function())
    seconds, processor = ({name: [] for name in functions} for _ in range(2))
    for round_ in range(repeats):
        # Every other round runs backwards: what a callable leaves in the cache then serves none of them more than others.
        for name in list(functions)[:: 1 if round_ % 2 else -1]:
            start, used = time.perf_counter(), time.process_time()
            jax.block_until_ready(functions[name]())
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - used)
    return Times(seconds, processor)


def process(command: Sequence[str]) -> Callable[[], str]:
    """A callable that runs a Python process and gives what it prints."""

    def run():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        return done.stdout

    return run


def peak_memory(module: str, *arguments) -> float:
    """The peak resident memory, in bytes, of a process of its own that runs `python -m module arguments`."""
    return float(process([sys.executable, "-m", module, *map(str, arguments)])())


def print_peak_memory() -> None:
    """For the process that `peak_memory` starts."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux starts a process's ru_maxrss at what its parent held when it was started; this mark starts at zero.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        print(int(line.split()[1]) * 1024)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(peak * (1 if sys.platform == "darwin" else 1024))
