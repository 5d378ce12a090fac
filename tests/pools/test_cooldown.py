from __future__ import annotations

import pytest

from penstock.pools.candidate import Candidate, Member
from penstock.pools.cooldown import CooldownRules
from penstock.pools.lease import Lease
from penstock.pools.resource import Resource

TABLE = (30.0, 120.0, 300.0)


def rules(*, probes: bool = True) -> CooldownRules:
    """Return rules with three steps."""
    return CooldownRules(TABLE, probes=probes)


@pytest.fixture
def candidate() -> Candidate:
    """Return a candidate that has never failed."""
    return Candidate(Member(Resource("secret", "a"), 0, None), 0)


def test_rests_in_a_row_get_longer_and_the_last_step_repeats(candidate: Candidate) -> None:
    """Each incident takes the next step of the table."""
    rests: list[float | None] = []

    for use in range(1, 6):
        rules().cool(candidate, 1000.0 * use, use, use, None)
        rests.append(candidate.cooling_until)
        rules().expire(candidate)

    assert rests == [1030.0, 2120.0, 3300.0, 4300.0, 5300.0]
    assert candidate.level == 5


def test_an_escalation_without_end_does_no_harm(candidate: Candidate) -> None:
    """The ten-thousandth rest in a row is as long as the third."""
    candidate.level = 10_000

    rules().cool(candidate, 0.0, 1, 1, None)

    assert candidate.cooling_until == 300.0


def test_uses_that_failed_together_take_one_step(candidate: Candidate) -> None:
    """Ten uses that had begun before the cooldown belong to one incident."""
    told = [rules().cool(candidate, 5.0 + use, use, 10, None) for use in range(1, 11)]

    assert told == [True] + [False] * 9
    assert candidate.level == 1
    assert candidate.cooling_until == 36.0


def test_a_use_that_began_after_the_cooldown_takes_the_next_step(candidate: Candidate) -> None:
    """The latest use at the time of the cooldown still belongs to it, the one after does not."""
    rules().cool(candidate, 0.0, 1, 7, None)

    rules().cool(candidate, 1.0, 7, 8, None)
    at_the_border = candidate.level
    rules().cool(candidate, 1.0, 8, 8, None)

    assert at_the_border == 1
    assert candidate.level == 2


@pytest.mark.parametrize(("seconds", "until"), [(60.0, 61.0), (0.0, 1.0)])
def test_a_stated_time_replaces_the_table(
    candidate: Candidate, seconds: float, until: float
) -> None:
    """What the server says counts, zero included; it is a step all the same."""
    cooled = rules().cool(candidate, 1.0, 1, 1, seconds)

    assert cooled is True
    assert candidate.cooling_until == until
    assert candidate.level == 1


def test_a_stated_time_of_the_same_incident_makes_the_rest_longer(candidate: Candidate) -> None:
    """A late answer may know better how long; it is no second offence."""
    rules().cool(candidate, 0.0, 2, 2, None)

    longer = rules().cool(candidate, 10.0, 1, 2, 60.0)

    assert longer is True
    assert candidate.cooling_until == 70.0
    assert candidate.level == 1


@pytest.mark.parametrize("seconds", [0.0, 5.0, 20.0])
def test_a_rest_is_never_made_shorter(candidate: Candidate, seconds: float) -> None:
    """A shorter time of the same incident, or one as long, changes nothing."""
    rules().cool(candidate, 0.0, 1, 2, 30.0)

    longer = rules().cool(candidate, 10.0, 2, 2, seconds)

    assert longer is False
    assert candidate.cooling_until == 30.0


def test_a_new_incident_in_a_longer_rest_counts_but_does_not_shorten(candidate: Candidate) -> None:
    """While a quota rests for an hour a failure escalates, and the hour stays."""
    rules().rest(candidate, 3600.0)

    longer = rules().cool(candidate, 0.0, 1, 1, None)

    assert longer is False
    assert candidate.level == 1
    assert candidate.cooling_until == 3600.0


def test_the_end_of_a_rest_is_on_probation(candidate: Candidate) -> None:
    """After a failure's rest one use at a time shows whether it is well."""
    rules().cool(candidate, 0.0, 1, 1, None)

    rules().expire(candidate)

    assert candidate.cooling_until is None
    assert candidate.recovering is True
    assert candidate.level == 1


def test_without_probes_the_end_of_a_rest_is_the_end(candidate: Candidate) -> None:
    """``probe_on_recovery=False`` brings it back in full."""
    rules().cool(candidate, 0.0, 1, 1, None)

    rules(probes=False).expire(candidate)

    assert candidate.recovering is False


def test_a_rest_that_no_failure_began_needs_no_probe(candidate: Candidate) -> None:
    """A quota that came back is simply back."""
    rules().rest(candidate, 10.0)

    rules().expire(candidate)

    assert candidate.recovering is False


def test_only_a_use_that_began_after_the_cooldown_heals(candidate: Candidate) -> None:
    """A success that was under way already knows nothing of it."""
    rules().cool(candidate, 0.0, 3, 5, None)
    rules().expire(candidate)

    early = [rules().heal(candidate, use) for use in (1, 3, 5)]
    late = rules().heal(candidate, 6)

    assert early == [False, False, False]
    assert late is True
    assert candidate.level == 0
    assert candidate.recovering is False


def test_the_probe_that_healed_is_a_use_like_any_other(candidate: Candidate) -> None:
    """Kept, it would stand in the way of the next recovery for ever."""
    rules().cool(candidate, 0.0, 1, 1, None)
    rules().expire(candidate)
    candidate.probe = Lease(None, candidate, 2, 30.0)

    rules().heal(candidate, 2)

    assert candidate.probe is None


def test_nothing_heals_a_candidate_that_rests(candidate: Candidate) -> None:
    """A good answer of a use that saw the quota run out does not call it back."""
    rules().rest(candidate, 10.0)

    healed = rules().heal(candidate, 1)

    assert healed is False
    assert candidate.cooling_until == 10.0


def test_clearing_forgets_the_past_and_what_is_under_way(candidate: Candidate) -> None:
    """Whoever enables it means it: failures of uses that began before take no step."""
    rules().cool(candidate, 0.0, 1, 1, None)

    rules().clear(candidate, latest=4)
    late = rules().cool(candidate, 1.0, 4, 4, None)

    assert late is False
    assert candidate.level == 0
    assert candidate.cooling_until is None
    assert candidate.recovering is False
