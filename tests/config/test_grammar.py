"""What a policy file may say, and what each wrong way to say it is answered with."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from datetime import timedelta

import pytest

from penstock import ConfigError, Policy, Verdict, VerdictKind
from penstock.config import ConfigFileError, load, load_dict
from penstock.stages.retry import Constant, Exponential, Jitter, Linear

SEEN: list[object] = []


def classify(failure):
    """Stand for a classifier of a user's."""
    return VerdictKind.TRANSIENT if isinstance(failure, KeyError) else None


def answer(failure, *args):
    """Stand for a fallback function of a user's."""
    return f"instead of {type(failure).__name__}"


def is_good(result):
    """Stand for a predicate of a user's."""
    return result is not None


def wait(attempt):
    """Stand for a back-off of a user's."""
    return attempt * 2.0


def cost(call):
    """Stand for a cost function of a user's."""
    return 3


def observe(event):
    """Stand for an observer of a user's."""
    SEEN.append(event)


class Holder:
    """Something with attributes."""

    predicate = staticmethod(is_good)


def at(name):
    """Return the reference to a name in this module."""
    return f'{{python: "{__name__}:{name}"}}'


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let references find this module, which pytest imports under a name of its own."""
    import sys  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    SEEN.clear()


def _this_module():
    import types  # noqa: PLC0415

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def options_of(checked):
    """Return the options of every stage of the only policy."""
    assert checked.problems == ()
    return [stage.options for stage in checked.policies["p"].stages]


def test_the_example_of_the_design_page_is_read(check_file):
    """Short and long forms, in the order in which they are written."""
    checked = check_file("""
        # yaml-language-server: $schema=./policy.schema.json
        version: 1
        policies:
          p:
            pipeline:                      # outermost first
              - timeout: 30s
              - retry: {attempts: 4, wait: {exponential: {initial: 200ms, max: 10s, jitter: full}}}
              - rate: 10/s
              - breaker: {failures: 5, recover_after: 30s}
              - concurrency: {limit: 20, max_queue: 100}
              - timeout: 5s
    """)

    total, retry, rate, breaker, concurrency, each = options_of(checked)
    assert (total.seconds, each.seconds) == (30, 5)
    assert retry.attempts == 4
    assert retry.wait == Exponential(initial=0.2, max=10.0, jitter=Jitter.FULL)
    assert str(rate.rate[0]) == "10/1s"
    assert (breaker.failures, breaker.recover_after) == (5, 30)
    assert (concurrency.limit, concurrency.max_queue) == (20, 100)


SHORT = {
    "timeout: 1m30s": ("seconds", 90),
    "retry: 5": ("attempts", 5),
    'retry: "5"': ("attempts", 5),
    "retry": ("attempts", 3),
    "retry:": ("attempts", 3),
    "budget: 10%": ("ratio", 0.1),
    "budget": ("ratio", 0.2),
    "breaker: 7": ("failures", 7),
    "breaker": ("failures", None),
    "concurrency: 8": ("limit", 8),
}


@pytest.mark.parametrize(("text", "expected"), SHORT.items())
def test_each_stage_has_a_short_form(check_stages, text, expected):
    """The value without a key is the one that is nearly always meant."""
    (options,) = options_of(check_stages(f"- {text}"))

    field, value = expected
    assert getattr(options, field) == value


WAITS = {
    "2s": 2.0,
    "0": 0.0,
    "exponential": Exponential(),
    "{exponential: }": Exponential(),
    "{exponential: 1s}": Exponential(initial=1),
    "{constant: 2s}": Constant(seconds=2),
    "{constant: {seconds: 2s, jitter: 10%}}": Constant(seconds=2, jitter=0.1),
    "{linear: {initial: 1s, increment: 500ms, jitter: none}}": Linear(
        initial=1, increment=0.5, jitter="none"
    ),
    "{exponential: {factor: 3, jitter: 0.5}}": Exponential(factor=3, jitter=0.5),
}


@pytest.mark.parametrize(("text", "expected"), WAITS.items())
def test_retry_waits_in_every_shape(check_stages, text, expected):
    """A duration, a shape by its name, with its first option, or with all of them."""
    (options,) = options_of(check_stages(f"- retry: {{wait: {text}}}"))

    assert options.wait == expected


def test_retry_takes_kinds_exceptions_and_functions(check_stages):
    """Everything that Python can hand to retry has a way to be written."""
    (options,) = options_of(
        check_stages(f"""
            - retry:
                wait: {at("wait")}
                retry_on: [transient, ConnectionError, json.JSONDecodeError, {at("is_good")}]
                accept: {at("Holder.predicate")}
                stop: 1m
                on_retry: {at("observe")}
                before_sleep: {at("observe")}
                max_server_delay: 0
        """)
    )

    kind, builtin, dotted, predicate = options.retry_on
    assert (kind, builtin, dotted) == ("transient", ConnectionError, json.JSONDecodeError)
    assert predicate(1)
    assert options.wait(2) == 4
    assert [good(1) for good in options.accept] == [True]
    assert (options.stop, options.attempts, options.max_server_delay) == (60, None, 0)


def test_tenacity_objects_are_named_by_reference(check_stages):
    """What is built in Python is used as it is."""
    (options,) = options_of(
        check_stages("""
            - retry:
                stop: {python: "tenacity:stop_never"}
                retry_on: {python: "tenacity.retry:retry_always"}
        """)
    )

    assert type(options.stop).__name__ == "_stop_never"
    assert type(options.retry_on[0]).__name__ == "_retry_always"


RATES = {
    "10/s": [(10, 1, None)],
    "[10/s, 500/min]": [(10, 1, None), (500, 60, None)],
    "{requests: 500/min, tokens: 30000/min}": [(500, 60, "requests"), (30000, 60, "tokens")],
    "{rate: 600/min, burst: 10}": [(600, 60, None)],
    "{rate: {requests: 5/s, tokens: 90/s}, cost: {tokens: 7}}": [
        (5, 1, "requests"),
        (90, 1, "tokens"),
    ],
}


@pytest.mark.parametrize(("text", "expected"), RATES.items())
def test_a_rate_is_one_several_or_several_by_name(check_stages, text, expected):
    """As in Python."""
    (options,) = options_of(check_stages(f"- rate: {text}"))

    assert [(each.amount, each.per, each.name) for each in options.rate] == expected


def test_a_cost_is_a_number_a_mapping_or_a_function(check_stages):
    """As in Python."""
    one, text, named, function = options_of(
        check_stages(f"""
            - rate: {{rate: 10/s, cost: 2}}
            - rate: {{rate: 10/s, cost: "2.5"}}
            - rate: {{rate: {{a: 5/s, b: 9/s}}, cost: {{b: "3"}}}}
            - rate: {{rate: 10/s, cost: {at("cost")}}}
        """)
    )

    assert (one.cost, text.cost, dict(named.cost)) == (2, 2.5, {"b": 3})
    assert function.cost(None) == 3


def test_a_fallback_answers_with_a_value_a_function_or_a_policy(check_file):
    """The policy is another one of the file, wherever it stands in it."""
    checked = check_file(f"""
        version: 1
        policies:
          first:
            pipeline:
              - fallback: {{policy: second, fallback_on: timeout}}
          second:
            pipeline:
              - fallback: {at("answer")}
              - fallback: {{function: {at("answer")}, fallback_on: [ConnectionError]}}
              - fallback: {{value: null}}
              - fallback: {{value: [1, {{a: "${{PENSTOCK_TEST_NOPE:-x}}"}}]}}
    """)

    assert checked.problems == ()
    assert list(checked.policies) == ["first", "second"]
    first, second = checked.policies.values()
    assert first.stages[0].options.policy is second
    assert second.stages[0].options.function("x") == "instead of str"
    assert second.stages[2].options.value is None
    assert second.stages[3].options.value == [1, {"a": "x"}]
    assert type(second.stages[3].options.value[1]["a"]) is str


async def test_a_policy_of_a_file_works(check_file):
    """What was read is a policy like any other."""
    checked = check_file(f"""
        version: 1
        policies:
          p:
            pipeline:
              - fallback: {at("answer")}
              - retry: {{attempts: 3, wait: 1s}}
              - timeout: 5s
    """)
    calls = 0

    async def fail():
        nonlocal calls
        calls += 1
        raise ConnectionError

    result = await checked.policies["p"].call(fail)

    assert (result, calls) == ("instead of ConnectionError", 3)


def test_a_shared_stage_is_one_stage_in_all_policies_of_a_load(tmp_path):
    """Same name, same state; another load has a state of its own."""
    file = tmp_path / "p.yaml"
    file.write_text("""
