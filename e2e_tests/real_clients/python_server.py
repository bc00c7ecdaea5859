"""An echo server of `websockets`. Says where it listens; a text "close CODE REASON" makes it close."""

import asyncio
import os

from websockets.asyncio.server import serve


COMPRESSION = "deflate" if "WSLOOP_DEFLATE" in os.environ else None


async def echo(websocket):
    async for message in websocket:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await websocket.close(int(code), reason)
            return
        await websocket.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, compression=COMPRESSION, max_size=1 << 25) as server:
        print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main())
