"""A web server as a process of its own, so that it can be frozen and killed.

``python http_stub.py PORT FILE``: every request is appended to FILE as a line of JSON before it is answered.
The path says how it is answered.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path


async def serve(port: int, file: Path) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await answer_one(reader, writer, file):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port)
    await server.serve_forever()


async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, file: Path) -> bool:
    """Whether the connection goes on."""
    first = await reader.readexactly(1)
    if first == b"\x16":  # TLS, which is not spoken here
        writer.write(b"HTTP/1.1 400 X\r\n\r\n")
        return False
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    record = {"method": method, "path": path, "headers": headers, "body": base64.b64encode(body).decode()}
    with file.open("a") as log:
        log.write(json.dumps(record) + "\n")
    return await answer(path, writer)


async def answer(path: str, writer: asyncio.StreamWriter) -> bool:
    _, kind, *rest = path.split("/")
    match kind:
        case "status":  # /status/429/Retry-After: 7
            extra = "".join(f"{line.replace('%20', ' ')}\r\n" for line in rest[1:])
            writer.write(f"HTTP/1.1 {rest[0]} X\r\n{extra}content-length: 2\r\n\r\nok".encode())
        case "endless" | "crumbs":
            chunks = {"endless": b"10000\r\n" + b"x" * 65536 + b"\r\n", "crumbs": b"1\r\nx\r\n" * 10_000}
            writer.write(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(chunks[kind])
                await writer.drain()
        case "stalled":
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 1000000\r\n\r\nbegun")
            await asyncio.sleep(3600)
        case "dripping":
            writer.write(b"HTTP/1.1 200 X\r\nx-drip: ")
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.05)
        case "silent":
            await asyncio.sleep(3600)
        case "hangup":
            return False
        case "junk":
            writer.write(b"220 smtp.example ready\r\n\r\n")
            return False
        case _:
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nok")
    await writer.drain()
    return True


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
