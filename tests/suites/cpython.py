"""cpython.py RESULTS SECONDS MODULE... - run modules of CPython's test suite, one line for each test into RESULTS.

A line is "outcome <tab> test": passed, skipped, failed, or hung. It is written when the test has ended, so that one that kills
the interpreter or sleeps for longer than SECONDS, or what follows it does, costs only itself: started again with the same RESULTS (run.sh does), the
runner goes on behind it. Exit status: 0 when it came to the end, 1 when it has to be started again.
"""

import faulthandler
import os
import sys
import unittest

from test import support


class Lines(unittest.TestResult):
    """Writes what came of each test; a test with subtests has failed when one of them has."""

    def __init__(self, path, seconds):
        super().__init__()
        self.path, self.seconds, self.outcome = path, seconds, None

    def line(self, outcome, test):
        with open(self.path, "a", encoding="utf-8") as out:
            out.write(f"{outcome}\t{test.id()}\n")

    def startTest(self, test):
        super().startTest(test)
        self.outcome = "passed"
        self.line("started", test)
        faulthandler.dump_traceback_later(self.seconds, exit=True)

    def stopTest(self, test):
        # What comes behind the tests may hang as well: a child that one left behind is waited for.
        faulthandler.dump_traceback_later(self.seconds, exit=True)
        super().stopTest(test)
        self.line(self.outcome, test)

    def failure(self, test, err):
        self.outcome = "failed"
        sys.stderr.write(f"\n==== {test.id()}\n{self._exc_info_to_string(err, test)}")
        if not isinstance(test, unittest.TestCase):  # setUpClass, setUpModule
            self.line("failed", test)

    def addError(self, test, err):
        self.failure(test, err)

    def addFailure(self, test, err):
        self.failure(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.failure(test, err)

    def addUnexpectedSuccess(self, test):
        self.outcome = "failed"

    def addSkip(self, test, reason):
        self.outcome = "skipped"
        if not isinstance(test, unittest.TestCase):
            self.line("skipped", test)


def ended(path):
    """The tests that an earlier run has done; one that was started and did not end has hung or killed the interpreter."""
    last = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                outcome, name = line.rstrip("\n").split("\t")
                last[name] = outcome
    with open(path, "a", encoding="utf-8") as out:
        for name, outcome in last.items():
            if outcome == "started":
                out.write(f"hung\t{name}\n")
    return set(last)


def without(suite, done):
    left = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            left.addTest(without(test, done))
        elif test.id() not in done:
            left.addTest(test)
    return left


def main():
    path, seconds, modules = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    support.verbose = False
    support.use_resources = ["cpu", "network", "subprocess", "walltime"]
    done = ended(path)
    lines = Lines(path, seconds)
    for name in modules:
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName("test." + name)
        except unittest.SkipTest as reason:  # the module wants a terminal, another system, ...
            print(f"{name}: skipped: {reason}")
            continue
        without(suite, done).run(lines)


if __name__ == "__main__":
    faulthandler.enable()
    main()
