"""What applications do in a differential run, and which differences are meant."""


def request(host, path="/ok", method="GET", fields="", body=b"", version="HTTP/1.1"):
    head = f"{method} {path} {version}\r\nHost: {host}\r\n{fields}"
    if body and "transfer-encoding" not in fields.lower():
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


HTTP = ("203.0.113.9", 80)


def http(name, raw, **more):
    return {"name": name, "to": HTTP, "sends": raw, **more}


def to(port, host, *says, **more):
    return {"name": f"bytes: {more.pop('what')}", "to": (host, port), "says": says, **more}


CHUNKS = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"

SCENARIOS = [
    # What a server does.
    *[http(f"server: {path}", request("plain.test", path)) for path in (
        "/ok?a=b", "/chunked", "/until-close", "/interim", "/close", "/reset", "/cut-head", "/cut-body", "/cut-chunks", "/reset-head", "/reset-body",
        "/bad-status", "/bad-chunk", "/bad-field", "/folded", "/two-lengths", "/unasked", "/status/204", "/status/404", "/status/503",
        "/status/599", "/head/50000", "/head/75000", "/head/90000", "/slow/300",
    )],
    # What an application sends.
    http("HEAD", request("plain.test", "/ok", "HEAD")),
    http("POST with a length", request("plain.test", "/ok", "POST", body=b"abcdefg")),
    http("POST in chunks", request("plain.test", "/ok", "POST", CHUNKED, CHUNKS)),
    http("POST to one that answers early", request("plain.test", "/early", "POST", "Content-Length: 9\r\n") + b"abc"),
    http("POST that expects", request("plain.test", "/ok", "POST", "Expect: 100-continue\r\n", b"abc")),
    http("its own request id", request("plain.test", "/echo", fields="x-request-id: mine\r\n")),
    http("what steers Envoy's router", request("plain.test", "/echo", fields="x-envoy-max-retries: 3\r\nx-envoy-retry-on: 5xx\r\n")),
    http("Host with a port", request("plain.test:80", "/ok")),
    http("Host in capitals", request("PLAIN.test", "/ok")),
    http("absolute form", b"GET http://plain.test/ok HTTP/1.1\r\nHost: plain.test\r\n\r\n"),
    http("no Host", b"GET /ok?x HTTP/1.1\r\n\r\n"),
    http("a field without a colon", b"GET /ok HTTP/1.1\r\nHost: plain.test\r\nX\r\n\r\n"),
    http("a folded field", request("plain.test", "/ok", fields="X: a\r\n b\r\n")),
    http("two lengths", request("plain.test", "/ok", "POST", "Content-Length: 3\r\nContent-Length: 4\r\n") + b"abcd"),
    http("a length and chunks", request("plain.test", "/ok", "POST", "Content-Length: 3\r\n" + CHUNKED) + CHUNKS),
    http("a coding that is not chunked", request("plain.test", "/ok", "POST", "Transfer-Encoding: gzip\r\n")),
    http("a chunk that is none", request("plain.test", "/ok", "POST", CHUNKED, b"x\r\n")),
    http("a head of 59 KiB", request("plain.test", "/ok", fields=f"X: {'a' * 59000}\r\n")),
    http("a head of 70 KiB", request("plain.test", "/ok", fields=f"X: {'a' * 70000}\r\n")),
    http("101 fields", request("plain.test", "/ok", fields="X: a\r\n" * 101)),
    http("OPTIONS *", request("plain.test", "*", "OPTIONS")),
    http("a method that nobody knows", request("plain.test", "/ok", "BREW")),
    http("HTTP/1.0", request("plain.test", "/ok", version="HTTP/1.0")),
    http("quotes in a field", request("plain.test", "/ok", fields='x-request-id: a"b\r\n')),
    http("leaves before the answer", request("plain.test", "/slow/600"), leaves=0.2),
    http("a host that nobody lists", request("unlisted.test", "/ok"), to=("203.0.113.1", 8080)),
    http("two requests", request("plain.test", "/ok") + request("plain.test", "/name"), answers=2),
    # What routes do.
    http("a route's name", request("named.test")),
    http("a route without a name", request("unnamed.test")),
    http("a route's time", request("unnamed.test", "/slow/900")),
    http("5xx, spent", request("retry5xx.test", "/status/500")),
    http("5xx, per-try time", request("retry5xx.test", "/slow/900")),
    http("5xx, reset", request("retry5xx.test", "/reset")),
    http("5xx, cut in the head", request("retry5xx.test", "/cut-head")),
    http("5xx, cut in the body", request("retry5xx.test", "/cut-body")),
    http("5xx, with a body", request("retry5xx.test", "/status/503", "POST", body=b"abcdefg")),
    http("gateway-error, spent", request("gateway.test", "/status/502")),
    http("gateway-error, not covered", request("gateway.test", "/status/500")),
    http("reset, spent", request("reset.test", "/reset")),
    http("reset, closed", request("reset.test", "/close")),
    http("reset, a POST", request("reset.test", "/reset", "POST", body=b"abc")),
    http("reset-before-request", request("before.test", "/reset", "POST", body=b"abc")),
    http("retriable-4xx, 409", request("conflict.test", "/status/409")),
    http("retriable-4xx, 404", request("conflict.test", "/status/404")),
    http("a status code", request("status.test", "/status/429")),
    http("attempts: 0", request("once.test", "/reset")),
    http("an abort", request("abort.test")),
    http("a delay", request("delay.test")),
    http("a delay and a failure", request("delay.test", "/reset")),
    http("a redirect", request("redirect.test", "/a?b=c")),
    http("a direct response", request("direct.test")),
    http("a direct response to HEAD", request("direct.test", method="HEAD")),
    http("another path and host", request("rewrite.test", "/x?y")),
    http("a path by an expression", request("regex.test", "/a/one/two?q=/a/b/c")),
    http("a path that the expression does not match", request("regex.test", "/ok")),
    http("fields", request("headers.test", "/echo?q", fields="x-gone: 1\r\nx-set: old\r\nx-add: first\r\n")),
    http("no route", request("noroute.test", "/other")),
    # Servers that cannot be reached, and limits.
    http("nobody listens", request("nobody.test")),
    http("TLS", request("tls.test")),
    http("TLS, cut in the head", request("tls.test", "/cut-head")),
    http("TLS, a CA that is not trusted", request("tlsbad.test")),
    http("TLS to a plain port", request("plaintls.test")),
    http("over the limit of requests", request("limited.test", "/slow/900"), beside=request("limited.test", "/ok")),
    *[http(f"RING_HASH {key}", request("ring.test", "/name", fields=f"x-user: user-{key}\r\n")) for key in range(12)],
    *[http(f"Maglev {key}", request("maglev.test", "/name", fields=f"x-user: user-{key}\r\n")) for key in range(6)],
    # Bytes.
    to(2525, "203.0.113.5", b"hello\r\n", b"QUIT\r\n", what="the server speaks first"),
    to(2525, "203.0.113.5", b"RESET\r\n", what="the server resets"),
    to(2525, "203.0.113.5", b"hello\r\n", what="nothing moves", waits=1.6),
    to(2525, "203.0.113.5", b"hello\r\n", what="the application resets", resets=True),
    to(2526, "203.0.113.6", b"hello\r\n", b"QUIT\r\n", what="over the limit", beside=b""),
    to(2527, "203.0.113.7", what="nobody listens"),
    to(2525, "203.0.113.1", b"hello\r\n", b"QUIT\r\n", what="a server that nobody lists"),
    to(8080, "203.0.113.1", request("x.test", "/ok", fields="Connection: close\r\n"), b"", what="HTTP to a port that nobody lists", waits=0.3),
]

