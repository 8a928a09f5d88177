"""O23 to O27: what a handler reaches through sockets."""

import errno
import os
import re
import socket
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from coldframe import _core

ASK = """
import errno, socket
def answer(attempt):
    try:
        return attempt() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
"""
CONNECT = (
    ASK
    + """
def handler(event, context):
    family, kind, address = event
    with socket.socket(family, kind) as client:
        def attempt():
            client.connect(address if isinstance(address, str) else tuple(address))
            client.send(b"sesame")
        return answer(attempt)
"""
)
OPEN = (
    ASK
    + """
def handler(event, context):
    return {name: answer(lambda: socket.socket(*kind).close()) for name, kind in event.items()}
"""
)
SERVE = """
import socket, threading
def handler(event, context):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(10).upper())
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(event.encode())
            answer = client.recv(10).decode()
        thread.join()
        return answer
"""


@contextmanager
def listening(family, kind, address):
    """Yield a socket of the host that waits for a connection or a packet, and never blocks."""
    with socket.socket(family, kind) as server:
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()
        server.setblocking(False)
        yield server


def arrived(server):
    """Return what reached a listener of the host; None if that is nothing."""
    try:
        if server.type == socket.SOCK_DGRAM:
            return server.recv(10)
        with server.accept()[0] as connection:
            connection.settimeout(5)
            return connection.recv(10)
    except BlockingIOError:
        return None


# Of a datagram nobody says that it was not wanted before the next one.
LOOPBACKS = {socket.SOCK_STREAM: "ECONNREFUSED", socket.SOCK_DGRAM: "done"}


@pytest.mark.bank("O23")
def test_a_listener_on_the_hosts_loopback_hears_nothing(attack):
    for kind, answer in LOOPBACKS.items():
        with listening(socket.AF_INET, kind, ("127.0.0.1", 0)) as server:
            assert attack(CONNECT, [socket.AF_INET, kind, server.getsockname()]).unwrap() == answer
            assert arrived(server) is None


@pytest.mark.bank("O23", twin=True)
def test_in_the_hosts_network_it_hears_the_handler(attack):
    for kind in LOOPBACKS:
        with listening(socket.AF_INET, kind, ("127.0.0.1", 0)) as server:
            assert attack(CONNECT, [socket.AF_INET, kind, server.getsockname()], network=True).unwrap() == "done"
            assert arrived(server) == b"sesame"


@pytest.mark.bank("O24")
def test_a_server_on_the_own_loopback_works(attack):
    assert attack(SERVE, "ping").unwrap() == "PING"


# What no error of the kernel's own would say: that the filter said it.
RAW = {
    "raw": ([socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP], "EPROTONOSUPPORT"),
    "raw, version 6": ([socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP], "EPROTONOSUPPORT"),
    "ICMP": ([socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP], "EPROTONOSUPPORT"),
    "packets": ([socket.AF_PACKET, socket.SOCK_RAW, 0], "EAFNOSUPPORT"),
    "packets, cooked": ([socket.AF_PACKET, socket.SOCK_DGRAM, 0], "EAFNOSUPPORT"),
    "netlink: routes": ([socket.AF_NETLINK, socket.SOCK_RAW, 0], "EAFNOSUPPORT"),
    "netlink: filters": ([socket.AF_NETLINK, socket.SOCK_RAW, 12], "EAFNOSUPPORT"),
}


def opened(attack, kinds, **options):
    return attack(OPEN, {name: kind for name, (kind, _) in kinds.items()}, **options).unwrap()


def answers(kinds):
    return {name: answer for name, (_, answer) in kinds.items()}


@pytest.mark.bank("O25")
def test_raw_sockets_packets_and_netlink_are_no_families(attack):
    assert opened(attack, RAW) == answers(RAW)


@pytest.mark.bank("O25")
def test_in_the_hosts_network_its_addresses_can_be_asked_for_and_nothing_else(attack):
    # What the C library's resolver needs, in the one protocol that tells addresses.
    routes = {"netlink: routes": "done", "netlink: filters": "EPROTONOSUPPORT"}
    assert opened(attack, RAW, network=True) == answers(RAW) | routes


