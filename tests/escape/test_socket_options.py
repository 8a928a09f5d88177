"""Options of sockets: those that concern the socket alone, and none for which the kernel keeps memory uncounted."""

import errno
import statistics

import pytest

import coldframe

from .attacks import EVALUATE

SOCKET = "socket.socket(socket.AF_INET{}, socket.SOCK_{})"
USUAL = {
    "STREAM": [(1, 2), (1, 7), (1, 8), (1, 9), (1, 15), (6, 1), (6, 4), (6, 5), (6, 6), (6, 18), (0, 1), (0, 2)],
    "DGRAM": [(1, 6), (0, 10), (0, 33), (0, 34), (0, 49)],
}
COSTLY = {
    "STREAM": {
        "TCP_MD5SIG": (6, 14),
        "TCP_ULP": (6, 31),
        "TCP_MD5SIG_EXT": (6, 32),
        "TCP_AO_ADD_KEY": (6, 38),
        "SO_ATTACH_FILTER": (1, 26),
        "SO_ATTACH_BPF": (1, 50),
        "SO_ATTACH_REUSEPORT_CBPF": (1, 51),
        "SO_ZEROCOPY": (1, 60),
    },
    "DGRAM": {
        "SO_TIMESTAMPING": (1, 37),
        "SO_TIMESTAMPING_NEW": (1, 65),
        "IP_MSFILTER": (0, 41),
        "MCAST_JOIN_GROUP": (0, 42),
        "IPV6_JOIN_GROUP": (41, 20),
    },
}
SET = "{}.setsockopt({}, {}, {})"


def attempts(kind, options, value="bytes([1, 0, 0, 0]) * 16", family=""):
    return [SET.format(SOCKET.format(family, kind), level, option, value) for level, option in options]


def test_the_usual_ones_can_be_set(attack):
    usual = [text for kind, options in USUAL.items() for text in attempts(kind, options, "1")]
    usual += attempts("STREAM", [(41, 26), (41, 67)], "1", "6")
    assert attack(EVALUATE, usual).payload == dict.fromkeys(usual)


@pytest.mark.parametrize("kind", COSTLY)
def test_what_costs_the_kernel_memory_is_unknown(attack, kind):
    costly = attempts(kind, COSTLY[kind].values())
    assert attack(EVALUATE, costly).payload == dict.fromkeys(costly, "ENOPROTOOPT")


def test_without_the_filter_the_kernel_knows_them(attack, without):
    stamps = attempts("DGRAM", [COSTLY["DGRAM"]["SO_TIMESTAMPING"]], "2 | 16")
    assert attack(EVALUATE, stamps, host=without("seccomp")).payload == dict.fromkeys(stamps)


KEEP_ERRORS = """
import socket

def handler(event, context):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, as the C library's resolver does
    for _ in range(20):
        try:
            one.sendto(b"to nobody", ("127.0.0.1", 9))
        except OSError:
            pass
    one.setblocking(False)
    try:
        return len(one.recvmsg(100, 1000, socket.MSG_ERRQUEUE)[0])
    except OSError as error:
        return -error.errno
"""


def test_errors_that_a_socket_is_to_keep_are_not_kept(attack):
    assert attack(KEEP_ERRORS).payload == -errno.EAGAIN


def test_without_the_filter_they_are(attack, without):
    assert attack(KEEP_ERRORS, host=without("seccomp")).payload == len(b"to nobody")


CONNECT = """
    import socket

    def handle(event, request, headers):
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        until, count = time.monotonic() + event, 0
        while time.monotonic() < until:
            one = socket.socket()
            one.setblocking(False)
            try:
                one.connect((host, int(port)))
            except OSError:
                pass
            time.sleep(0.0002)
            one.close()
            count += 1
        return count
"""
PING = """
    import socket

    def handle(event, request, headers):
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        ping = b"GET /2018-06-01/ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 500
        until, count = time.monotonic() + event, 0
        ones = [socket.create_connection((host, int(port))) for _ in range(4)]
        for one in ones:
            one.setblocking(False)
        while time.monotonic() < until:
            for one in ones:
                try:
                    count += one.send(ping)
                    one.recv(1 << 20)
                except BlockingIOError:
                    time.sleep(0.0002)
        return count
"""


@pytest.mark.parametrize(
    ("source", "options"), [(CONNECT, {"network": True}), (PING, {})], ids=["connections", "pings"]
)
def test_who_floods_its_api_keeps_nobody_elses_waiting(provided, source, options):
    """One thread of this process answers all of them: its time is in nobody's share."""
    neighbour = provided("def handle(event, request, headers):\n    return event", name="neighbour", memory_mb=1769)
    try:
        flooding = provided(source, name="flooding", timeout_s=30, **options)
    except coldframe.HostCapabilityError as error:
        pytest.skip(str(error))
    calm = [neighbour.invoke(number).report.duration_ms for number in range(200)]
    future = flooding.submit(2.5)
    flooded = []
    while not future.done():
        flooded.append(neighbour.invoke(1).report.duration_ms)
    assert future.result().payload > 0
    assert statistics.median(flooded) < 10 * statistics.median(calm)
    assert max(flooded) < 1000
