"""What was found, as a table and as JSON, and the thresholds it is held against."""

import platform

import numpy as np

# What the defences promise, for a caller with the default limits; a theft's is above its zero-query baseline.
MOST_SUCCESS = {("simba", 0.5): 0.12, ("square", 0.5): 0.35}
# Queries that were answered; how many more were sent and refused is the attacker's affair.
MOST_ANSWERS = {"hop_skip_jump": 100, "boundary": 100, "zoo": 100}
MOST_AGREEMENT = {"equation_solving": 0.03, "marginal_theft": 0.03, "uniform_theft": 0.03}
MOST_SLOWED = 0.005
BUDGET = 200


class Report:
    """Gathers rows; says whether every threshold holds."""

    def __init__(self, arguments, cohort):
        self.about = {
            "seed": arguments.seed, "role": arguments.role, "patients": arguments.patients, "cohort": cohort.description,
            "real_patients": cohort.real, "python": platform.python_version(),
        }  # fmt: skip
        self.evasions, self.thefts, self.omitted, self.checks = [], [], [], []
        self.tricks, self.ward, self.row_of_patients = None, None, None

    def gather(self, done) -> None:
        """Attacks by name and epsilon (or model), in their order; those for which there was no time are named."""
        evasions: dict = {}
        for name, how, found in done:
            if found is None:
                self.omitted.append(name if how is None else f"{name} ({how})")
            elif isinstance(how, float):
                sides = evasions.setdefault((name, how), {"undefended": [], "defended": []})
                for side, ended in found.items():
                    sides[side].append(ended)
            elif how is None:
                self.row_of_patients = found
            else:
                self.theft(name, how, found)
        self.omitted = sorted(set(self.omitted))
        for (name, epsilon), sides in evasions.items():
            self.evasion(name, epsilon, sides)

    def check(self, what: str, found: float, most: float) -> None:
        """One threshold."""
        self.checks.append({"what": what, "found": round(float(found), 4), "most": round(most, 4), "holds": bool(found <= most)})

    def evasion(self, name: str, epsilon: float, sides: dict) -> None:
        """An attack on many patients."""
        row = {"attack": name, "epsilon": epsilon, "patients": len(sides["defended"])}
        for side, runs in sides.items():
            queries = np.array([run["queries"] for run in runs])
            answered = np.array([run["informative"] for run in runs])
            stopped = [run["queries"] for run in runs if run["ended"] == "blocked"]
            ended = [run["ended"] for run in runs]
            why = [run["blocked"] for run in runs if run["blocked"]]
            coarse = [run["coarse_at"] for run in runs if run["coarse_at"]]
            row[side] = {
                "success": float(np.mean([run["success"] for run in runs])),
                "queries_median": float(np.median(queries)), "queries_most": int(queries.max()),
                "answered_median": float(np.median(answered)), "answered_most": int(answered.max()),
                "blocked": len(stopped), "blocked_after_median": float(np.median(stopped)) if stopped else None,
                "waited_median": float(np.median([run["waited"] for run in runs])),
                "coarse_after_median": float(np.median(coarse)) if coarse else None,
                "ended": {end: ended.count(end) for end in sorted(set(ended))},
                "why": {reason: why.count(reason) for reason in sorted(set(why))},
            }  # fmt: skip
        self.evasions.append(row)
        if (name, epsilon) in MOST_SUCCESS:
            self.check(f"{name} success at epsilon {epsilon}", row["defended"]["success"], MOST_SUCCESS[name, epsilon])
        if name in MOST_ANSWERS:
            self.check(f"{name}: most answers before it is stopped", row["defended"]["answered_most"], MOST_ANSWERS[name] - 1)

    def theft(self, name: str, model: str, sides: dict) -> None:
        """A theft of one model."""
        self.thefts.append({"attack": name, "model": model, **sides})
        if name in MOST_AGREEMENT:
            found = sides["defended"]
            self.check(f"{name} of {model}: agreement", found["agreement"], found["baseline"] + MOST_AGREEMENT[name])

    def budget(self, outcome: dict) -> None:
        """What tricks got out of the budget."""
        self.tricks = outcome
        for name, found in outcome.items():
            if "informative" in found:
                self.check(f"answers got: {name}", found["informative"], BUDGET)
            else:
                self.check(f"different answers: {name}", len(found["answers"]), 1)

    def benign(self, found: dict) -> None:
        """A ward's EHR."""
        self.ward = found
        self.check("benign: wrongly slowed", found["slowed"], MOST_SLOWED)

    def holds(self) -> bool:
        """Whether every threshold that was looked at holds."""
        return all(check["holds"] for check in self.checks)

    def document(self) -> dict:
        """Everything, for programs."""
        return {
            **self.about, "holds": self.holds(), "checks": self.checks, "evasion": self.evasions, "theft": self.thefts,
            "one_caller": self.row_of_patients, "budget": self.tricks, "benign": self.ward, "omitted": self.omitted,
        }  # fmt: skip

    def text(self) -> str:
        """For people."""
        lines = [f"as {self.about['role']}, seed {self.about['seed']}; {self.about['cohort']}", ""]
        if self.evasions:
            lines.append(
                f"{'attack':<26}{'eps':>5}{'n':>5} | undefended: {'success':>7}{'queries':>8} | defended: {'success':>7}"
                f"{'queries':>8}{'most':>6}{'answered':>9}{'most':>6}{'waited':>8}{'blocked':>9}{'after':>7}"
            )
        for row in self.evasions:
            before, after = row["undefended"], row["defended"]
            lines.append(
                f"{row['attack']:<26}{row['epsilon']:>5}{row['patients']:>5} |{'':>13}{before['success']:>6.2f}"
                f"{before['queries_median']:>8.0f} |{'':>11}{after['success']:>6.2f}{after['queries_median']:>8.0f}"
                f"{after['queries_most']:>6}{after['answered_median']:>9.0f}{after['answered_most']:>6}"
                f"{after['waited_median']:>8.0f}{after['blocked']:>9}"
                f"{_or_none(after['blocked_after_median']):>7}"
            )
        if self.thefts:
            lines += ["", f"{'theft':<20}{'model':<16}{'no query':>9} | undefended | rounded | defended{'answers':>9}  stopped by"]
        for row in self.thefts:
            before, after = row["undefended"], row["defended"]
            lines.append(
                f"{row['attack']:<20}{row['model']:<16}{after['baseline']:>9.3f} |{before['agreement']:>11.3f} |"
                f"{row['rounded']['agreement']:>8.3f} |{after['agreement']:>9.3f}{after['informative']:>9}  {after['blocked'] or '-'}"
            )
        if self.row_of_patients:
            found = self.row_of_patients
            lines += ["", f"one caller, patient after patient (SimBA, epsilon .5): {found}"]
        for name, found in (self.tricks or {}).items():
            lines.append(f"budget, {name}: {found}")
        if self.ward:
            lines += ["", f"benign: {self.ward}"]
        lines.append("")
        for check in self.checks:
            verdict = "holds" if check["holds"] else "MISSED"
            lines.append(f"{verdict:<7}{check['what']}: {check['found']:g} (at most {check['most']:g})")
        lines += [f"not run for all patients, out of time: {name}" for name in self.omitted]
        return "\n".join(lines)


def _or_none(value) -> str:
    return "-" if value is None else f"{value:.0f}"