STRICT = "what two readers understand differently is refused"
EXPLAINS = "the text says what is wrong"
CARRIED = "what works without a proxy works with it"
AS_IT_CAME = "bodies are passed on as they were framed"
REASON = "the log says why, where Envoy has no words"
UNLIKE = {"*": STRICT}
TEXT = {"body": EXPLAINS, "bytes_sent": EXPLAINS, "end": "the connection ends behind the answer"}

# By the beginning of a scenario's name: fields that differ on purpose, and why. docs/coming-from-istio.md says it at length.
DELIBERATE = {
    "": {"transport_failed": REASON},
    "server: /chunked": {"body": AS_IT_CAME},
    "server: /until-close": {"body": AS_IT_CAME, "end": AS_IT_CAME},
    "server: /close": {
        "body": "a request whose kept connection had died is sent once more",
        "bytes_sent": "a request whose kept connection had died is sent once more",
    },
    "server: /bad-chunk": {"*": "what came with the head is judged before anything is sent"},
    "server: /unasked": UNLIKE,
    "POST to one that answers early": {"end": "the rest of the request is not waited for"},
    "no Host": TEXT,
    "a field without a colon": TEXT,
    "a folded field": UNLIKE,
    "two lengths": TEXT,
    "a length and chunks": TEXT,
    "a coding that is not chunked": TEXT,
    "a chunk that is none": TEXT,
    "a head of 70 KiB": TEXT,
    "101 fields": TEXT,
    "OPTIONS *": {"*": CARRIED},
    "a method that nobody knows": {"*": CARRIED},
    "HTTP/1.0": {"*": CARRIED},
    "leaves before the answer": {"*": "an application that has only finished sending still waits"},
    "over the limit of requests": {"upstream_host": "no endpoint has been chosen"},
    "bytes: nothing moves": {"connection_termination_details": REASON},
    "bytes: the application resets": {"connection_termination_details": REASON},
    "bytes: nobody listens": {"end": "what could not be connected is reset, as it would be without a proxy"},
}
