"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
  const HEIGHT = 210, LEFT = 62, RIGHT = 20, TOP = 8, BOTTOM = 36;
  const view = { scale: "auto", logSteps: false };

  // What a reader has chosen is kept over a reload, where the browser allows it.
  const KEY = "report " + location.pathname;
  const state = (() => {
    try { return JSON.parse(sessionStorage.getItem(KEY)) || {}; } catch { return {}; }
  })();
  const keep = (name, value) => {
    state[name] = value;
    try { sessionStorage.setItem(KEY, JSON.stringify(state)); } catch { /* not kept */ }
  };

  const svg = (tag, attributes, parent, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const node = (tag, className, parent, text) => {
    const child = document.createElement(tag);
    if (className) child.className = className;
    if (text !== undefined) child.textContent = text;
    if (parent) parent.append(child);
    return child;
  };

  const words = (value) => {
    if (!Number.isFinite(value)) return String(value);
    const size = Math.abs(value);
    if (size >= 1e15 || (size > 0 && size < 1e-3)) return value.toExponential(2);
    if (size >= 1e4) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  };
  const short = (value) => {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (size >= unit) return Number((value / unit).toPrecision(3)) + letter;
    if (size > 0 && size < 1e-3) return value.toExponential(1).replace(".0e", "e");
    return String(Number(value.toPrecision(3)));
  };

  const linearTicks = (low, high, count) => {
    const raw = (high - low) / count;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((x) => x * unit).find((x) => x >= raw * (1 - 1e-9));
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
    return ticks;
  };
  const logTicks = (low, high, count) => {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const few = last - first <= 2 ? [1, 2, 5] : [1];
    const apart = Math.max(1, Math.ceil((last - first) / count));
    let ticks = [];
    for (let power = first; power <= last; power += apart)
      for (const digit of few) ticks.push(digit * 10 ** power);
    ticks = ticks.filter((x) => x >= low * 0.9999 && x <= high * 1.0001);
    return ticks.length > 1 ? ticks : linearTicks(low, high, count);
  };
  // A scale from values to pixels; `log` needs values above 0.
  const makeScale = (low, high, from, to, log) => {
    if (low === high) {
      const margin = Math.abs(low) * 0.1;
      [low, high] = log ? [low / 1.5, high * 1.5] : [low - margin, high + (margin || 1)];
    }
    const [a, b] = log ? [Math.log(low), Math.log(high)] : [low, high];
    const place = (x) => from + (((log ? Math.log(x) : x) - a) / (b - a)) * (to - from);
    return { place, low, high, log };
  };

  class Chart {
    constructor(figure) {
      const chart = data.charts[Number(figure.dataset.chart)];
      const labels = [...new Set(chart.lines.map((line) => line.label))];
      // A run looks alike in all charts.
      this.styles = labels.map((label) => data.labels.indexOf(label));
      this.title = chart.title;
      this.axis = chart.axis;
      this.labels = labels;
      this.lines = chart.lines.map((line) => {
        const [steps, values] = data.runs[line.run][line.name];
        const style = data.labels.indexOf(line.label);
        return { ...line, steps, values: values.map(Number), style };
      });
      this.steps = [...new Set(this.lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
      this.plot = figure.querySelector(".plot");
      this.legend = node("div", "legend");
      this.plot.before(this.legend);
      this.at = null;
      new ResizeObserver(() => this.draw()).observe(this.plot);
    }

    points(line, log) {
      const points = [];
      line.steps.forEach((step, k) => {
        const value = line.values[k];
        if (Number.isFinite(value) && (!log || value > 0) && (!view.logSteps || step > 0)) points.push([step, value]);
        else points.push(null);
      });
      return points;
    }

    draw() {
      const width = this.plot.clientWidth;
      if (!width) return;
      const finite = this.lines.flatMap((line) => line.values.filter(Number.isFinite));
      const positive = finite.filter((x) => x > 0);
      const few = positive.length < finite.length || !positive.length;
      let log = view.scale === "log" && positive.length > 0;
      if (view.scale === "auto" && !few) log = Math.max(...positive) / Math.min(...positive) > 10;
      const shown = this.lines.map((line) => this.points(line, log));
      const all = shown.flat().filter(Boolean);
      this.plot.replaceChildren();
      this.cursor = null;
      if (!all.length) {
        node("p", "quiet", this.plot, "No value can be drawn on these axes.");
        this.tell();
        return;
      }
      let low = Infinity, high = -Infinity, first = Infinity, last = -Infinity;
      for (const [step, value] of all) {
        low = Math.min(low, value); high = Math.max(high, value);
        first = Math.min(first, step); last = Math.max(last, step);
      }
      const image = svg("svg", {
        viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, tabindex: 0, role: "img",
        "aria-label": `${this.title}, steps ${first} to ${last}; arrow keys read values`,
      });
      const bottom = HEIGHT - BOTTOM, right = width - RIGHT;
      const x = (this.x = makeScale(first, last, LEFT, right, view.logSteps));
      const y = makeScale(low, high, bottom, TOP, log);
      for (const tick of (log ? logTicks : linearTicks)(y.low, y.high, 5)) {
        const at = y.place(tick);
        svg("line", { class: "grid", x1: LEFT, x2: right, y1: at, y2: at }, image);
        svg("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, image, short(tick));
      }
      const room = Math.max(2, Math.floor((right - LEFT) / 52));
      for (const tick of (view.logSteps ? logTicks : linearTicks)(x.low, x.high, room)) {
        const at = x.place(tick);
        svg("line", { class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }, image);
        svg("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, image, short(tick));
      }
      svg("line", { class: "axis", x1: LEFT, x2: right, y1: bottom, y2: bottom }, image);
      const stepWords = view.logSteps ? "step (log)" : "step";
      svg("text", { x: (LEFT + right) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, image, stepWords);
      const middle = (TOP + bottom) / 2;
      const turned = `rotate(-90 12 ${middle})`;
      const axisWords = log ? `${this.axis} (log)` : this.axis;
      svg("text", { x: 12, y: middle + 3, transform: turned, "text-anchor": "middle" }, image, axisWords);
      this.lines.forEach((line, k) => {
        let path = "", down = false;
        const dots = shown[k].filter(Boolean);
        for (const point of shown[k]) {
          if (point) path += `${down ? "L" : "M"}${x.place(point[0]).toFixed(1)} ${y.place(point[1]).toFixed(1)}`;
          down = Boolean(point);
        }
        svg("path", { class: `curve s${line.style % 8}`, "stroke-dasharray": dash(line.style), d: path }, image);
        const across = dots.length ? x.place(dots[dots.length - 1][0]) - x.place(dots[0][0]) : 0;
        if (dots.length < 2 || across / (dots.length - 1) > 20)
          for (const [step, value] of dots)
            svg("circle", { class: `dot s${line.style % 8}`, r: 2.5, cx: x.place(step), cy: y.place(value) }, image);
        line.steps.forEach((step, j) => {
          if (!Number.isFinite(line.values[j]) && (!view.logSteps || step > 0))
            svg("text", { x: x.place(step), y: TOP + 8, "text-anchor": "middle" }, image, "✕");
        });
      });
      this.cursor = svg("line", { class: "cursor", y1: TOP, y2: bottom, visibility: "hidden" }, image);
      image.addEventListener("pointermove", (event) => {
        const at = event.clientX - image.getBoundingClientRect().left;
        this.read(nearest(this.steps, at, (step) => x.place(step)));
      });
      image.addEventListener("pointerleave", () => this.read(null));
      image.addEventListener("blur", () => this.read(null));
      image.addEventListener("keydown", (event) => this.onKey(event));
      this.plot.append(image);
      this.read(this.at);
    }

    onKey(event) {
      const last = this.steps.length - 1;
      const now = this.at === null ? last : this.at;
      const big = Math.max(1, Math.round(last / 20));
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - big, PageUp: now + big, Home: 0, End: last }[event.key];
      if (event.key === "Escape") this.read(null);
      if (to === undefined) return;
      event.preventDefault();
      this.read(Math.min(Math.max(to, 0), last));
    }

    read(index) {
      this.at = index;
      if (this.cursor) {
        const at = index === null ? null : this.x.place(this.steps[index]);
        this.cursor.setAttribute("visibility", at === null || !Number.isFinite(at) ? "hidden" : "visible");
        if (Number.isFinite(at) && at !== null) {
          this.cursor.setAttribute("x1", at);
          this.cursor.setAttribute("x2", at);
        }
      }
      this.tell();
    }

    tell() {
      const step = this.at === null ? this.steps[this.steps.length - 1] : this.steps[this.at];
      this.legend.replaceChildren();
      node("span", "at", this.legend, `step ${step.toLocaleString("en")}`);
      this.labels.forEach((label, number) => {
        const style = this.styles[number];
        const values = this.lines.filter((line) => line.style === style).map((line) => {
          const k = nearest(line.steps, step, (x) => x);
          return words(line.values[k]);
        });
        const item = node("span", "", this.legend);
        const sign = svg("svg", { width: 24, height: 8 }, item);
        svg("path", { class: `curve s${style % 8}`, "stroke-dasharray": dash(style), d: "M0 4H24" }, sign);
        const name = label ? `${label} ` : "";
        node("span", "", item, name + values.join(", "));
      });
    }
  }

  const dash = (style) => DASHES[(style + Math.floor(style / 8)) % DASHES.length];
  const nearest = (steps, at, place) => {
    let best = 0, least = Infinity;
    steps.forEach((step, k) => {
      const apart = Math.abs(place(step) - at);
      if (apart < least) [best, least] = [k, apart];
    });
    return best;
  };

  // Charts are made when they come near the window: a page may have hundreds.
  const charts = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || charts.has(entry.target)) continue;
      charts.set(entry.target, new Chart(entry.target));
      watcher.unobserve(entry.target);
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll("[data-chart]").forEach((figure) => watcher.observe(figure));

  const redraw = () => charts.forEach((chart) => chart.draw());
  document.querySelectorAll("input[name=scale]").forEach((input) => {
    if (state.scale) input.checked = input.value === state.scale;
    if (input.checked) view.scale = input.value;
    input.addEventListener("change", () => { view.scale = input.value; keep("scale", input.value); redraw(); });
  });
  document.querySelectorAll("input[name=log_steps]").forEach((input) => {
    view.logSteps = input.checked = Boolean(state.logSteps);
    input.addEventListener("change", () => { view.logSteps = input.checked; keep("logSteps", input.checked); redraw(); });
  });

  document.querySelectorAll(".viewer").forEach((viewer) => {
    const slider = viewer.querySelector("input[type=range]");
    if (!slider) return;
    const positions = [...viewer.querySelectorAll("[data-position]")];
    const first = Number(slider.getAttribute("value"));
    const show = () => {
      const at = Number(slider.value);
      positions.forEach((position, k) => { position.hidden = k !== at; });
      const title = positions[at].dataset.position;
      viewer.querySelector("output").textContent = title;
      slider.setAttribute("aria-valuetext", title);
      keep(`slider ${viewer.dataset.title}`, at === first ? undefined : title);
    };
    const before = positions.findIndex((x) => x.dataset.position === state[`slider ${viewer.dataset.title}`]);
    slider.value = before < 0 ? first : before;
    show();
    slider.addEventListener("input", show);
  });

  document.querySelectorAll("details").forEach((details) => {
    const title = `open ${details.querySelector("summary").textContent}`;
    details.open = Boolean(state[title]) || details.open;
    details.addEventListener("toggle", () => keep(title, details.open));
  });

  const tellTimes = () => document.querySelectorAll("time").forEach((time) => {
    const when = new Date(time.dateTime);
    const minutes = Math.floor((Date.now() - when) / 60000);
    const parts = [[1440, "d"], [60, "h"], [1, "min"]].find(([size]) => minutes >= size);
    const ago = parts ? `${Math.floor(minutes / parts[0])} ${parts[1]} ago` : "just now";
    const exact = when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    time.textContent = time.hasAttribute("data-ago") ? `${ago} (${exact})` : exact;
  });
  tellTimes();
  setInterval(tellTimes, 30000);

  document.querySelectorAll("input[name=again]").forEach((input) => {
    let timer = null;
    const start = () => {
      clearTimeout(timer);
      if (input.checked) timer = setTimeout(() => location.reload(), 60000);
    };
    input.checked = Boolean(state.again);
    input.addEventListener("change", () => { keep("again", input.checked); start(); });
    start();
  });
  document.documentElement.classList.add("scripted");
})();