version: 1
shared:
  quota: {rate: 10/s}
  guard: retry
policies:
  a: {pipeline: [shared: guard, shared: quota]}
  b: {pipeline: [timeout: 3s, shared: quota]}
""")

    once, again = load(file), load(file)

    assert once["a"].stages[1] is once["b"].stages[1]
    assert once["a"].stages[1] is not again["a"].stages[1]


def test_a_policy_names_its_hooks(check_file):
    """Classifier, result classifier, discard and observers are functions of Python's."""
    checked = check_file(f"""
        version: 1
        policies:
          p:
            classify: {at("classify")}
            classify_result: http
            discard: {at("observe")}
            observers: {at("observe")}
            pipeline: [retry: {{attempts: 2, wait: 0}}]
          q:
            classify_result: {at("classify")}
            observers: [{at("observe")}, {at("observe")}]
            pipeline: []
    """)

    async def fail():
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(checked.policies["p"].call(fail))

    assert checked.problems == ()
    assert len({type(event).__name__ for event in SEEN}) > 2


def test_a_policy_names_presets(check_file):
    """One, or several with functions between them; each is asked in the order written."""
    checked = check_file(f"""
        version: 1
        policies:
          p: {{classify: openai, classify_result: openai, pipeline: []}}
          q: {{classify: [{at("classify")}, stripe], pipeline: []}}
          r: {{pipeline: []}}
    """)

    conflict = OSError()
    conflict.status_code = 409
    kinds = [policy._context.classify(conflict).kind.value for policy in checked.policies.values()]

    assert checked.problems == ()
    assert kinds == ["transient", "transient", "caller_bug"]


