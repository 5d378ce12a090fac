"""Run the benchmarks: ``python -m bench [--quick] [--only NAME] [--write] [--json FILE]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    admitted_rate,
    cooling,
    cycles,
    failure_path,
    five_stages,
    five_stages_rotation,
    four_stages,
    http_transport,
    import_time,
    key_simulation,
    picking,
    pool_waiters,
    queue_on_limiter,
    rotation,
    single_stages,
    telemetry,
    timeout_alone,
    two_failures,
    workers_asyncio,
    workers_process,
    workers_ray,
    workers_thread,
)
from bench.harness import EFFORTS, Effort
from bench.machine import facts
from bench.report import as_json, as_markdown, goals_of, text_of
from bench.section import Section

__all__ = ["BENCHMARKS", "main"]

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"

BENCHMARKS: dict[str, Callable[[Effort, str], Section]] = {
    "five-stages": five_stages.run,
    "four-stages": four_stages.run,
    "two-failures": two_failures.run,
    "timeout-alone": timeout_alone.run,
    "queue": queue_on_limiter.run,
    "admitted-rate": admitted_rate.run,
    "cycles": cycles.run,
    "import-time": import_time.run,
    "single-stages": single_stages.run,
    "failure-path": failure_path.run,
    "rotation": rotation.run,
    "picking": picking.run,
    "cooling": cooling.run,
    "pool-waiters": pool_waiters.run,
    "five-stages-rotation": five_stages_rotation.run,
    "keys": key_simulation.run,
    "telemetry": telemetry.run,
    "http-transport": http_transport.run,
    "workers-asyncio": workers_asyncio.run,
    "workers-thread": workers_thread.run,
    "workers-process": workers_process.run,
    "workers-ray": workers_ray.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and print it; 0 unless the page would be incomplete."""
    asked = _parser().parse_args(arguments)
    effort = "smoke" if asked.smoke else "quick" if asked.quick else "full"
    names = asked.only or list(BENCHMARKS)
    if asked.write and len(names) < len(BENCHMARKS):
        print("--write takes the whole page: leave out --only", file=sys.stderr)
        return 2
    sections = []
    for name in names:
        began = time.perf_counter()
        sections.append(BENCHMARKS[name](EFFORTS[effort], asked.loop))
        print(text_of(sections[-1]), flush=True)
        print(f"[{name}: {time.perf_counter() - began:.1f} s]", file=sys.stderr)
    print("\n" + goals_of(sections))
    machine = facts(asked.loop, effort)
    if asked.json:
        asked.json.write_text(as_json(sections, machine) + "\n", encoding="utf-8")
    if asked.write:
        _PAGE.write_text(as_markdown(sections, machine), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=BENCHMARKS,
        metavar="NAME",
        help=f"one of {', '.join(BENCHMARKS)}; may be given again",
    )
    parser.add_argument("--quick", action="store_true", help="one minute; the figures are rough")
    parser.add_argument("--smoke", action="store_true", help="only see that everything runs")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--write", action="store_true", help="also write docs/performance.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
