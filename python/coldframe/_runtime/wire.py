"""Messages on the control socket, a SOCK_SEQPACKET pair with the supervisor at the other end.

A message is one packet with a 16-byte header (kind u8, pad, reserved u16, length u32, token u64, little-endian) and
the first 65,520 bytes of the body, followed by packets of at most 65,536 bytes until `length` bytes of body have
passed. The token of a request is chosen by the supervisor and goes back with the answer.

The socket is driven with `readv` and `write`: both keep packets apart, and no socket module has to be imported.
"""

from __future__ import annotations

import struct
from os import readv, write, writev

INIT = 1
INVOKE = 2
DESCRIBE = 3
STREAM = 4
RESTORE = 5
READY = 11
INIT_ERROR = 12
RESPONSE = 13
ERROR = 14
DESCRIBED = 15
CHUNK = 16

HEADER = struct.Struct("<BxHIQ")
EVENT = struct.Struct("<36sQI")
"""In front of an event: its id, its deadline, the lengths of client context (24 bits) and trace id (8), that itself."""
PACKET_BYTES = 65_536
MAX_CHUNK_BYTES = 1 << 20
FIRST_BYTES = PACKET_BYTES - HEADER.size


class HungUp(Exception):  # noqa: N818 - an event, not a mistake
    """The supervisor closed its end: there is nobody left to work for."""


class ProtocolError(Exception):
    """The control socket carried something that the supervisor never sends."""


class Channel:
    """One end of the control socket."""

    def __init__(self, fd: int) -> None:
        """Take the open descriptor `fd`; it is never closed here."""
        self._fd = fd
        self._packet = memoryview(bytearray(PACKET_BYTES))
        self._into = (self._packet,)

    def receive(self) -> tuple[int, int, memoryview]:
        """Wait for a message and return its kind, token and body.

        A body that fits into the first packet is a view of a buffer that the next call overwrites.
        """
        size = readv(self._fd, self._into)
        if size < HEADER.size:
            if not size:
                raise HungUp
            message = f"a packet of {size} bytes is shorter than the header"
            raise ProtocolError(message)
        kind, _, length, token = HEADER.unpack_from(self._packet)
        end = HEADER.size + length
        if end <= size:
            return kind, token, self._packet[HEADER.size : end]
        return kind, token, self._receive_rest(length, size)

    def _receive_rest(self, length: int, size: int) -> memoryview:
        """Return a body of `length` bytes of which the first packet, `size` bytes with its header, has arrived."""
        body = memoryview(bytearray(length))
        filled = size - HEADER.size
        body[:filled] = self._packet[HEADER.size : size]
        while filled < length:
            size = readv(self._fd, (body[filled : filled + PACKET_BYTES],))
            if not size:
                raise HungUp
            filled += size
        return body

    def send(self, kind: int, token: int, body: bytes = b"") -> None:
        """Send a message, waiting while the supervisor reads."""
        header = HEADER.pack(kind, 0, len(body), token)
        if len(body) <= FIRST_BYTES:
            write(self._fd, header + body)
            return
        view = memoryview(body)
        writev(self._fd, (header, view[:FIRST_BYTES]))
        for start in range(FIRST_BYTES, len(body), PACKET_BYTES):
            write(self._fd, view[start : start + PACKET_BYTES])