@pytest.mark.parametrize("option", ["classify", "classify_result"])
@pytest.mark.parametrize("wrong", ["3", "true", "[[openai]]", "{openai: http}"])
def test_what_is_no_preset_and_no_function_is_refused(check_file, option, wrong):
    """The message says what may be written."""
    checked = check_file(f"version: 1\npolicies: {{p: {{pipeline: [], {option}: {wrong}}}}}")

    (problem,) = checked.problems

    assert f"'{option}' must be the name of a preset" in problem.message or "python" in (
        problem.hint or ""
    )


def test_settings_of_python_win_over_the_file(tmp_path):
    """What code hands over is nearer than what a file says."""
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\npolicies: {p: {classify_result: http, pipeline: []}}\n")

    def judge(result):
        return Verdict(VerdictKind.OK)

    policy = Policy.from_yaml(file, observers=[observe], classify_result=judge)

    assert policy._settings.classify_result is judge
    assert policy._settings.observers == (observe,)


def test_a_setting_of_python_that_is_wrong_is_a_config_error():
    """It is reported like everything else."""
    data = {"version": 1, "policies": {"p": {"pipeline": []}}}

    with pytest.raises(ConfigError, match="classifier must be a plain function"):
        Policy.from_dict(data, classify=3)


def test_a_dict_may_hold_what_only_python_has():
    """Functions, exception types and timedeltas need no reference there."""
    data = OrderedDict(
        version=1,
        policies={
            "p": {
                "classify": classify,
                "pipeline": (
                    {"fallback": answer},
                    {"timeout": timedelta(seconds=3)},
                    {"retry": {"retry_on": (KeyError, is_good), "wait": wait, "stop": is_good}},
                    {"retry": {"wait": Exponential(), "accept": is_good}},
                    {"rate": {"rate": "3/s", "cost": cost}},
                ),
            }
        },
    )

    policy = Policy.from_dict(data)

    fallback, timeout, retry, shaped, rate = (stage.options for stage in policy.stages)
    assert (fallback.function, timeout.seconds) == (answer, 3)
    assert (retry.retry_on, retry.wait, retry.stop) == ((KeyError, is_good), wait, is_good)
    assert (shaped.wait, shaped.accept, rate.cost) == (Exponential(), (is_good,), cost)


def test_a_dict_may_hold_a_policy_of_python():
    """A fallback policy need not stand in the same data."""
    other = Policy("other")
    data = {"version": 1, "policies": {"p": {"pipeline": [{"fallback": {"policy": other}}]}}}

    assert Policy.from_dict(data).stages[0].options.policy is other


TWO = {"version": 1, "policies": {"search": {"pipeline": []}, "report": {"pipeline": []}}}


