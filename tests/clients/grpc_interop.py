"""The calls that implementations of gRPC try on each other (grpc/grpc, doc/interop-test-descriptions.md), with messages of our own.

    grpc_interop.py serve ADDRESS PORT TLS_PORT CERTIFICATE KEY
    grpc_interop.py call TARGET [CA]

A message asks for an answer's size (4 bytes) and for a status code (1 byte), and has a payload.
"""
import struct
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "/grpc.testing.TestService/"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
PATIENCE = 60


def raw(message):
    return message


def ask(size=0, payload=b"", code=0):
    return struct.pack("!IB", size, code) + payload


# The server.


def echo_metadata(context):
    sent = dict(context.invocation_metadata())
    if INITIAL in sent:
        context.send_initial_metadata(((INITIAL, sent[INITIAL]),))
    if TRAILING in sent:
        context.set_trailing_metadata(((TRAILING, sent[TRAILING]),))


def answer(request, context):
    size, code = struct.unpack("!IB", request[:5])
    if code:
        status = next(status for status in grpc.StatusCode if status.value[0] == code)
        context.abort(status, request[5:].decode())
    return bytes(size)


def tell_of_cancellation(context):
    context.add_callback(lambda: None if completed(context) else print("cancelled", flush=True))


def completed(context):
    return getattr(context, "is_completed", False)


def empty_call(request, context):
    return b""


def unary_call(request, context):
    echo_metadata(context)
    return answer(request, context)


def streaming_input_call(requests, context):
    tell_of_cancellation(context)
    total = sum(len(request) - 5 for request in requests)
    context.is_completed = True
    return struct.pack("!I", total)


def streaming_output_call(request, context):
    for (size,) in struct.iter_unpack("!I", request):
        yield bytes(size)


def full_duplex_call(requests, context):
    tell_of_cancellation(context)
    echo_metadata(context)
    for request in requests:
        if request == b"sleep":
            threading.Event().wait(1)
        else:
            context.is_completed = request[4] != 0
            yield answer(request, context)
    context.is_completed = True


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        methods = {
            "EmptyCall": (grpc.unary_unary_rpc_method_handler, empty_call),
            "UnaryCall": (grpc.unary_unary_rpc_method_handler, unary_call),
            "StreamingInputCall": (grpc.stream_unary_rpc_method_handler, streaming_input_call),
            "StreamingOutputCall": (grpc.unary_stream_rpc_method_handler, streaming_output_call),
            "FullDuplexCall": (grpc.stream_stream_rpc_method_handler, full_duplex_call),
        }
        found = methods.get(call.method.removeprefix(SERVICE))
        return found and found[0](found[1], raw, raw)


def serve(address, port, tls_port, certificate, key):
    server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"{address}:{port}")
    pair = open(key, "rb").read(), open(certificate, "rb").read()
    server.add_secure_port(f"{address}:{tls_port}", grpc.ssl_server_credentials([pair]))
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


# The client.


class Calls:
    def __init__(self, channel):
        self.empty = channel.unary_unary(SERVICE + "EmptyCall", raw, raw)
        self.unary = channel.unary_unary(SERVICE + "UnaryCall", raw, raw)
        self.input = channel.stream_unary(SERVICE + "StreamingInputCall", raw, raw)
        self.output = channel.unary_stream(SERVICE + "StreamingOutputCall", raw, raw)
        self.duplex = channel.stream_stream(SERVICE + "FullDuplexCall", raw, raw)
        self.no_method = channel.unary_unary(SERVICE + "UnimplementedCall", raw, raw)
        self.no_service = channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall", raw, raw)


def expect(got, wanted):
    if got != wanted:
        raise AssertionError(f"{got!r} instead of {wanted!r}")


def fails(call, code, message=None):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code(), code)
        if message is not None:
            expect(error.details(), message)
    else:
        raise AssertionError("it succeeds")


def empty_unary(calls):
    expect(calls.empty(b"", timeout=PATIENCE), b"")


