"""What Python's HTTP clients get from the site of server.py.

client.py requests|urllib3|httpx|aiohttp
"""

import asyncio
import hashlib
import sys

SITE = "http://site.example"
BODY = bytes(range(256)) * 1200
FIELDS = ["Content-Type", "Content-Length", "Transfer-Encoding", "Content-Encoding", "X-Case", "Location"]


def show(what, status, headers, body):
    kept = [f"{name}={headers[name]}" for name in FIELDS if name in headers]
    print(what, status, *kept, len(body), hashlib.sha256(body).hexdigest(), flush=True)


def pieces():
    yield from (BODY[:1], BODY[1:70_000], BODY[70_000:])


def with_requests():
    import requests

    with requests.Session() as session:
        for path in ["/download", "/chunked", "/zipped", "/redirect"] * 3:
            answer = session.get(SITE + path, timeout=20)
            show(path, answer.status_code, answer.headers, answer.content)
        answer = session.get(SITE + "/redirect", allow_redirects=False, timeout=20)
        show("unfollowed", answer.status_code, answer.headers, b"")
        for method, data in [("PUT", BODY), ("POST", pieces()), ("POST", b"")]:
            answer = session.request(method, SITE + "/upload", data=data, timeout=20)
            show(method, answer.status_code, answer.headers, answer.content)
            print(answer.text)
        with session.get(SITE + "/events?who=requests", stream=True, timeout=20) as events:
            for line in events.iter_lines(chunk_size=1):
                print(line)
                if line.startswith(b"data: "):
                    number = line[6:].decode()
                    requests.get(f"{SITE}/seen?who=requests&number={number}", timeout=20)


def with_urllib3():
    import urllib3

    pool = urllib3.PoolManager(maxsize=2, timeout=20)
    for path in ["/download", "/chunked", "/zipped", "/redirect"] * 3:
        answer = pool.request("GET", SITE + path, headers={"Accept-Encoding": "gzip"})
        show(path, answer.status, answer.headers, answer.data)
    answer = pool.request("PUT", SITE + "/upload", body=BODY)
    show("PUT", answer.status, answer.headers, answer.data)
    answer = pool.urlopen("POST", SITE + "/upload", body=pieces(), chunked=True)
    show("POST", answer.status, answer.headers, answer.data)
    events = pool.request("GET", SITE + "/events?who=urllib3", preload_content=False)
    for line in events.read_chunked(decode_content=True):
        print(line)
        number = line[6:].decode().strip()
        pool.request("GET", f"{SITE}/seen?who=urllib3&number={number}")


def with_httpx():
    import httpx

    with httpx.Client(timeout=20, follow_redirects=True) as client:
        for path in ["/download", "/chunked", "/zipped", "/redirect"] * 3:
            answer = client.get(SITE + path)
            show(path, answer.status_code, answer.headers, answer.content)
        for method, data in [("PUT", BODY), ("POST", pieces())]:
            answer = client.request(method, SITE + "/upload", content=data)
            show(method, answer.status_code, answer.headers, answer.content)
        with client.stream("GET", SITE + "/events?who=httpx") as events:
            for line in events.iter_lines():
                print(repr(line))
                if line.startswith("data: "):
                    client.get(f"{SITE}/seen?who=httpx&number={line[6:].strip()}")


async def with_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        for path in ["/download", "/chunked", "/zipped", "/redirect"] * 3:
            async with session.get(SITE + path) as answer:
                show(path, answer.status, answer.headers, await answer.read())
        # A body that waits for 100 (Continue).
        async with session.put(SITE + "/upload", data=BODY, expect100=True) as answer:
            print(answer.status, await answer.text())
        many = await asyncio.gather(*(fetch(session, number) for number in range(30)))
        print(many)
        async with session.ws_connect(SITE.replace("http", "ws") + "/echo") as socket:
            await socket.send_str("hello")
            print(await socket.receive_str())
            for size in [0, 125, 126, 65_535, 65_536, len(BODY)]:
                await socket.send_bytes(BODY[:size])
                print(size, await socket.receive_bytes() == BODY[:size])
            await socket.send_str("goodbye")
            last = await socket.receive()
            print(last.type, last.data, last.extra)
        async with session.get(SITE + "/events?who=aiohttp") as events:
            async for line in events.content:
                print(line)
                if line.startswith(b"data: "):
                    number = line[6:].decode().strip()
                    async with session.get(f"{SITE}/seen?who=aiohttp&number={number}") as noted:
                        await noted.read()


async def fetch(session, number):
    async with session.post(SITE + "/upload", data=BODY[:number]) as answer:
        return (await answer.text()).split(" ")[3]


name = sys.argv[1]
if name == "aiohttp":
    asyncio.run(with_aiohttp())
else:
    {"requests": with_requests, "urllib3": with_urllib3, "httpx": with_httpx}[name]()