def test_one_of_several_policies_is_named():
    """The name picks it; without one there has to be only one."""
    assert Policy.from_dict(TWO, "report").name == "report"
    assert list(load_dict(TWO)) == ["search", "report"]
    with pytest.raises(ConfigError, match="holds 2 policies; name one of search, report"):
        Policy.from_dict(TWO)
    with pytest.raises(ConfigError, match="no policy 'serch'; did you mean 'search'"):
        Policy.from_dict(TWO, "serch")
    with pytest.raises(ConfigError, match="no policy 'x'; it has search, report"):
        Policy.from_dict(TWO, "x")


WRONG_STAGES = {
    "concurency: 8": "unknown stage 'concurency' | did you mean 'concurrency'?",
    "rate_limit: 10/s": "unknown stage 'rate_limit' | did you mean 'rate'?",
    "circuit_breaker: 5": "unknown stage 'circuit_breaker' | did you mean 'breaker'?",
    "qqq: 5": "unknown stage 'qqq' | the stages are timeout, retry, rate, breaker, concurrency, "
    "fallback, budget, rotate, shared",
    "hedge: {}": "stage 'hedge' is not in this release | a later one brings it",
    "hedging: {}": "stage 'hedge' is not in this release | a later one brings it",
    "rotating: {}": "unknown stage 'rotating' | did you mean 'rotate'?",
    "5": "expected a stage; got 5 | write '- timeout: 30s'",
    "{}": "expected a stage; got a mapping | write '- timeout: 30s'",
    "[]": "expected a stage; got a list | write '- timeout: 30s'",
    "timeout": "'timeout' needs a value | for example 'timeout: 30s'",
    "timeout:": "'timeout' needs a value | for example 'timeout: 30s'",
    "timeout: 30": "a duration needs a unit | write 30s if you mean seconds",
    "timeout: 0": "'seconds' must be a duration above 0, such as 30s; got 0",
    "timeout: {second: 3s}": "unknown key 'second' in 'timeout' | did you mean 'seconds'?",
    "timeout: {zz: 3s}": "unknown key 'zz' in 'timeout' | known are seconds",
    "timeout: [3s]": "expected a duration such as '30s'; got a list",
    "retry: 0": "'attempts' must be a whole number of at least 1; got 0",
    "retry: 2.5": "'attempts' must be a whole number of at least 1; got 2.5",
    "retry: many": "'attempts' must be a whole number of at least 1; got 'many'",
    "retry: true": "'attempts' must be a whole number of at least 1; got true",
    "retry: [1]": "'attempts' must be a whole number of at least 1; got a list",
    "retry: {wait: exponentiel}": "unknown wait 'exponentiel' | did you mean 'exponential'?",
    "retry: {wait: {exponentiel: 2s}}": "unknown key 'exponentiel' in 'wait' | "
    "did you mean 'exponential'?",
    "retry: {wait: {exponential: {initail: 1s}}}": "unknown key 'initail' in 'exponential' | "
    "did you mean 'initial'?",
    "retry: {wait: {exponential: {jitter: fulll}}}": "'jitter' must be one of none, full, equal, "
    "or a ratio from 0 to 1 such as 10%; got 'fulll' | did you mean 'full'?",
    "retry: {wait: {exponential: {max: 100ms}}}": "'max' must be at least 'initial' (0.2 s); "
    "got 0.1",
    "retry: {wait: {exponential: [1s]}}": "expected a duration such as '30s'; got a list",
    "retry: {wait: {constant: }}": "'constant' needs 'seconds' | for example 'seconds: 30s'",
    "retry: {wait: {linear: 1s, smooth: 1s}}": "'wait' must be a duration, a shape (constant, "
    "linear, exponential, fibonacci, decorrelated, smooth) with its options, or a reference to a "
    "function; got a mapping | write one shape",
    "retry: {wait: null}": "expected a duration such as '30s'; got null",
    "retry: {wait: {python: 'os:environ'}}": "'wait' must be a duration, a shape (constant, "
    "linear, exponential, fibonacci, decorrelated, smooth) with its options, or a reference to a "
    "function; got {}",
    "retry: {retry_on: transiet}": "unknown failure 'transiet' in 'retry_on' | "
    "did you mean 'transient'?",
    "retry: {retry_on: zz}": "unknown failure 'zz' in 'retry_on' | the kinds are rate_limited, "
    "quota_exhausted, auth, overloaded, transient, timeout, caller_bug, unknown",
    "retry: {retry_on: KeyboardInterrupt}": "unknown failure 'KeyboardInterrupt' in 'retry_on' | "
    "the kinds are rate_limited, quota_exhausted, auth, overloaded, transient, timeout, "
    "caller_bug, unknown",
    "retry: {retry_on: json.dumps}": "'json.dumps' is not an exception type",
    "retry: {retry_on: nowhere_x.Error}": "cannot import 'nowhere_x': ModuleNotFoundError: "
    "\"No module named 'nowhere_x'\"",
    "retry: {retry_on: []}": "'retry_on' must not be empty",
    "retry: {retry_on: [3]}": "expected something of Python's; got 3 | "
    'write {python: "package.module:name"}',
    "retry: {on_retry: print}": "expected something of Python's; got 'print' | "
    'write {python: "package.module:name"}',
    "retry: {on_retry: {python: print}}": "expected 'package.module:name'; got 'print'",
    "retry: {on_retry: {python: 'os:getcw'}}": "'os' has no 'getcw' | did you mean 'getcwd'?",
    "retry: {on_retry: {python: 'os:sep'}}": "'on_retry' must be a reference such as "
    '{python: "package.module:name"}; got a mapping',
    "rate: 10": "a rate needs a unit | write 10/s if you mean per second",
    "rate: []": "'rate' must not be empty",
    "rate: {}": "'rate' needs a value | for example 'rate: 10/s'",
    "rate: [10/s, 10/sx]": "unknown time unit 'sx' in the rate | did you mean '10/s'?",
    "rate: {brst: 3}": "unknown key 'brst' in 'rate' | did you mean 'burst'?",
    "rate: {rate: 10/s, brst: 3}": "unknown key 'brst' in 'rate' | did you mean 'burst'?",
    "rate: {rate: 10/s, cost: much}": "'cost' must be a number of at least 0, a mapping of numbers "
    "by rate, or a reference to a function; got 'much'",
    "rate: {rate: 10/s, cost: -1}": "'cost' must be a finite number of at least 0, or a mapping of "
    "them by limit name; got -1",
    "rate: {rate: {a: 5/s}, cost: {b: 1}}": "'cost' must be a number, or units by the names of its "
    "rates (a); got {'b': 1}",
    "breaker: {failure_ratio: 50}": "'failure_ratio' must be a ratio above 0 to 1, or a percentage "
    "such as 50%; got 50 | did you mean '50%'?",
    "breaker: {failure_ratio: often}": "'failure_ratio' must be a ratio above 0 to 1, or a "
    "percentage such as 50%; got 'often'",
    "breaker: {recover_growth: 50%}": "'recover_growth' must be a finite number of at least 1; "
    "got '50%'",
    "breaker: {slow_after: 3s}": "'slow_ratio' must be set together with 'slow_after'",
    "breaker: {label: ''}": "'label' must be a text that is not empty; got ''",
    "breaker: {recover_after: .nan}": "expected a duration such as '30s'; got nan",
    "budget: {min_per_second: .inf}": "'min_per_second' must be a finite number of at least 0; "
    "got inf",
    "concurrency: {max_queue: 3}": "'concurrency' needs 'limit' | for example 'limit: 3'",
    "fallback": "'value' must be given, or else 'function' or 'policy': exactly one; "
    "got 'none of them'",
    "fallback: 3": 'expected something of Python\'s; got 3 | write {python: "package.module:name"}',
    "fallback: {policy: q}": "unknown policy 'q' | the policies are 'p'",
    "fallback: {policy: [q]}": "'policy' must be the name of another policy of the file; "
    "got a list",
    "fallback: {policy: p}": "policy 'p' would fall back to itself",
    "shared: x": "unknown shared stage 'x' | name it under 'shared:'",
    "shared: [x]": "unknown shared stage a list | name it under 'shared:'",
}


