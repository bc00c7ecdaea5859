"""A conversation with the echo server through the client library `websockets`.

    python_client.py ECHO_SERVER

Starts the server, plays every scenario against it, ends it with SIGTERM. One line for each scenario, then
"N passed, M failed". With WSLOOP_DEFLATE=shared or dedicated both sides compress.
"""

import asyncio
import base64
import contextlib
import os
import random
import signal
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

DEADLINE = 30  # seconds, for one scenario
MODE = os.environ.get("WSLOOP_DEFLATE", "off")  # of the server
LIMIT = 16 << 20  # bytes, the largest message that the server takes
SIZES = [0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, LIMIT]

scenarios = []
contents = random.Random(6455)


def scenario(name):
    def register(function):
        scenarios.append((name, function))
        return function

    return register


async def main(binary):
    server = await Server.start(binary)
    failed = 0
    try:
        for name, play in scenarios:
            begin = time.monotonic()
            problem = await problem_of(play(server))
            failed += problem is not None
            if problem is None:
                print(f"ok python: {name} ({time.monotonic() - begin:.2f} s)", flush=True)
            else:
                print(f"FAILED python: {name}: {problem}", flush=True)
            server.abort_connections()
    finally:
        server.kill()
    print(f"{len(scenarios) - failed} passed, {failed} failed")
    return 1 if failed else 0


async def problem_of(play):
    task = asyncio.create_task(play)
    done, _ = await asyncio.wait([task], timeout=DEADLINE)
    if not done:
        task.cancel()
        return f"not done after {DEADLINE} s"
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if error is None else f"{type(error).__name__}: {error}"


class Server:
    @classmethod
    async def start(cls, binary):
        self = cls()
        self.connections = []
        self.process = await asyncio.create_subprocess_exec(
            binary, "--listen", "127.0.0.1:0", "--deflate", MODE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(10):
                line = (await self.process.stdout.readline()).decode().strip()
            check(line.startswith("listening on ws://"), f"the server's first line is {line!r}")
        except BaseException:
            self.kill()
            raise
        self.url = line.removeprefix("listening on ")
        return self

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()

    async def connect(self):
        # Nothing of the library's own that could get in the way: no limit, pings or proxy.
        compression = None if MODE == "off" else "deflate"
        ws = await connect(
            self.url, compression=compression, max_size=None, ping_interval=None, close_timeout=DEADLINE, proxy=None
        )
        self.connections.append(ws)
        check(len(ws.protocol.extensions) == (MODE != "off"), f"extensions: {ws.protocol.extensions}")
        return ws

    def abort_connections(self):
        for ws in self.connections:
            if ws.close_code is None:
                ws.transport.abort()
        self.connections.clear()


# --- Scenarios ------------------------------------------------------------------------------------------------------


@scenario("handshake without subprotocol, and with the extension that was set")
async def _(server):
    ws = await server.connect()
    check(("Sec-WebSocket-Extensions" in ws.response.headers) == (MODE != "off"), "extensions")
    check("Sec-WebSocket-Protocol" not in ws.response.headers, "a subprotocol was accepted")


@scenario("binary messages of every size")
async def _(server):
    ws = await server.connect()
    for size in SIZES:
        await echo(ws, contents.randbytes(size))


@scenario("ASCII text messages of every size")
async def _(server):
    ws = await server.connect()
    for size in SIZES:
        await echo(ws, ascii_text(size))


@scenario("multi-byte text messages of every size")
async def _(server):
    ws = await server.connect()
    for size in SIZES:
        await echo(ws, unicode_text(size))


@scenario("fragmented messages of every size, text cut inside its characters, empty fragments")
async def _(server):
    ws = await server.connect()
    for size in SIZES:
        for message in [contents.randbytes(size), unicode_text(size)]:
            await send_fragments(ws, message, cut(as_bytes(message)))
            expect_echo(await ws.recv(), message)


@scenario("pings between messages, each pong with its payload")
async def _(server):
    ws = await server.connect()
    for size in [0, 1, 64, 124, 125]:
        await ping(ws, contents.randbytes(size))
        await echo(ws, contents.randbytes(size))


@scenario("pings between fragments, answered before the message is complete")
async def _(server):
    ws = await server.connect()

    async def with_pings(fragments):
        for fragment in fragments:
            yield fragment
            await ping(ws, contents.randbytes(contents.randint(1, 125)))

    for message in [contents.randbytes(65537), unicode_text(65537), b"", ""]:
        await send_fragments(ws, message, with_pings(cut(as_bytes(message))))
        expect_echo(await ws.recv(), message)


@scenario("2000 messages in flight, in order, with pings among them")
async def _(server):
    ws = await server.connect()
    await converse(ws, [any_message(contents.choice(SIZES[:-2])) for _ in range(2000)])


@scenario("large messages in flight")
async def _(server):
    ws = await server.connect()
    await converse(ws, [any_message(size) for size in [LIMIT, 1 << 20, 0, LIMIT, 1, 1 << 20, LIMIT]])


@scenario("32 connections side by side")
async def _(server):
    async def one():
        ws = await server.connect()
        await converse(ws, [any_message(contents.choice(SIZES[:-2])) for _ in range(50)])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(32):
            tasks.create_task(one())


@scenario("close by the client, code and reason echoed")
async def _(server):
    longest = "€" * 41  # 123 bytes
    for code in [1000, 1001, 3000, 4999]:
        for reason in ["", "a reason", longest]:
            ws = await server.connect()
            await echo(ws, b"before the close")
            await ws.close(code, reason)
            expect_close(ws, code, reason)


@scenario("close by the client without a code")
async def _(server):
    ws = await server.connect()
    # close() always sends a code, so a level below it.
    async with ws.send_context():
        ws.protocol.send_close()
    await ws.wait_closed()
    expect_close(ws, 1005)


@scenario("message above the limit, in one frame: 1009")
async def _(server):
    neighbour = await server.connect()
    for message in [bytes(LIMIT + 1), "x" * (LIMIT + 1)]:
        ws = await server.connect()
        await send_refused(ws, 1009, message)
    await echo(neighbour, b"still here")


@scenario("message above the limit, in fragments: 1009")
async def _(server):
    ws = await server.connect()
    await send_refused(ws, 1009, [bytes(1 << 20)] * 16 + [b"x"])


@scenario("invalid UTF-8: 1007")
async def _(server):
    for message in [
        b"\xff",
        b"truncated \xe2\x82",
        b"overlong \xc0\xaf",
        b"surrogate \xed\xa0\x80",
        b"above U+10FFFF \xf4\x90\x80\x80",
        as_bytes(ascii_text(65537)) + b"\x80",
        [b"across \xe2", b"\x28 fragments"],
        [b"truncated \xe2", b"\x82"],
    ]:
        ws = await server.connect()
        await send_refused(ws, 1007, message, text=True)


@scenario("SIGTERM: every connection sees 1001, the server exits with 0")
async def _(server):
    connections = [await server.connect() for _ in range(8)]
    for ws in connections:
        await echo(ws, "before the end")
    # One of them in the midst of a message.
    async with connections[0].send_context():
        connections[0].protocol.send_binary(b"unfinished", fin=False)
    # Its pong says that the server has read the fragment.
    await ping(connections[0], b"read")
    server.process.send_signal(signal.SIGTERM)
    for ws in connections:
        await ws.wait_closed()
        expect_close(ws, 1001, None)
    status = await server.process.wait()
    check(status == 0, f"the server exited with {status}")


# --- Steps ----------------------------------------------------------------------------------------------------------


async def echo(ws, message):
    await ws.send(message)
    expect_echo(await ws.recv(), message)


async def converse(ws, messages):
    """Sends without waiting for the echoes, and reads them meanwhile."""

    async def send_all():
        for number, message in enumerate(messages):
            if number % 3 == 2:
                await send_fragments(ws, message, cut(as_bytes(message)))
            else:
                await ws.send(message)
            if number % 100 == 99:
                await ping(ws, number.to_bytes(4))

    async def receive_all():
        for message in messages:
            expect_echo(await ws.recv(), message)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all())
        tasks.create_task(receive_all())


