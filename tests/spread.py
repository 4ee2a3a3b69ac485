"""How tests are spread over processes: those of a file run in one, where what they share is made once.

xdist's own groups do not hold: its version 3.8 writes a group into a test's name, which pytest 9.2 does not let change.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SPREAD = ("test_project.py", "test_exercises.py")  # their tests share nothing that is costly to make


def group(nodeid: str) -> str:
    "The tests that run in one process: those of a file, unless they share nothing"
    file = nodeid.partition("::")[0]
    return nodeid if Path(file).name in SPREAD else file


def _asked(config: pytest.Config) -> bool:
    "Did somebody ask for another way on the command line?"
    return any(str(word).startswith("--dist") or word == "-d" for word in config.invocation_params.args)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    "Give tests to processes file by file"
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(str(nodeid))

        def _reschedule(self, node: Any) -> None:
            "A process gets tests once it has found them; it begins its last one only when it knows that none comes after"
            if node not in self.registered_collections:
                return
            super()._reschedule(node)
            if self._pending_of(self.assigned_work.get(node, {})) == 1:
                super()._reschedule(node)

        def remove_node(self, node: Any) -> str | None:
            "The test that ended its process has failed, and others get what that process had left"
            work = self.assigned_work[node]
            left = [(unit, test) for unit in work.values() for test, done in unit.items() if not done]
            for unit, test in left[:1]:  # xdist would begin it once more
                unit[test] = True
            finished = [name for name, unit in work.items() if all(unit.values())]
            for name in finished:  # xdist would give these out once more, and wait for ever for nothing
                del work[name]
            super().remove_node(node)
            return left[0][1] if left else None

    return None if _asked(config) else ByFile(config, log)


class Places:
    "Fails where tests of one file ran in several processes, each of which has made anew what they share"

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}  # file to the processes that ran its tests

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.found.setdefault(group(str(report.nodeid)), set()).add(report.node.gateway.id)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield
        spread = sorted(file for file, workers in self.found.items() if len(workers) > 1)
        if spread and session.exitstatus == pytest.ExitCode.OK:
            print(f"\nFAILED: tests of one file ran in several processes: {', '.join(spread)}", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def watch(config: pytest.Config) -> None:
    "In the process that gives out the tests, see that each file's stay together"
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no" or _asked(config):
        return
    config.pluginmanager.register(Places())
