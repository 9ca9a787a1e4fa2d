"""Settings of answers that the backend gives."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ocppgw.config.kinds import Names
from ocppgw.config.problems import did_you_mean
from ocppgw.config.section import Section
from ocppgw.ocpp.deciding import DECIDABLE, REPEATABLE

Fallback = Literal["local", "last", "error"]


def _decidable(actions: tuple[str, ...]) -> tuple[str, ...]:
    for action in actions:
        if action not in DECIDABLE:
            hint = did_you_mean(action, sorted(DECIDABLE), "names are written as in OCPP, without Request")
            raise ValueError(f"names {action!r}, which no station asks and a backend answers; {hint}")
    return actions


def _fallbacks(fallbacks: Mapping[str, Fallback]) -> Mapping[str, Fallback]:
    _decidable(tuple(fallbacks))
    for action, kind in fallbacks.items():
        if kind == "last" and action not in REPEATABLE:
            raise ValueError(f"has last for {action}, whose answer holds once only; last is for {_listed(REPEATABLE)}")
    return fallbacks


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


Actions = Annotated[Names, Field(strict=False), AfterValidator(_decidable)]


class DecisionsSettings(Section):
    """Which answers to stations the backend gives: over Kafka, or where Kafka is off over /v1/calls."""

    enabled: bool = Field(
        default=False, description="Ask the backend. With Kafka that takes the two topics kafka.topic_call_…."
    )
    backend: Actions = Field(
        default=(),
        description="Actions whose answer the backend decides, such as Authorize and BootNotification. All others are "
        "answered here, as [answers] says.",
    )
    tenants: Mapping[str, Actions] = Field(
        default={},
        description="The same for the stations of a tenant, instead of decisions.backend. An identity may have a list "
        "of its own, decisions, which counts before both.",
    )
    timeout_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=25,
        description="Time the backend has, seconds. Stations give up after 10 to 30.",
    )
    fallback: Literal["local", "error"] = Field(
        default="local",
        description="When it does not decide in time: local, the answer the gateway gives otherwise; error, a "
        "CALLERROR (never to a message about a transaction, which gets the local answer).",
    )
    fallbacks: Annotated[Mapping[str, Fallback], AfterValidator(_fallbacks)] = Field(
        default={},
        description="The same for single actions. There is also last: what the backend last said of that token of that "
        "station, else local.",
    )
