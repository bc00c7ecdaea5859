"""The two ends of a run of the Autobahn suite: what it is told, and what is made of its report.

    suite.py spec-server URL OUTDIR [CASE...]   print the specification of a fuzzing client
    suite.py spec-client URL OUTDIR [CASE...]   print the specification of a fuzzing server
    suite.py compare INDEX.JSON [CASE...]       compare a report with expected.json

A CASE is an id ("6.4.1") or a pattern ("6.4.*"), matched from end to end.
"""

import fnmatch
import json
import pathlib
import sys

AGENT = "wsloop"
PASSED = {"OK", "INFORMATIONAL"}
EXPECTED = pathlib.Path(__file__).with_name("expected.json")


def main(arguments):
    match arguments:
        case ["spec-server", url, outdir, *patterns]:
            print(json.dumps(spec_server(url, outdir, select(patterns)), indent=1))
            return 0
        case ["spec-client", url, outdir, *patterns]:
            print(json.dumps(spec_client(url, outdir, select(patterns)), indent=1))
            return 0
        case ["compare", index, *patterns]:
            return compare(load_report(index), select(patterns))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def spec_server(url, outdir, cases):
    # Without an agent's name wstest hangs for ever on a failed handshake.
    return {
        "outdir": outdir,
        "servers": [{"agent": AGENT, "url": url}],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }


def spec_client(url, outdir, cases):
    return {
        "outdir": outdir,
        "url": url,
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }


def select(patterns):
    """The selected cases with what is expected of them.

    wstest is always given whole ids: its own patterns are open at the end, so that "12.*.1" takes 12.1.10 too.
    """
    expected = json.loads(EXPECTED.read_text())
    selected = set()
    for pattern in patterns or ["*"]:
        matches = fnmatch.filter(expected, pattern)
        if not matches:
            sys.exit(f"no case of the suite matches {pattern!r}")
        selected.update(matches)
    return {case: expected[case] for case in expected if case in selected}


def load_report(index):
    """case -> its entry; empty when the suite did not get as far as writing a report."""
    try:
        return json.loads(pathlib.Path(index).read_text()).get(AGENT, {})
    except (OSError, ValueError) as error:
        print(f"no report: {error}")
        return {}


def compare(report, selected):
    """Prints what is not plainly OK and the count; a case that is missing, or was not asked for, has failed."""
    passed = failed = 0
    for case in [*selected, *(case for case in report if case not in selected)]:
        entry = report.get(case, {})
        results = [entry.get("behavior", "MISSING"), entry.get("behaviorClose", "MISSING")]
        good = case in selected and set(results) <= PASSED
        passed += good
        failed += not good
        if results != ["OK", "OK"]:
            print(
                f"{'passed' if good else 'FAILED'} {case}: behavior {results[0]}, behaviorClose {results[1]}, "
                f"expected {selected.get(case, 'not to run')}"
            )
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
