"""Python's gRPC: each method waits as many milliseconds as its request has bytes.

server.py PORT LOG. No generated code: requests and answers are bytes.
"""

import json
import sys
import time
from concurrent import futures

import grpc

PORT, LOG = sys.argv[1:]
LINES = open(LOG, "a", buffering=1, encoding="ascii")


def note(path, read):
    line = {"path": path, "read": read, "wrote": time.monotonic_ns(), "status": 200}
    LINES.write(json.dumps(line) + "\n")


def unary(request, context):
    read = time.monotonic_ns()
    time.sleep(len(request) / 1000)
    note("unary", read)
    return b""


def stream(request, context):
    read = time.monotonic_ns()
    for index in range(5):
        time.sleep(len(request) / 1000)
        if index == 0:
            note("stream", read)
        yield b""


def fail(request, context):
    read = time.monotonic_ns()
    time.sleep(len(request) / 1000)
    note("fail", read)
    context.abort(grpc.StatusCode.UNAVAILABLE, "asked for")


server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers((
    grpc.method_handlers_generic_handler("kit.Waits", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }),
))
server.add_insecure_port(f"0.0.0.0:{PORT}")
server.start()
server.wait_for_termination()