@pytest.mark.parametrize(("text", "expected"), WRONG_STAGES.items())
def test_a_wrong_stage_is_refused_with_what_was_meant(complaints, text, expected):
    """One mistake, one problem, in plain words."""
    said = complaints(f"- {text}")

    if "environ" in text:
        said = [said[0].split("got ")[0] + "got {}"]
    assert said == [expected]


def test_a_number_of_thousands_of_digits_is_refused_without_showing_it():
    """Python itself refuses to print it."""
    data = {"version": 1, "policies": {"p": {"pipeline": [{"retry": {"wait": 10**5000}}]}}}

    with pytest.raises(ConfigFileError, match="got a number of thousands of digits"):
        load_dict(data)


def test_a_shared_stage_that_cannot_be_read_is_reported_once(check_file):
    """Every policy that uses it would say the same."""
    checked = check_file("""
        version: 1
        shared: {lim: 5}
        policies: {a: {pipeline: [shared: lim]}, b: {pipeline: [shared: lim]}}
    """)

    assert [each.message for each in checked.problems] == ["expected a stage; got 5"]


def test_two_stages_in_one_item_are_told_apart(check_stages):
    """A forgotten dash is the most common slip; both stages are still looked at."""
    first, second = check_stages("""
        - timeout: 3s
          retry: 0
    """).problems

    assert (first.line, first.column) == (6, 9)
    assert first.message == "an item of a pipeline is one stage"
    assert second.message.startswith("'attempts' must be")


