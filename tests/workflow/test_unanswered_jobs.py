"""A job of which a scheduler says nothing for a while is asked after again."""

import asyncio

from theseus_bench.slurm import keep_unanswered_jobs


class Executor:
    """Snakemake's plugin for Slurm in little: `answers` says what each question brings."""

    def __init__(self, *answers: dict[str, str]):
        self.answers, self.ended = list(answers), []

    async def check_active_jobs(self, jobs):
        answer = self.answers.pop(0)
        for job in jobs:
            if answer.get(job) == "running":
                yield job
            elif answer.get(job) == "done":
                self.report_job_success(job)
            elif answer.get(job) == "failed":
                self.report_job_error(job, msg="why")

    def report_job_success(self, job):
        self.ended.append((job, "done"))

    def report_job_error(self, job, msg):
        self.ended.append((job, msg))


def check(executor: Executor, jobs: list[str]) -> list[str]:
    async def collect() -> list[str]:
        return [job async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(collect())


def test_jobs_without_an_answer_are_kept_until_there_is_one():
    executor = Executor({}, {"a": "running", "b": "done", "c": "failed"}, {"a": "done"})
    keep_unanswered_jobs(executor)
    jobs = ["a", "b", "c"]
    assert check(executor, jobs) == jobs
    assert executor.ended == []
    assert check(executor, jobs) == ["a"]
    assert executor.ended == [("b", "done"), ("c", "why")]
    assert check(executor, ["a"]) == []
    assert executor.ended[-1] == ("a", "done")
