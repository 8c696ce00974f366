#!/usr/bin/env python3
"""One table of what the benches measured, on standard output, and the same as JSON in target/bench/report.json.

Speeds come from criterion's medians (target/criterion/GROUP/NAME/new/estimates.json); a ratio is of two that ran in the same minutes.
What was not measured is left out. A bench that is no criterion bench writes its figures to target/bench/NAME.json.
"""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH = 16

# (what, bench, beside, pieces in one iteration, unit, at least this ratio)
SPEEDS = [
    ("decode 12 MP, lowest frequencies, beside Pillow", "decode-12MP/lowest", "decode-12MP/pillow", 1, "images/s", 6.0),
    ("decode 12 MP, reduced, beside Pillow", "decode-12MP/reduced", "decode-12MP/pillow", 1, "images/s", None),
    ("decode 12 MP, exact, beside Pillow", "decode-12MP/exact", "decode-12MP/pillow", 1, "images/s", None),
    ("decode 640x480, planes, beside Pillow", "decode-640x480/lowest", "decode-640x480/pillow", 1, "images/s", 1.8),
    ("decode 640x480, reduced, beside Pillow", "decode-640x480/reduced", "decode-640x480/pillow", 1, "images/s", None),
    ("decode 640x480, exact, beside Pillow", "decode-640x480/exact", "decode-640x480/pillow", 1, "images/s", None),
    ("ResNet18, batch norm folded, beside eager tch", "engine-resnet18/folded", "engine-resnet18/eager", BATCH, "images/s", None),
    ("ResNet18, channels-last, beside eager tch", "engine-resnet18/channels-last", "engine-resnet18/eager", BATCH, "images/s", None),
    ("ResNet18, packed, beside eager tch", "engine-resnet18/packed", "engine-resnet18/eager", BATCH, "images/s", 1.4),
    ("ResNet18, packed, beside ONNX Runtime", "engine-resnet18/packed", "engine-resnet18/onnxruntime", BATCH, "images/s", 0.85),
    ("ResNet18, packed, bfloat16, beside eager tch", "engine-resnet18/packed-bfloat16", "engine-resnet18/eager", BATCH, "images/s", None),
]


def per_second(bench, pieces):
    try:
        estimates = json.loads((ROOT / "target/criterion" / bench / "new/estimates.json").read_text())
    except FileNotFoundError:
        return None
    return pieces * 1e9 / estimates["median"]["point_estimate"]


def speeds():
    for what, bench, beside, pieces, unit, goal in SPEEDS:
        ours, theirs = per_second(bench, pieces), per_second(beside, pieces)
        if ours is not None:
            ratio = ours / theirs if theirs else None
            yield {"what": what, "value": ours, "beside": theirs, "unit": unit, "ratio": ratio, "goal": goal}


def measured(name):
    try:
        return json.loads((ROOT / f"target/bench/{name}.json").read_text())
    except FileNotFoundError:
        return None


def whole_jobs():
    job = measured("job")
    if job is None:
        return
    # Measured in turns: the machine may have been slower for some of them.
    small, engine = statistics.median(job["small"]), statistics.median(job["engine"])
    rows = [
        ("whole job, 640x480, beside the engine on ready pixels", small, engine, 0.85),
        ("whole job, 640x480, beside PyTorch, eager", small, job["script"]["eager"], 1.7),
        ("whole job, 640x480, beside PyTorch, frozen, channels-last", small, job["script"]["frozen"], 1.4),
        ("whole job, 12 MP, beside PyTorch, eager", job["large"], job["script"]["eager_large"], 3.5),
    ]
    for what, ours, theirs, goal in rows:
        ratio = ours / theirs if theirs else None
        yield {"what": what, "value": ours, "beside": theirs, "unit": "images/s", "ratio": ratio, "goal": goal}
    yield {"what": "empty tasks, dispatched and completed", "value": job["empty_tasks"], "unit": "tasks/s", "goal": 2000}


def postgres():
    figures = measured("database")
    if figures is not None:
        yield {"what": "scores written, no engine", "value": figures["rows_per_second"], "unit": "rows/s", "goal": 100_000}
        unit = f"s for {figures['images']:,} images"
        yield {"what": "planning a job", "value": figures["planning_seconds"], "unit": unit, "goal": 20, "most": True}


def waiting():
    figures = measured("waiting")
    if figures is not None:
        unit = f"s, of {figures['jobs']} jobs"
        yield {"what": "submission to the score of one photograph, 95 %", "value": figures["p95"], "unit": unit, "goal": 0.15, "most": True}
        yield {"what": "submission to the score of one photograph, median", "value": figures["median"], "unit": unit, "goal": None, "most": True}
        for name, cores in figures["idle"].items():
            yield {"what": f"a waiting {name}", "value": cores, "unit": "of a core", "goal": 0.01, "most": True}


def agreement():
    for figure in measured("agreement") or []:
        of = f"{figure['photographs']} photographs"
        yield {"what": f"{figure['what']}: same class", "value": 100 * figure["same_class"], "unit": f"% of {of}", "goal": 99.5}
        difference = figure["mean_absolute_difference"]
        yield {"what": f"{figure['what']}: probabilities apart", "value": difference, "unit": "on average", "goal": 0.01, "most": True}


def machine():
    def first(path, key):
        lines = pathlib.Path(path).read_text().splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": first("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def main():
    report = {"machine": machine(), "figures": [*speeds(), *whole_jobs(), *postgres(), *waiting(), *agreement()]}
    print("\n{processor}, {cores} cores, {memory}, load {load:.1f}, commit {commit}".format(**report["machine"]))
    line = "{:<62} {:>10} {:>10} {:>7} {:>7}  {}"
    print(line.format("", "here", "beside", "ratio", "goal", ""))
    for figure in report["figures"]:
        shown = lambda key, digits: "" if figure.get(key) is None else f"{figure[key]:.{digits}f}"
        value = shown("value", 4 if figure.get("most") else 1)
        reached = figure["ratio"] if figure.get("ratio") is not None else (figure["value"] if "ratio" not in figure else None)
        if figure["goal"] is not None and reached is not None:
            figure["met"] = reached <= figure["goal"] if figure.get("most") else reached >= figure["goal"]
        goal = ("<" if figure.get("most") else "") + shown("goal", 2) if figure["goal"] else ""
        unit = figure["unit"] + ("" if figure.get("met", True) else "   NOT MET")
        print(line.format(figure["what"], value, shown("beside", 1), shown("ratio", 2), goal, unit))
    target = ROOT / "target/bench/report.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nas JSON: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
