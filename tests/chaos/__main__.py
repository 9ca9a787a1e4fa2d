"""`make chaos`: every fault, many times, and a table; ends with 1 when anything was lost, doubled or out of order."""

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.report import line, table
from tests.chaos.run import Outcome, run
from tests.services.kafka import KafkaServer

RUNS_ON_ONE_KAFKA = 12  # each has topics of its own


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    options = parsed()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed} (--seed {seed} repeats the choices, not the timing)", flush=True)
    outcomes: list[Outcome] = []
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="chaos-kafka-") as folder:
        run_all(options, seed, KafkaServer(Path(folder) / "kafka"), outcomes)
    print(f"\n{table(outcomes, FAULTS)}")
    return 1 if not outcomes or any(outcome.audit.violations for outcome in outcomes) else 0


def run_all(options: argparse.Namespace, seed: int, kafka: KafkaServer, outcomes: list[Outcome]) -> None:
    chosen = [name for name in FAULTS if not options.only or any(word in name for word in options.only)]
    with kafka:
        for number in range(options.runs):
            for name in chosen:
                kafka.ensure_running()
                outcome = run(
                    name, seed + number, kafka, stations=options.stations, kafka_seconds=options.kafka_seconds
                )
                outcomes.append(outcome)
                print(line(outcome), flush=True)
                if not outcome.audit.violations:
                    shutil.rmtree(outcome.folder, ignore_errors=True)
                if len(outcomes) % RUNS_ON_ONE_KAFKA == 0:
                    kafka.restart(empty=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each fault (%(default)s)")
    parser.add_argument("--only", nargs="+", help="faults whose names hold one of these words")
    parser.add_argument("--seed", type=int, help="for what is left to chance; default: a new one")
    parser.add_argument("--stations", type=int, default=24, help="simulated stations (%(default)s)")
    parser.add_argument("--kafka-seconds", type=float, default=30.0, help="how long Kafka is away (%(default)g)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
