"""The site that the clients of this folder visit: aiohttp, in plain text and over TLS.

server.py ADDRESS CERTIFICATE KEY    serves ADDRESS on ports 80 and 443, and says "ready"
"""

import asyncio
import hashlib
import ssl
import sys

from aiohttp import WSMsgType, web

BODY = bytes(range(256)) * 1200
seen = {}


def digest(data):
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


async def download(request):
    return web.Response(body=BODY, headers={"X-Case": "as Sent"})


async def chunked(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for start, end in [(0, 1), (1, 70_000), (70_000, 70_007)]:
        await response.write(BODY[start:end])
    await response.write_eof()
    return response


async def zipped(request):
    response = web.Response(text="a line that repeats\n" * 5000)
    response.enable_compression()
    return response


async def upload(request):
    body = await request.read()
    how = "chunked" if "Transfer-Encoding" in request.headers else "length"
    waited = "expected" if "Expect" in request.headers else "unasked"
    return web.Response(text=f"{request.method} {how} {waited} {digest(body)}")


async def redirect(request):
    raise web.HTTPFound("/download")


async def events(request):
    """Sends an event only when the one before it has been seen: one that is held back on its way ends the stream."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    who = request.query["who"]
    for number in range(1, 6):
        seen[who, number] = asyncio.Event()
        await response.write(f"data: {number}\n\n".encode())
        await asyncio.wait_for(seen[who, number].wait(), 20)
    return response


async def note(request):
    seen[request.query["who"], int(request.query["number"])].set()
    return web.Response(text="noted")


async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT and message.data == "goodbye":
            await socket.close(code=4001, message=b"as you wish")
        elif message.type == WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def serve(address, certificate, key):
    site = web.Application(client_max_size=1 << 30)
    for path, handler in [
        ("/download", download), ("/chunked", chunked), ("/zipped", zipped), ("/redirect", redirect),
        ("/upload", upload), ("/events", events), ("/seen", note), ("/echo", echo),
    ]:
        site.router.add_route("*", path, handler)
    runner = web.AppRunner(site)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, address, 80).start()
    await web.TCPSite(runner, address, 443, ssl_context=context).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(serve(*sys.argv[1:]))