def test_the_place_of_a_value_in_short_form_is_the_value(check_stages):
    """The long form's key, which nobody wrote, does not appear."""
    (problem,) = check_stages("- timeout: 30").problems

    assert (problem.line, problem.column, problem.width) == (5, 18, 2)
    assert problem.path == "policies.p.pipeline[0].timeout"


def test_the_place_of_a_list_item_is_the_item(check_stages):
    """The second of three is marked, and not the list."""
    (problem,) = check_stages("- retry: {retry_on: [timeout, transiet, auth]}").problems

    assert (problem.column, problem.width) == (37, 8)
    assert problem.path == "policies.p.pipeline[0].retry.retry_on[1]"


WRONG_ROOTS = {
    "policies: {p: {pipeline: []}}": "'version' is missing",
    "version: 2\npolicies: {p: {pipeline: []}}": "unknown version 2",
    "version: true\npolicies: {p: {pipeline: []}}": "unknown version true",
    "version: 1": "'policies' is missing",
    "version: 1\npolicies:": "'policies' must be a mapping; got null",
    "version: 1\npolicies: {}": "there is no policy",
    "version: 1\npolicies: [a]": "'policies' must be a mapping; got a list",
    "version: 1\npolicies: {'': {pipeline: []}}": "the name of a policy must not be empty",
    "version: 1\npolicies: {p: }": "a policy is a mapping",
    "version: 1\npolicies: {p: [timeout: 3s]}": "a policy is a mapping",
    "version: 1\npolicies: {p: 3}": "'policy' must be a mapping",
    "version: 1\npolicies: {p: {}}": "'policy' needs 'pipeline'",
    "version: 1\npolicies: {p: {pipeline: }}": "'pipeline' must be a list of stages, outermost "
    "first; got null",
    "version: 1\npolicies: {p: {pipeline: [], clasify: 3}}": "unknown key 'clasify' in 'policy'",
    "version: 1\npolicies: {p: {pipeline: [], classify_result: htp}}": "unknown preset 'htp' in "
    "'classify_result'",
    "version: 1\npolicies: {p: {pipeline: [], classify_result: redis}}": "unknown preset "
    "'redis' in 'classify_result'",
    "version: 1\npolicies: {p: {pipeline: [], classify: opnai}}": "unknown preset 'opnai' in "
    "'classify'",
    "version: 1\npipeline: []\npolicies: {p: {pipeline: []}}": "unknown key 'pipeline' in a policy "
    "file",
    "version: 1\npolices: {}\npolicies: {p: {pipeline: []}}": "unknown key 'polices' in a policy "
    "file",
    "version: 1\nshared: [a]\npolicies: {p: {pipeline: []}}": "'shared' must be a mapping; "
    "got a list",
    "version: 1\nshared: {a: {shared: a}}\npolicies: {p: {pipeline: [shared: a]}}": "a shared "
    "stage is a stage, not the name of another one",
    "version: 1\nallow_literal: 3\npolicies: {p: {pipeline: []}}": "'allow_literal' must be true "
    "or false",
}


@pytest.mark.parametrize(("text", "message"), WRONG_ROOTS.items())
def test_a_wrong_file_round_the_stages_is_refused(check_file, text, message):
    """The frame of a file is checked like the stages in it."""
    checked = check_file(text)

    assert checked.policies == {}
    assert [each.message for each in checked.problems] == [message]


