"""Pools of workers: long-lived objects with a life cycle that take work through a policy."""

from penstock.workers.functions import FunctionPool
from penstock.workers.job import Job, JobState
from penstock.workers.options import Escalation, WorkerPoolOptions
from penstock.workers.pool import WorkerPool
from penstock.workers.worker import Worker

__all__ = [
    "Escalation",
    "FunctionPool",
    "Job",
    "JobState",
    "Worker",
    "WorkerPool",
    "WorkerPoolOptions",
]
