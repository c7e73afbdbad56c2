"""Workdirs of runs as training leaves them, and what a parser of HTML finds in their pages."""

import html.parser
import json

import numpy as np
from PIL import Image

HOSTILE = """<script>alert("x")</script>&amp;'</title>"""


def make_run(folder, name="image", steps=5, sheets=3):
    """A run with metrics, sheets, a config and figures."""
    (folder / "samples").mkdir(parents=True)
    lines = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "train/loss": 3.0 / step, f"train/{name}/loss": 2.0 / step})
        lines[-1] |= {f"train/gradient_norm/{name}": 0.5, "speed/steps_per_second": 2.0}
    lines.append({"step": steps, "eval/loss": 1.0})
    write_lines(folder, lines)
    for k in range(sheets):
        pixels = np.full((4, 6, 3), 40 * k % 256, np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"samples_{k + 1:08d}.png")
    config = {"seed": 0, "training": {"num_steps": steps}, "modalities": {name: {"kind": name}}}
    (folder / "config.json").write_text(json.dumps(config))
    figures = {f"{name}/accuracy": 0.75, "num_examples": {f"{name}/accuracy": 12}}
    figures |= {"left_out": {f"{name}/psnr": name}, "features": name}
    figures["sham_test"] = {"warnings": [f"by the features {name}, nothing"], "figures": {}}
    (folder / "metrics.json").write_text(json.dumps(figures))
    start = {"begun": "2026-01-02T03:04:05+00:00", "devices": f"1 × {name}", "flags": [name]}
    (folder / "history.json").write_text(json.dumps([start]))
    return folder


def write_lines(folder, lines):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


def make_comparison(folder, arms=("multi", "single"), seeds=2):
    """The workdir of a comparison whose arms have one part each."""
    for arm in arms:
        for seed in range(seeds):
            run = make_run(folder / f"{arm}-joint-5-seed{seed}", sheets=0)
            Image.new("RGB", (8, 8), (10 * seed, 0, len(arm))).save(run / "joint.png")
            config = {"training": {"num_steps": 5}, "augmentation": {"rate": float(len(arm))}}
            (run / "config.json").write_text(json.dumps(config))
    (folder / "costs.json").write_text(json.dumps({f"{arm}/joint": {} for arm in arms}))
    table = [
        "Warning: by the features f, blurred images have a precision of 0.91.",
        "",
        f"Equal steps of each run, 2 seeds; in brackets, how {arms[0]} compares.",
        "",
        "| figure | examples | " + " | ".join(arms) + " |",
        "|---|---:|" + "---:|" * len(arms),
        "| joint/recall ↑ | 12 | 0.7 ± 0.1 | 0.9 ± 0.1 (worse) |",
        "| joint/frechet ↓ | 12 | 0.7 ± 0.1 | 0.9 ± 0.1 (better) |",
    ]
    (folder / "comparison.md").write_text("\n".join(table) + "\n")
    return folder


class Parsed(html.parser.HTMLParser):
    """The elements of a page, its text and its data.

    Attributes:
        elements: (tag, attributes) in their order.
        text: what is shown.
        data: the JSON of the script.
        rows: the cells of each row of all tables.
    """

    VOID = ("meta", "link", "img", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.rows, self._open, self._data = [], "", [], [], ""
        self.feed(text)
        self.close()
        assert self._open == []
        self.data = json.loads(self._data)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self._open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if not self._open:
            return
        tag, attributes = self._open[-1]
        if attributes.get("id") == "page-data":
            self._data += data
        elif tag not in ("script", "style"):
            self.text += data
            if {"td", "th"} & {name for name, _ in self._open}:
                self.rows[-1][-1] += data

    def all(self, tag, **attributes):
        return [
            own
            for name, own in self.elements
            if name == tag and all(own.get(k.rstrip("_")) == v for k, v in attributes.items())
        ]