def test_mistakes_in_several_policies_and_round_them_are_reported_together(check_file):
    """Nobody has to run it twice."""
    checked = check_file("""
        version: 3
        shared: {lim: {rte: 3/s}, unused: {timeout: 3}}
        policies:
          a: {pipelin: [], pipeline: [timeout: 3]}
          b: {pipeline: [shared: lim, retry: 0]}
    """)

    assert [each.line for each in checked.problems] == [2, 3, 3, 3, 5, 5, 6]


def test_a_shared_stage_that_nobody_uses_is_a_warning(check_file):
    """It does no harm, and is nearly always a slip."""
    checked = check_file("""
        version: 1
        shared: {lim: {rate: 3/s}}
        policies: {a: {pipeline: []}}
    """)

    (problem,) = checked.problems
    assert problem.level.value == "warning"
    assert problem.message == "shared stage 'lim' is not used by any policy"
    assert checked.policies


ORDERS = {
    "- timeout: 3s\n- retry\n- timeout: 5s": (7, "error", "the inner timeout of 5 s can never"),
    "- retry\n- fallback: {value: 1}": (6, "error", "the fallback inside retry answers"),
    "- retry\n- budget": (6, "error", "the budget stands inside retry"),
    "- rate: 3/s\n- retry": (6, "warning", "the rate limit stands outside retry"),
    "- retry\n- retry": (6, "warning", "retry over retry multiplies"),
}


@pytest.mark.parametrize(("text", "expected"), ORDERS.items())
def test_the_order_rules_are_reported_at_the_stage(check_stages, text, expected):
    """The stage to move is the one that is marked."""
    (problem,) = check_stages(text).problems

    line, level, message = expected
    assert (problem.line, problem.level.value) == (line, level)
    assert problem.message.startswith(message)


def test_the_same_shared_stage_twice_in_a_pipeline_is_an_error(check_file):
    """Its state would be charged twice for each call."""
    checked = check_file("""
        version: 1
        shared: {lim: {rate: 3/s}}
        policies: {a: {pipeline: [shared: lim, shared: lim]}}
    """)

    assert [each.message for each in checked.problems] == [
        "the same 'rate_limit' stage stands twice in one pipeline; use two, or fresh()"
    ]


def test_order_is_checked_among_the_stages_that_could_be_read(check_stages):
    """A mistake in one stage hides nothing about the others."""
    problems = check_stages("- timeout: 3s\n- retry: 0\n- timeout: 5s").problems

    assert [each.line for each in problems] == [6, 7]


def test_policies_that_fall_back_in_a_circle_are_refused(check_file):
    """A call would never end."""
    checked = check_file("""
        version: 1
        policies:
          a: {pipeline: [fallback: {policy: b}]}
          b: {pipeline: [fallback: {policy: a}]}
    """)

    assert [each.message for each in checked.problems] == ["policy 'a' would fall back to itself"]


def test_a_long_chain_of_fallback_policies_is_refused():
    """Each is built inside the one before; a thousand would be too much for Python."""
    policies = {f"p{n}": {"pipeline": [{"fallback": {"policy": f"p{n + 1}"}}]} for n in range(1000)}

    with pytest.raises(ConfigFileError, match="fall back to each other more than 20 deep"):
        load_dict({"version": 1, "policies": {**policies, "p1000": {"pipeline": []}}})


def test_a_rate_whose_cost_can_never_be_paid_is_refused(complaints):
    """What only the stage itself can see is reported at the stage, too."""
    (said,) = complaints("- rate: {rate: 10/s, cost: 11}")

    assert said.startswith("'cost' must be at most what the limit holds")


def test_a_module_that_ends_the_process_is_a_problem(complaints, tmp_path, monkeypatch):
    """Its import is not penstock's doing, but its report is."""
    (tmp_path / "penstock_test_exit.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)

    (said,) = complaints("- fallback: {python: 'penstock_test_exit:x'}")

    assert said == "cannot import 'penstock_test_exit': SystemExit: '3'"


def test_from_yaml_takes_the_only_policy(tmp_path):
    """The name may be left out where there is one."""
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\npolicies: {only: {pipeline: [timeout: 3s]}}\n")

    assert Policy.from_yaml(file).name == "only"
    assert Policy.from_yaml(str(file), name="only").stages[0].options.seconds == 3
