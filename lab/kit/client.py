"""A client of kit.Waits with Python's gRPC, over one connection.

client.py ADDRESS METHOD WAIT COUNT IN_FLIGHT: for each call a line with what it took, in nanoseconds of
the monotonic clock from before it is made to its first answer, or to its failure, and its status.
"""

import json
import sys
import threading
import time

import grpc

ADDRESS, METHOD = sys.argv[1:3]
WAIT, COUNT, IN_FLIGHT = map(int, sys.argv[3:])
REQUEST = bytes(WAIT)
OUTPUT = threading.Lock()
LEFT = iter(range(COUNT))

channel = grpc.insecure_channel(ADDRESS)
grpc.channel_ready_future(channel).result(timeout=20)
kind = channel.unary_stream if METHOD == "Stream" else channel.unary_unary
method = kind(f"/kit.Waits/{METHOD}")


def call():
    sent = time.monotonic_ns()
    status = grpc.StatusCode.OK
    first = None
    try:
        answers = method(REQUEST, timeout=60)
        if METHOD == "Stream":
            for _ in answers:
                first = first or time.monotonic_ns()
    except grpc.RpcError as error:
        status = error.code()
    took = (first or time.monotonic_ns()) - sent
    with OUTPUT:
        print(json.dumps({"took": took, "status": status.value[0]}), flush=True)


def work():
    while True:
        with OUTPUT:
            if next(LEFT, None) is None:
                return
        call()


workers = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
channel.close()