@pytest.mark.bank("O25", twin=True)
def test_without_the_filter_there_is_netlink_and_with_capabilities_there_is_more(attack, without):
    without_filter = opened(attack, RAW, host=without("seccomp"))
    assert (without_filter["netlink: routes"], without_filter["raw"]) == ("done", "EPERM"), "the second wall"
    without_both = opened(attack, RAW, host=without("seccomp", "capabilities"))
    # Whether the two others are there depends on how the kernel was built.
    assert {without_both[name] for name in ("raw", "packets", "packets, cooked", "netlink: routes")} == {"done"}


AF_ALG, AF_VSOCK, SOCK_SEQPACKET = 38, 40, 5
HOSTS = {
    "crypto": ([AF_ALG, SOCK_SEQPACKET, 0], "EAFNOSUPPORT"),
    "vsock": ([AF_VSOCK, socket.SOCK_STREAM, 0], "EAFNOSUPPORT"),
    "vsock, datagrams": ([AF_VSOCK, socket.SOCK_DGRAM, 0], "EAFNOSUPPORT"),
}


@pytest.mark.bank("O26")
def test_the_kernels_crypto_and_the_way_to_the_hypervisor_are_no_families(attack):
    assert opened(attack, HOSTS) == answers(HOSTS)


@pytest.mark.bank("O26", twin=True)
def test_without_the_filter_there_is_of_them_what_the_kernel_has(attack, without):
    def here(kind):
        try:
            socket.socket(*kind).close()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"

    there = {name: here(kind) for name, (kind, _) in HOSTS.items()}
    if "done" not in there.values():
        pytest.skip(f"this kernel has neither of the two: {there}")
    assert opened(attack, HOSTS, host=without("seccomp")) == there


@pytest.fixture
def abstract():
    """A socket of the host that has a name, and no file."""
    with listening(socket.AF_UNIX, socket.SOCK_STREAM, f"\0coldframe-{uuid.uuid4()}") as server:
        yield server


def unix(address):
    return [socket.AF_UNIX, socket.SOCK_STREAM, address if isinstance(address, str) else address.decode()]


def landlock_scopes():
    """Whether Landlock knows abstract sockets: from version 6 on (Linux 6.12)."""
    (fact,) = [fact for fact in _core.doctor() if fact["protection"] == "landlock"]
    version = re.search(r"version (\d+)", fact["detail"])
    return version is not None and int(version[1]) >= 6


@pytest.mark.bank("O27")
def test_an_abstract_socket_of_the_host_is_in_another_network(attack, abstract):
    assert attack(CONNECT, unix(abstract.getsockname())).unwrap() == "ECONNREFUSED"
    assert arrived(abstract) is None


@pytest.mark.bank("O27")
@pytest.mark.skipif(not landlock_scopes(), reason="Landlock has scopes from version 6 on (Linux 6.12)")
def test_in_the_hosts_network_landlock_is_before_it(attack, abstract):
    assert attack(CONNECT, unix(abstract.getsockname()), network=True).unwrap() == "EPERM"
    assert arrived(abstract) is None


@pytest.mark.bank("O27", twin=True)
def test_without_both_walls_it_hears_the_handler(attack, without, abstract):
    address = unix(abstract.getsockname())
    assert attack(CONNECT, address, network=True, host=without("landlock")).unwrap() == "done"
    assert arrived(abstract) == b"sesame"


@pytest.fixture
def service():
    """A socket that a service of the host might have: anybody may connect."""
    path = Path(f"/run/coldframe-test-{os.getpid()}.sock")
    try:
        with listening(socket.AF_UNIX, socket.SOCK_STREAM, str(path)) as server:
            path.chmod(0o777)
            yield server
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.bank("O27")
@pytest.mark.needs("root")  # to put one there
def test_sockets_of_services_are_not_there(attack, service):
    for network in (False, True):
        assert attack(CONNECT, unix(service.getsockname()), network=network).unwrap() == "ENOENT"
        assert arrived(service) is None


@pytest.mark.bank("O27")
def test_nor_those_that_are_often_there(attack):
    for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"):
        assert attack(CONNECT, unix(path)).unwrap() == "ENOENT", path


@pytest.mark.bank("O27", twin=True)
@pytest.mark.needs("root")
def test_with_the_hosts_files_they_are(attack, without, service):
    assert attack(CONNECT, unix(service.getsockname()), host=without("root")).unwrap() == "done"
    assert arrived(service) == b"sesame"
