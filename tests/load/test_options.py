"""The options: what Locust's command line and page hand over becomes a plan, and never a password on the way."""

import argparse
from typing import Any

import pytest

from loadgen.commands.main import main
from loadgen.errors import PlanError
from loadgen.load.options import OPTION_NAMES, add_options, arguments, option_names, plan_of
from loadgen.workload.loading import installed_workloads, load_workload

SALE = load_workload(installed_workloads()["flashsale"])


class Parser(argparse.ArgumentParser):
    """Takes what Locust's parser takes beside argparse's own."""

    def add_argument(self, *names: Any, env_var: str = "", include_in_web_ui: bool = True, **options: Any) -> Any:
        """Keep what the page reads on the action, as Locust does."""
        action = super().add_argument(*names, **options)
        action.include_in_web_ui = include_in_web_ui  # type: ignore[attr-defined]
        return action


def parser() -> Parser:
    """A parser with our options and those of Locust that they meet."""
    made = Parser()
    made.add_argument("-t", "--run-time", dest="run_time")
    made.add_argument("-u", dest="num_users", type=int)
    made.add_argument("--processes", type=int)
    add_options(made, [SALE])
    return made


def parsed(*arguments: str) -> dict[str, Any]:
    """The options of a command line."""
    return vars(parser().parse_args(list(arguments)))


def test_no_option_gives_the_default_plan() -> None:
    """A stranger types nothing."""
    plan, cut_s = plan_of(parsed(), (("order", 1),), SALE)

    assert (plan.engine, plan.cluster, plan.strategy, plan.shape) == ("postgres", "embedded", "atomic", "double11")
    assert (plan.duration_s, plan.sessions, plan.workload) == (60.0, 32, "flashsale")
    assert cut_s == float("inf")


def test_run_time_alone_is_the_duration() -> None:
    """-t 30 is how Locust's users say it."""
    plan, cut_s = plan_of(parsed("-t", "30s"), (), SALE)

    assert plan.duration_s == 30.0
    assert cut_s == float("inf")


def test_run_time_beside_duration_cuts() -> None:
    """Both: the schedule is the duration's, and -t ends the run."""
    plan, cut_s = plan_of(parsed("-t", "10", "--duration", "1m"), (), SALE)

    assert (plan.duration_s, cut_s) == (60.0, 10.0)


def test_sessions_are_locusts_users() -> None:
    """-u is the number of sessions."""
    assert plan_of(parsed("-u", "7"), (), SALE)[0].sessions == 7


def test_choices_are_offered_but_refused_by_the_plan() -> None:
    """The page shows a drop-down; a wrong value is one line of ours, not argparse's usage."""
    options = parsed("--engine", "oracle")
    with pytest.raises(PlanError, match="--engine 'oracle'"):
        plan_of(options, (), SALE)


def test_every_option_has_help_and_a_value_that_parses() -> None:
    """No option does nothing, and its default is accepted when it is typed."""
    for option in arguments([SALE]):
        assert option.help
        if option.default:
            plan_of(parsed(f"--{option.name.replace('_', '-')}", option.default), (), SALE)
    assert set(OPTION_NAMES) >= {"engine", "dsn", "keep"}


def test_options_are_printed_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Locust prints its own help before it has read a locustfile, so they are in none of it."""
    assert main(["options"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for name in option_names(SALE):
        assert f" --{name.replace('_', '-')} " in told
    assert "(default: 400)" in told


def test_dsn_is_not_on_the_page() -> None:
    """It holds a password."""
    actions = {action.dest: action for action in parser()._actions}

    assert actions["dsn"].include_in_web_ui is False  # type: ignore[attr-defined]
    assert actions["engine"].choices
