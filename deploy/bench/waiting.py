#!/usr/bin/env python3
"""How soon a job of one photograph has its score, and what a coordinator and a worker cost that wait for work. As JSON on standard output.

    waiting.py API BUCKET MODEL coordinator=PID worker=PID

PERITO_TOKEN_FILE names the file with the API's token.
"""

import http.client
import json
import os
import sys
import time
import urllib.parse

JOBS = 60
WARM_UP = 5
IDLE_SECONDS = 20


class Api:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        with open(os.environ["PERITO_TOKEN_FILE"]) as file:
            self.headers = {"authorization": f"Bearer {file.read().strip()}"}

    def call(self, method, path, body=None):
        headers = self.headers | ({"content-type": "application/json"} if body else {})
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        content = json.loads(answer.read())
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {content}")
        return content


def pick_up(api, bucket, model, number):
    """Seconds from the submission to when the score is committed."""
    selection = {"by": "prefix", "bucket": bucket, "prefix": f"one/C-{number:05}/"}
    began = time.perf_counter()
    job = api.call("POST", "/v1/jobs", {"spec": {"kind": "score", "model": model, "selection": selection}})
    for _ in range(5000):
        state = api.call("GET", f"/v1/jobs/{job['id']}")
        if state["images"]["scored"] == 1:
            return time.perf_counter() - began
        if state["state"] == "failed":
            raise SystemExit(f"{job['id']}: {state['error']}")
        time.sleep(0.003)
    raise SystemExit(f"{job['id']} had no score in time")


def ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main():
    url, bucket, model, *processes = sys.argv[1:]
    api = Api(url)
    for _ in range(150):
        try:
            api.call("GET", "/readyz")
            break
        except (OSError, SystemExit):
            api = Api(url)
            time.sleep(0.2)
    times = sorted([pick_up(api, bucket, model, number) for number in range(WARM_UP + JOBS)][WARM_UP:])
    time.sleep(3)
    pids = dict(process.split("=") for process in processes)
    before = {name: ticks(pid) for name, pid in pids.items()}
    time.sleep(IDLE_SECONDS)
    used = {name: (ticks(pid) - before[name]) / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS for name, pid in pids.items()}
    print(json.dumps({"jobs": JOBS, "median": times[JOBS // 2], "p95": times[int(JOBS * 0.95)], "idle": used}))


if __name__ == "__main__":
    main()
