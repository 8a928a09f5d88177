"""The attack bank is whole: every case is an attack here, and has a twin that succeeds, or a reason why it has none.

The tests are found by their marks, in the text, so that it does not matter which of them are run.
"""

import ast
from pathlib import Path

import pytest

CASES = [f"O{number:02}" for number in range(1, 59)]

NO_TWIN = {
    # Files, processes, devices
    "O06": "a description is refused before anything is made of it; other places work, as the test shows",
    # The network, the kernel, identities
    "O24": "it is to work: a server on the environment's own loopback",
    # Resources and ends
    "O46": "Lambda's size of a response cannot be changed; tests/lambda/test_bad_input.py has one that fits",
    "O47": "no wall refuses such a result: that it is an error of its own is the contract",
    "O48": "no wall ends it: that each end has an error of its own is the contract",
    # State, archives, hosts
}
"""Cases whose attack nothing can be taken away from, or that are no attacks, with the reason."""


def marked():
    """Return the tests of every case: a dictionary from ("O17", whether it is a twin) to names."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.bank"):
                continue
            twin = any(keyword.arg == "twin" and ast.literal_eval(keyword.value) for keyword in node.keywords)
            for case in map(ast.literal_eval, node.args):
                found.setdefault((case, twin), []).append(f"{path.name}:{node.lineno}")
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_an_attack_and_a_twin(case):
    found = marked()
    attacks, twins = found.get((case, False)), found.get((case, True))
    assert attacks, "an attack"
    assert bool(twins) != (case in NO_TWIN), "a twin, or a reason why there cannot be one"


def test_there_are_no_other_cases():
    assert {case for case, _ in marked()} | NO_TWIN.keys() <= set(CASES)
