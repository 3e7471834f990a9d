#!/usr/bin/env python3
"""A red team against a live server over mutual TLS, with the undefended figures beside it.

    attack.py [--data icu2012_ab.csv] [--snapshots FILE] [--role clinician] [--patients N] [--minutes M] [--only A,B] [--json FILE]

Starts a server of its own on loopback with a fresh state directory, attacks it, ends it, prints a table. Exit codes: 0 every
threshold holds, 1 one does not, 2 usage, 3 the server could not be started. docs/adversarial.md says what the figures mean.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

# One thread each: the server needs the processor too.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402, I001

import benign  # noqa: E402
import evasion  # noqa: E402
import theft  # noqa: E402
import tricks  # noqa: E402
from oracle import Live, Networks, Rounded, Undefended  # noqa: E402
from patients import ROOT, Cohort, breast_cancer, icu  # noqa: E402
from report import Report  # noqa: E402
from server import EnvironmentFault, Server  # noqa: E402

ICU_DATA = ROOT.parent / "shared/data"
STEPPED = {"transfer", "simba", "square"}  # few queries each, so they are run at every epsilon and on every patient
EPSILONS = (0.1, 0.25, 0.5)
NAMES = {"transfer", *evasion.ATTACKS, *theft.THEFTS, "disguises", "one_caller", "budget", "benign"}


class RedTeam:
    """One run: who attacks, what is left of the time, what was found."""

    def __init__(self, server: Server, cohort: Cohort, arguments):
        self.server, self.cohort, self.arguments = server, cohort, arguments
        self.callers = (f"{arguments.role}-{number}" for number in range(arguments.callers))
        self.ends = time.monotonic() + 60 * arguments.minutes
        self.report = Report(arguments, cohort)

    def wanted(self, name: str) -> bool:
        """Whether an attack was asked for."""
        return not self.arguments.only or name in self.arguments.only

    def live(self, most: int, cohort: Cohort | None = None) -> Live:
        """A caller whom nobody has seen before."""
        return Live(self.server, next(self.callers), (cohort or self.cohort).model, most, self.arguments.patience)

    def targets(self, count: int) -> np.ndarray:
        """Held-out patients for whom the server predicts; asked as the evaluator, who has no budget."""
        evaluator = Live(self.server, "evaluator", self.cohort.model, 10_000)
        networks, chosen = Networks.of(self.cohort.model), []
        for row in self.cohort.targets:
            answer = evaluator.ask(row)
            if not answer:
                continue
            truth = float(networks.predict(evaluator.model.round(row)[None])[0])
            if answer.band != self.cohort.model.band(truth) or (
                answer.probability is not None and abs(answer.probability - truth) > 0.0501
            ):
                raise EnvironmentFault(f"the server serves another model than {self.cohort.model.bundle}")
            chosen.append(row)
            if len(chosen) == count:
                break
        evaluator.close()
        return np.array(chosen)

    def jobs(self) -> list:
        """Every attack on every target, and every theft, as (name, how to report it, work). The live part of most is spent waiting,
        so many run at once, in processes of their own: the toolbox draws from one generator a process."""
        jobs = []
        for cohort in (self.cohort, breast_cancer(self.arguments.seed)):
            if any(self.wanted(name) for name in theft.THEFTS):
                judge = theft.Judge(cohort)
                for name in filter(self.wanted, theft.THEFTS):
                    jobs.append((name, cohort.model.name, self.theft_of(name, cohort, judge)))
        evasions = {"transfer": evasion.Transfer(self.cohort), **evasion.ATTACKS}
        targets = self.targets(self.arguments.patients)
        few = targets[: self.arguments.few]
        for epsilon in reversed(EPSILONS):
            for name in filter(self.wanted, evasions):
                if name in STEPPED:
                    jobs += self.evasions_of(name, evasions[name], targets, epsilon)
                elif epsilon == EPSILONS[-1]:
                    jobs += self.evasions_of(name, evasions[name], few, epsilon)
            if epsilon == EPSILONS[-1] and self.wanted("disguises"):
                for name, disguise in tricks.DISGUISES.items():
                    jobs += self.evasions_of(f"simba, {name}", evasion.simba, few, epsilon, disguise)
        if self.wanted("one_caller"):
            jobs.append(("one_caller", None, self.one_caller_of(targets, EPSILONS[-1])))
        return jobs

    def evasions_of(self, name: str, attack, targets, epsilon: float, disguise=None) -> list:
        """One attack on every target."""

        def job(number, patient, live):
            def work():
                seed, ended = self.arguments.seed * 100_000 + number, {}
                for side, oracle in ("undefended", Undefended(self.cohort.model, evasion.MOST)), ("defended", live):
                    ended[side] = evasion.attack(attack, oracle, self.cohort, patient, epsilon, seed, disguise)
                    oracle.close()
                return ended

            return name, epsilon, work

        return [job(number, patient, self.live(evasion.MOST)) for number, patient in enumerate(targets)]

    def theft_of(self, name: str, cohort: Cohort, judge: theft.Judge):
        """One theft of one model."""
        rows = theft.THEFTS[name](cohort, np.random.default_rng([self.arguments.seed, len(name)]))
        live = self.live(theft.QUERIES, cohort)

        def work():
            oracles = {
                "undefended": Undefended(cohort.model, theft.QUERIES),
                "rounded": Rounded(cohort.model, theft.QUERIES),
                "defended": live,
            }
            found = {side: theft.steal(rows, oracle, judge) for side, oracle in oracles.items()}
            live.close()
            return found

        return work

    def one_caller_of(self, targets, epsilon: float):
        """SimBA on one patient after another, by one caller, until it is answered no more."""
        live = self.live(100_000)

        def work():
            crossed = tried = 0
            for number, patient in enumerate(targets):
                ended = evasion.attack(evasion.simba, live, self.cohort, patient, epsilon, self.arguments.seed + number)
                crossed += ended["success"]
                tried += 1
                if live.blocked:
                    break
            live.close()
            return {
                "patients_tried": tried, "patients_crossed": crossed, "queries": live.queries, "informative": live.informative,
                "blocked": live.blocked, "coarse_at": live.coarse_at,
            }  # fmt: skip

        return work

    def run(self) -> None:
        """Everything that is wanted, as far as there is time."""
        jobs = self.jobs()
        done = in_processes(lambda number: self.timely(jobs[number][2]), len(jobs), self.arguments.processes)
        self.report.gather((name, how, found) for (name, how, _), found in zip(jobs, done))
        if self.wanted("budget"):
            self.report.budget(tricks.budget_tricks(self.server, self.callers, self.cohort))
        if self.wanted("benign"):
            self.report.benign(self.benign())

    def timely(self, work):
        """The work's result; nothing when the time is up."""
        return work() if time.monotonic() < self.ends else None

    def benign(self) -> dict:
        """A ward's EHR."""
        generator = np.random.default_rng(self.arguments.seed)
        data, snapshots = self.arguments.data, self.arguments.snapshots
        if self.cohort.real and snapshots and snapshots.exists():
            stays, source = benign.stays(data, snapshots, self.cohort.model, generator), "real patients"
        else:
            stays, source = benign.synthetic_stays(self.cohort, generator), "SYNTHETIC patients"
        live = Live(self.server, "ehr", self.cohort.model, 100_000)
        found = benign.scored_again(stays, live)
        live.close()
        return {"source": source, "patients": len(stays), **found}