async def send_fragments(ws, message, fragments):
    await ws.send(fragments, text=isinstance(message, str))


async def ping(ws, payload):
    # The library resolves the second future when a pong with this very payload arrives.
    await (await ws.ping(payload))


async def send_refused(ws, code, message, text=None):
    # The server may close while the library is still sending.
    with contextlib.suppress(ConnectionClosed):
        await ws.send(message, text=text)
    await ws.wait_closed()
    expect_close(ws, code, None)


def expect_echo(received, sent):
    check(type(received) is type(sent), f"{type(sent).__name__} came back as {type(received).__name__}")
    if received != sent:
        received, sent = as_bytes(received), as_bytes(sent)
        differing = (at for at, (a, b) in enumerate(zip(received, sent)) if a != b)
        raise AssertionError(
            f"{len(sent)} bytes came back as {len(received)}, first different at {next(differing, 'the end')}"
        )


def expect_close(ws, code, reason=""):
    """A reason of None: any."""
    check(ws.close_code == code, f"closed with {ws.close_code} {ws.close_reason!r}, not with {code}")
    check(reason in (None, ws.close_reason), f"closed with the reason {ws.close_reason!r}, not with {reason!r}")


def check(condition, message):
    if not condition:
        raise AssertionError(message)


# --- Contents -------------------------------------------------------------------------------------------------------


def any_message(size):
    return contents.choice([contents.randbytes, ascii_text, unicode_text])(size)


def ascii_text(size):
    return base64.b64encode(contents.randbytes(size)).decode()[:size]


def unicode_text(size):
    """Characters of one to four bytes that are `size` bytes of UTF-8 together."""
    latin = contents.randbytes(size // 4).decode("latin-1")
    rest = contents.randbytes(size).decode("utf-16-le", "ignore")
    whole = ("é€😀" + latin + rest).encode()[:size].decode("utf-8", "ignore")
    return whole + "x" * (size - len(whole.encode()))


def cut(data):
    """Fragments of about as many sizes as there are fragments; an empty one at the start and one further on."""
    fragments, at, size = [b""], 0, 1
    while at < len(data):
        fragments.append(data[at : at + size])
        at += size
        size = size * 3 + 1
    fragments.insert(len(fragments) // 2, b"")
    return fragments


def as_bytes(message):
    return message.encode() if isinstance(message, str) else message


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(os.path.abspath(sys.argv[1]))))
