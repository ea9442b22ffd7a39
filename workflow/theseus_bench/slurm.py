"""What Slurm says of a job, asked by its own commands; where there is no Slurm, or no answer, nothing is known.

And what a snakemake that sends its jobs there does then.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

JOB = "SLURM_JOB_ID"  # environment variable: the job that a process belongs to
PATIENCE = 30.0  # seconds for an answer


def own_job() -> str:
    """The number of the job that this process belongs to; "" outside a job."""
    return os.environ.get(JOB, "")


def is_running(job: str) -> bool:
    """Whether a job has processes. Where Slurm's controller does not answer, it may have."""
    answer = _ask_queue(job, "%T")
    if answer is None:
        return False
    if answer.returncode:
        return "Invalid job id" not in answer.stderr
    return answer.stdout.split() not in ([], ["PENDING"])


def end_of(job: str) -> float | None:
    """When a job's time limit ends it, in seconds since 1970; None where it has none, or nothing is known."""
    answer = _ask_queue(job, "%e")
    if answer is None or answer.returncode:
        return None
    try:
        return float(answer.stdout)
    except ValueError:  # it has no limit
        return None


def _ask_queue(job: str, column: str) -> subprocess.CompletedProcess[str] | None:
    """What squeue says of a job, times in seconds since 1970; None where there is no squeue."""
    command = ["squeue", "--noheader", f"--jobs={job}", f"--format={column}"]
    environment = os.environ | {"SLURM_TIME_FORMAT": "%s"}
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "no answer")
    except OSError:
        return None


def keep_unanswered_jobs(executor: Any) -> None:
    """Have a snakemake's `executor` ask again for jobs of which it was told nothing, as while a controller restarts.

    The plugin for Slurm forgets such jobs, and snakemake then waits for them for ever.
    """
    check, told = executor.check_active_jobs, set()

    def telling(report: Callable[..., None]) -> Callable[..., None]:
        def report_end(job: Any, *arguments: Any, **options: Any) -> None:
            told.add(id(job))
            report(job, *arguments, **options)

        return report_end

    async def check_all(jobs: list[Any]) -> AsyncIterator[Any]:
        told.clear()
        async for job in check(jobs):
            told.add(id(job))
            yield job
        for job in jobs:
            if id(job) not in told:
                yield job

    executor.check_active_jobs = check_all
    executor.report_job_success = telling(executor.report_job_success)
    executor.report_job_error = telling(executor.report_job_error)
