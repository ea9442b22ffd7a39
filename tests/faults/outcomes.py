"""What came of each fault, counted by where and how it was injected."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

SURVIVED, LOST, WRONG = "survived", "lost", "wrong"


@dataclass
class Outcomes:
    """How often each (place, fault) ended in which way, and what is to be said of those that did not end well."""

    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, place: str, fault: str, outcome: str, note: str = "") -> None:
        """Count a fault: survived (the same command gives the same), lost (it does not), wrong (other numbers)."""
        self.counts.setdefault((place, fault), Counter())[outcome] += 1
        if outcome != SURVIVED:
            self.notes.append(f"{outcome}: {place}, {fault}: {note}")
            print(self.notes[-1], file=sys.stderr, flush=True)  # at once, as the table is a long way off

    def total(self, *outcomes: str) -> int:
        """How many ended so; all without `outcomes`."""
        return sum(sum(count[o] for o in outcomes) if outcomes else count.total() for count in self.counts.values())

    def table(self) -> str:
        """As Markdown, a row for each place, with how often it met each fault."""
        ends = (SURVIVED, LOST, WRONG)
        rows = []
        for place in dict.fromkeys(place for place, _ in self.counts):
            by_fault = {fault: count for (where, fault), count in self.counts.items() if where == place}
            faults = ", ".join(f"{fault} {count.total()}" for fault, count in sorted(by_fault.items()))
            together = sum(by_fault.values(), Counter())
            rows.append((place, faults, together.total(), *(together[end] for end in ends)))
        rows.append(("**all**", "", self.total(), *(self.total(end) for end in ends)))
        head = "| where | faults | tried | survived | lost | wrong |\n|---|---|---:|---:|---:|---:|\n"
        return head + "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
