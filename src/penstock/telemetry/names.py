"""Every name that telemetry uses, as data: ``docs/telemetry.md`` is compared with it by a test."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ATTEMPTS",
    "ATTEMPT_NUMBER",
    "ATTEMPT_SPAN",
    "DISPLACED",
    "ERROR_TYPE",
    "OPERATION",
    "OUTCOME",
    "POLICY",
    "REQUEST_ID",
    "RESOURCE",
    "SCHEMA_URL",
    "SCOPE",
    "SPANS",
    "TAG",
    "VERDICT",
    "WAIT",
    "Attribute",
    "SpanName",
]

# The name of the tracer, the meter and the logger, and the conventions that ``error.type`` is from.
SCOPE = "penstock"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a span, a metric or a log event.

    Attributes:
        name: What it is called; ``{...}`` stands for one of several words.
        type: ``string``, ``int``, ``double`` or ``boolean``.
        about: What it says, and when it is there.
    """

    name: str
    type: str
    about: str


@dataclass(frozen=True, slots=True)
class SpanName:
    """A span.

    Attributes:
        name: What it is called; ``{...}`` stands for a name of the user's.
        about: What it covers.
        attributes: What it carries.
    """

    name: str
    about: str
    attributes: tuple[Attribute, ...]


POLICY = "penstock.policy.name"
OPERATION = "penstock.operation"
OUTCOME = "penstock.outcome"
ATTEMPTS = "penstock.attempts"
REQUEST_ID = "penstock.request.id"
TAG = "penstock.tag."
WAIT = "penstock.wait."

ATTEMPT_SPAN = "attempt"
ATTEMPT_NUMBER = "penstock.attempt.number"
RESOURCE = "penstock.resource.name"
VERDICT = "penstock.verdict"
DISPLACED = "penstock.attempt.displaced"

ERROR_TYPE = "error.type"

_WAITS = "`rate_limit`, `concurrency`, `backoff`, `cooldown`, `queue`, `hook` or `fallback`"

SPANS = (
    SpanName(
        "{policy} {operation}",
        "One call, with all its waits and attempts.",
        (
            Attribute(POLICY, "string", "The policy's name."),
            Attribute(OPERATION, "string", "The function's qualified name."),
            Attribute(REQUEST_ID, "string", "What `using(request_id=...)` set; else absent."),
            Attribute(TAG + "{tag}", "string", "What `using(tags=...)` set, one for each tag."),
            Attribute(ATTEMPTS, "int", "How many times the operation was started."),
            Attribute(OUTCOME, "string", "success, failure, rejected, timeout or cancelled."),
            Attribute(
                WAIT + "{stage}",
                "double",
                f"Seconds waited that no attempt followed; the stage is {_WAITS}.",
            ),
            Attribute(
                ERROR_TYPE,
                "string",
                "Class of the error that reached the caller; the verdict where a result was "
                "refused. Absent on success and when the caller cancelled.",
            ),
        ),
    ),
    SpanName(
        ATTEMPT_SPAN,
        "One start of the operation; a child of the call's span.",
        (
            Attribute(ATTEMPT_NUMBER, "int", "Counts from 1."),
            Attribute(RESOURCE, "string", "Id of the resource that served it, never its value."),
            Attribute(
                WAIT + "{stage}",
                "double",
                f"Seconds waited before it, since the attempt before; the stage is {_WAITS}.",
            ),
            Attribute(VERDICT, "string", "What the outcome meant: the word of a verdict kind."),
            Attribute(
                DISPLACED,
                "boolean",
                "True where an older use of its resource failed, and it was run again elsewhere.",
            ),
            Attribute(
                ERROR_TYPE,
                "string",
                "Class of what the operation raised; the verdict where the result was refused. "
                "Absent on success and on a cancel.",
            ),
        ),
    ),
)