def in_processes(work, count: int, processes: int) -> list:
    """`work(number)` for each number, in forked processes, so that it need not be written down; results in order."""
    with multiprocessing.get_context("fork").Pool(processes, initializer=_remember, initargs=(work,)) as pool:
        done = []
        for result in pool.imap(_work, range(count), chunksize=1):
            done.append(result)
            if len(done) % 50 == 0 or len(done) == count:
                print(f"{len(done)} of {count} attacks", file=sys.stderr, flush=True)
        return done


def _remember(work):
    global _work_of_this_process
    _work_of_this_process = work


def _work(number):
    return _work_of_this_process(number)


def names(text: str) -> list[str]:
    """Attacks by name: one that is misspelt would not be missed."""
    unknown = set(text.split(",")) - NAMES
    if unknown:
        raise argparse.ArgumentTypeError(f"no such attack: {', '.join(sorted(unknown))}; there are {', '.join(sorted(NAMES))}")
    return text.split(",")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/vitalgate")
    parser.add_argument("--library", type=Path, default=ROOT / "target/onnxruntime/lib/libonnxruntime.so.1.31.1")
    parser.add_argument("--data", type=Path, default=ICU_DATA / "icu2012_ab.csv", help="real patients; synthetic ones when absent")
    parser.add_argument("--snapshots", type=Path, default=ICU_DATA / "icu2012_ab_snapshots.csv", help="the same, at later hours")
    parser.add_argument("--role", default="clinician", help="the role of the attackers, with the limits it has by default")
    parser.add_argument("--callers", type=int, default=1200, help="callers to make certificates for; each attack uses a new one")
    parser.add_argument("--patients", type=int, default=100, help="patients that are attacked")
    parser.add_argument("--few", type=int, default=30, help="patients that attacks of many queries are tried on")
    parser.add_argument("--patience", type=float, default=120, help="seconds that one attack waits, in all, when told to")
    parser.add_argument("--processes", type=int, default=50, help="attacks that run at once; they mostly wait")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30, help="no attack begins after so many")
    parser.add_argument("--only", type=names, default=None, help="some attacks, by name, with commas: " + ", ".join(sorted(NAMES)))
    parser.add_argument("--json", metavar="FILE", default=None, help="write everything that was found; - for stdout, without the table")
    arguments = parser.parse_args()
    cohort = icu(arguments.data, arguments.seed)
    if not cohort.real:
        print(f"no data at {arguments.data}: attacking SYNTHETIC patients", file=sys.stderr)
    try:
        with tempfile.TemporaryDirectory(prefix="vitalgate-attacks-") as directory:
            roles = {arguments.role: arguments.callers}
            with Server(arguments.binary.resolve(), arguments.library.resolve(), Path(directory), roles) as server:
                team = RedTeam(server, cohort, arguments)
                team.run()
    except (EnvironmentFault, OSError) as fault:
        print(f"attack.py: {fault}", file=sys.stderr)
        return 3
    report = team.report
    if arguments.json:
        text = json.dumps(report.document(), indent=1)
        if arguments.json == "-":
            print(text)
        else:
            Path(arguments.json).write_text(text + "\n")
    if arguments.json != "-":
        print(report.text())
    return 0 if report.holds() else 1


if __name__ == "__main__":
    sys.exit(main())
