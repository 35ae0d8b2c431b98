"""llama.cpp beside the benches: loads a GGUF file and answers one JSON command a line with one JSON line.

A process of its own that waits while the other side is measured, so that both can take turns in one run. It calls the
C API as llama-cpp-python exposes it; nothing of Python is inside what is timed but the call itself.
"""

import ctypes
import json
import sys
import threading
import time

import llama_cpp as api
import numpy

model = context = memory = None
streams = position = 0


def load(command):
    global model, context, memory
    api.llama_backend_init()
    options = api.llama_model_default_params()
    options.use_extra_bufts = command.get("repack", True)
    model = api.llama_model_load_from_file(command["path"].encode(), options)
    wanted = api.llama_context_default_params()
    wanted.n_ctx = command["context"]
    wanted.n_batch = wanted.n_ubatch = 512
    wanted.n_seq_max = command["streams"]
    wanted.n_threads = wanted.n_threads_batch = command["threads"]
    wanted.kv_unified = True
    context = api.llama_init_from_model(model, wanted)
    memory = api.llama_get_memory(context)
    return {
        "version": api.__version__,
        "system": api.llama_print_system_info().decode(),
    }


def decode(rows):
    """One llama_decode over (token, position, stream, wants logits) rows; milliseconds until its logits can be read."""
    batch = api.llama_batch_init(len(rows), 0, 1)
    try:
        batch.n_tokens = len(rows)
        for index, (token, position, stream, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = stream
            batch.logits[index] = wanted
        start = time.perf_counter()
        code = api.llama_decode(context, batch)
        api.llama_synchronize(context)
        logits = api.llama_get_logits_ith(context, -1)
        took = (time.perf_counter() - start) * 1000
        if code != 0 or not logits or ctypes.cast(logits, ctypes.c_void_p).value is None:
            raise RuntimeError(f"llama_decode returned {code}")
        return took
    finally:
        api.llama_batch_free(batch)


def prefill(stream, count):
    """All rows of a prompt, 512 at a time; only the last one's logits."""
    total = 0.0
    for start in range(0, count, 512):
        end = min(count, start + 512)
        total += decode([(3 + (i * 7919) % 31000, i, stream, i == count - 1) for i in range(start, end - 1)]
                        + [(3, end - 1, stream, True)])
    return total


def run_prefill(command):
    global position
    api.llama_memory_clear(memory, False)
    position = command["rows"]
    return {"ms": prefill(0, command["rows"])}


def run_prompt(command):
    """Every stream at the same position; decoding goes on from there."""
    global streams, position
    api.llama_memory_clear(memory, False)
    streams, position = command["streams"], command["rows"]
    for stream in range(streams):
        prefill(stream, position)
    return {}


def run_decode(command):
    global position
    times = []
    for step in range(command["steps"]):
        times.append(decode([(1 + (position + stream) % 1000, position, stream, True) for stream in range(streams)]))
        position += 1
    return {"ms": times}


def run_bandwidth(command):
    """Each thread reads its own part of 1 GiB, more than last-level caches hold."""
    count = command["threads"]
    parts = [numpy.ones((1 << 27) // count, dtype=numpy.int64) for _ in range(count)]
    best = 0.0
    for _ in range(12):
        threads = [threading.Thread(target=part.max) for part in parts]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, sum(part.nbytes for part in parts) / (time.perf_counter() - start))
    return {"bytesPerSecond": best}


COMMANDS = {
    "load": load,
    "prefill": run_prefill,
    "prompt": run_prompt,
    "decode": run_decode,
    "bandwidth": run_bandwidth,
}

for line in sys.stdin:
    command = json.loads(line)
    print(json.dumps(COMMANDS[command["do"]](command)), flush=True)
