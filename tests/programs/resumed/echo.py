"""echo.py PORT: an echo server of asyncio; SIGUSR1 takes a snapshot and ends it. `stats` is answered with how
many clients it has, and how many connections were reset."""
import asyncio
import ctypes
import signal
import sys

counts = {"open": 0, "reset": 0}


async def serve(reader, writer):
    counts["open"] += 1
    try:
        while line := await reader.readline():
            if line == b"stats\n":
                line = f"open {counts['open']} reset {counts['reset']}\n".encode()
            writer.write(line)
            await writer.drain()
    except ConnectionResetError:
        counts["reset"] += 1
    finally:
        counts["open"] -= 1
        writer.close()


async def main():
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGUSR1, lambda: ctypes.CDLL(None).syscall(0x4B4D00, b"echo", None, 0))
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()


asyncio.run(main())
