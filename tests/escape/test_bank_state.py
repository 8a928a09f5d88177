"""O57 and O58: what environments of one zygote have in common, and what one event leaves for the next elsewhere.

docs/state.md says it in words, and names these tests.
"""

import importlib.util
import re

import pytest
from conftest import living, no_stock, parks

# Draws from everything that keeps state when it is first used, in the zygote.
DRAWN = """
import multiprocessing, random, ssl, tempfile, uuid
random.random(), tempfile.mktemp(dir="/tmp"), uuid.uuid1(), uuid.getnode(), multiprocessing.current_process().authkey
ssl.RAND_bytes(1)
kept = []
"""
DRAW = """
import multiprocessing, os, random, secrets, ssl, tempfile, uuid, {name}
def handler(event, context):
    drawn = {{
        "random": random.random(), "random bytes": random.randbytes(8).hex(), "another": random.Random().random(),
        "system": os.urandom(8).hex(), "secrets": secrets.token_hex(8), "OpenSSL": ssl.RAND_bytes(8).hex(),
        "uuid1": uuid.uuid1().hex, "node": uuid.getnode(), "uuid4": uuid.uuid4().hex,
        "tempfile": tempfile.mktemp(), "key": multiprocessing.current_process().authkey.hex(),
    }}
    if event:
        import numpy
        drawn |= {{
            "numpy": float(numpy.random.rand()), "numpy bytes": numpy.random.bytes(8).hex(),
            "numpy generator": float(numpy.random.default_rng().random()),
        }}
    return drawn
"""
NUMPY = importlib.util.find_spec("numpy") is not None


def preloads(name):
    """Return what a function that draws has its zygote import."""
    return [name, *(["numpy.random"] if NUMPY else [])]


def draw(make, host, name, **options):
    """Return what environments of one zygote drew: two that were made when they were needed, and two parked ones."""
    fn = make(DRAW.format(name=name), host=host, preload=preloads(name), reuse=False, memory_mb=442, **options)
    drawn = [fn(NUMPY)]
    with no_stock():
        drawn += [fn(NUMPY), fn(NUMPY)]
    for _ in range(2):
        parks(host)
        drawn.append(fn(NUMPY))
    return drawn


def equal(drawn):
    """Return the names of what was not different each time."""
    return {name for name in drawn[0] if len({each[name] for each in drawn}) < len(drawn)}


@pytest.mark.bank("O57")
def test_children_of_a_zygote_draw_different_numbers_names_and_keys(make, without, installed):
    name = installed("coldframe_test_drawn", DRAWN)
    assert equal(draw(make, without(), name)) == set()


@pytest.mark.bank("O57", twin=True)
def test_without_the_renewal_they_draw_the_same_where_state_was_kept(make, without, installed):
    name = installed("coldframe_test_drawn", DRAWN)
    same = equal(draw(make, without("random"), name, isolation="available"))
    assert same == {"node", "key", *(["numpy", "numpy bytes"] if NUMPY else [])}


HASH = """
def handler(event, context):
    return [hash("coldframe"), id(object)]
"""


def test_children_of_a_zygote_have_one_hash_seed_and_one_address_layout(make, without):
    """What cannot differ, and is said: the fork copies it. Another host's zygote has others."""
    seen = []
    for _ in range(2):
        host = without()
        one, other = (make(HASH, host=host, name=name) for name in ("one", "other"))
        assert one() == other()
        seen.append(one()[0])
    assert seen[0] != seen[1]


# What one leaves

LEAVE = """
import builtins, os, random, sys, {name}
def handler(event, context):
    seen = [
        list({name}.kept), os.listdir("/dev/shm"), os.path.exists("/tmp/left"), hasattr(builtins, "left"),
        os.environ.get("LEFT"), sys.getrecursionlimit(), "left" in sys.modules, sys.path[0],
    ]
    {name}.kept.append(event)
    open("/tmp/left", "w").close()
    open("/dev/shm/left", "w").close()
    builtins.left = sys.modules["left"] = sys
    os.environ["LEFT"] = "1"
    sys.setrecursionlimit(999)
    sys.path.insert(0, "/tmp")
    return seen
"""
PRISTINE = [[], [], False, False, None, 1000, False, "/var/task"]


@pytest.mark.bank("O58")
def test_what_a_clone_writes_no_other_clone_reads(make, without, installed):
    """Neither those that lay parked meanwhile nor those that are forked later, of this function or another."""
    name = installed("coldframe_test_kept", "kept = []\n")
    host = without()
    one, other = (
        make(LEAVE.format(name=name), host=host, name=function, preload=[name], reuse=False)
        for function in ("one", "other")
    )
    assert one(1) == PRISTINE
    parks(host)
    assert [one(2), other(3), one(4)] == [PRISTINE] * 3
    with no_stock():
        assert [one(5), other(6)] == [PRISTINE] * 2


@pytest.mark.bank("O58", twin=True)
def test_the_next_event_of_the_same_one_does(make, without, installed):
    name = installed("coldframe_test_kept", "kept = []\n")
    host = without()
    one, other = (
        make(LEAVE.format(name=name), host=host, name=function, preload=[name]) for function in ("one", "other")
    )
    assert one(1) == PRISTINE
    assert one(2) == [[1], ["left"], True, True, "1", 999, True, "/tmp"]
    assert other(3) == PRISTINE
    assert len(living(host, 2)) == 2


# What a frozen thread says late

LATE = """
import logging, threading, time
def later():
    time.sleep(0.1)
    print("printed late", flush=True)
    logging.getLogger().warning("logged late")
    said.set()
said = threading.Event()
def handler(event, context):
    if event == "leave a thread":
        threading.Thread(target=later, daemon=True).start()
    else:
        said.wait(5)
"""


@pytest.mark.needs("cgroup.freeze")
def test_what_a_thread_says_after_the_answer_is_in_the_next_events_log_under_its_id(make, without):
    fn = make(LATE, host=without(), memory_mb=1769)
    first, second = fn.invoke("leave a thread"), fn.invoke("wait for it")
    assert "late" not in first.log
    assert "printed late\n" in second.log
    assert re.search(rf"\[WARNING\]\t\S+\t{second.request_id}\tlogged late", second.log)