def large_unary(calls):
    expect(len(calls.unary(ask(314159, bytes(271828)), timeout=PATIENCE)), 314159)


def client_streaming(calls):
    parts = (ask(0, bytes(size)) for size in (27182, 8, 1828, 45904))
    expect(calls.input(parts, timeout=PATIENCE), struct.pack("!I", 74922))


def server_streaming(calls):
    sizes = (31415, 9, 2653, 58979)
    expect(tuple(map(len, calls.output(struct.pack("!4I", *sizes), timeout=PATIENCE))), sizes)


class PingPong:
    """Requests, each of which is sent when it is asked for."""

    def __init__(self):
        self.next = futures.Future()

    def __iter__(self):
        return self

    def __next__(self):
        request = self.next.result(PATIENCE)
        self.next = futures.Future()
        if request is None:
            raise StopIteration
        return request


def ping_pong(calls):
    requests = PingPong()
    answers = calls.duplex(requests, timeout=PATIENCE)
    for size, payload in ((31415, 27182), (9, 8), (2653, 1828), (58979, 45904)):
        requests.next.set_result(ask(size, bytes(payload)))
        expect(len(next(answers)), size)
    requests.next.set_result(None)
    expect(list(answers), [])


def empty_stream(calls):
    expect(list(calls.duplex(iter(()), timeout=PATIENCE)), [])


def status(calls, message):
    request = ask(0, message.encode(), 2)
    fails(lambda: calls.unary(request, timeout=PATIENCE), grpc.StatusCode.UNKNOWN, message)
    fails(lambda: list(calls.duplex(iter((request,)), timeout=PATIENCE)), grpc.StatusCode.UNKNOWN, message)


def status_code_and_message(calls):
    status(calls, "test status message")


def special_status_message(calls):
    status(calls, "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n")


def custom_metadata(calls):
    sent = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
    _, unary = calls.unary.with_call(ask(314159, bytes(271828)), timeout=PATIENCE, metadata=sent)
    duplex = calls.duplex(iter((ask(314159, bytes(271828)),)), timeout=PATIENCE, metadata=sent)
    expect(list(map(len, duplex)), [314159])
    for call in (unary, duplex):
        expect(dict(call.initial_metadata()).get(INITIAL), sent[0][1])
        expect(dict(call.trailing_metadata()).get(TRAILING), sent[1][1])


def unimplemented_method(calls):
    fails(lambda: calls.no_method(b"", timeout=PATIENCE), grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(calls):
    fails(lambda: calls.no_service(b"", timeout=PATIENCE), grpc.StatusCode.UNIMPLEMENTED)


def cancel_after_begin(calls):
    call = calls.input.future(PingPong())
    call.cancel()
    expect(call.cancelled(), True)
    expect(call.code(), grpc.StatusCode.CANCELLED)


def cancel_after_first_response(calls):
    requests = PingPong()
    call = calls.duplex(requests)
    requests.next.set_result(ask(31415, bytes(27182)))
    expect(len(next(call)), 31415)
    call.cancel()
    fails(lambda: next(call), grpc.StatusCode.CANCELLED)


def timeout_on_sleeping_server(calls):
    fails(lambda: list(calls.duplex(iter((b"sleep",)), timeout=0.001)), grpc.StatusCode.DEADLINE_EXCEEDED)


ALL = (
    empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream, status_code_and_message,
    special_status_message, custom_metadata, unimplemented_method, unimplemented_service, cancel_after_begin,
    cancel_after_first_response, timeout_on_sleeping_server,
)


def call(target, ca=None):
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    if ca:
        credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
        channel = grpc.secure_channel(target, credentials, options=options)
    else:
        channel = grpc.insecure_channel(target, options=options)
    with channel:
        for test in ALL:
            try:
                test(Calls(channel))
                print(test.__name__, "ok", flush=True)
            except Exception as error:
                print(test.__name__, repr(error), flush=True)


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
