// Curves as SVG: axes, alarms, marks of what doctor says, and values under the pointer or the arrow keys.
function startCurves(page) {
  const NS = "http://www.w3.org/2000/svg";
  const charts = [];
  const options = { log: false, smooth: false };

  function element(parent, name, attributes, text) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function written(curve, value) {
    if (value === null) return "not finite";
    if (curve.percent) return `${(100 * value).toFixed(1)} %`;
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 5 : 4 });
  }

  // Round numbers that cover a range, four to six of them.
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
    return found;
  }

  function smoothed(values) {
    const keep = Math.exp(-1 / Math.max(2, values.length / 40));
    let level = null;
    return values.map((value) => {
      if (value === null) return null;
      level = level === null ? value : keep * level + (1 - keep) * value;
      return level;
    });
  }

  function scales(chart, width, height) {
    const { curve } = chart;
    const finite = curve.values.filter((value) => value !== null);
    const all = finite.concat(curve.limits.map((limit) => limit.value));
    const log = options.log && !curve.percent && all.every((value) => value > 0);
    let low = Math.min(...all), high = Math.max(...all);
    if (low >= 0 && low < 0.35 * high && !log) low = 0;
    if (curve.percent) high = Math.min(1, high * 1.1 || 1);
    if (low === high) [low, high] = [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
    if (!log && low !== 0) low -= 0.04 * (high - low);
    if (!log && !curve.percent) high += 0.04 * (high - low);
    const to = log ? Math.log10 : (value) => value;
    const first = curve.steps[0], last = Math.max(page.step, first + 1);
    const left = 46, right = width - 10, top = 16, bottom = height - 20;
    return {
      log, low, high, left, right, top, bottom, first, last,
      x: (step) => left + ((step - first) / (last - first)) * (right - left),
      y: (value) => bottom - ((to(value) - to(low)) / (to(high) - to(low))) * (bottom - top),
    };
  }

  function path(curve, values, at) {
    let text = "", pen = "M";
    values.forEach((value, i) => {
      if (value === null) { pen = "M"; return; }
      text += `${pen}${at.x(curve.steps[i]).toFixed(1)} ${at.y(value).toFixed(1)}`;
      pen = "L";
    });
    return text;
  }

  function axes(svg, chart, at) {
    const levels = at.log ? logTicks(at.low, at.high) : ticks(at.low, at.high, 4);
    for (const value of levels) {
      element(svg, "line", { class: "grid", x1: at.left, x2: at.right, y1: at.y(value), y2: at.y(value) });
      const text = chart.curve.percent ? `${+(100 * value).toFixed(1)} %` : short(value);
      element(svg, "text", { x: at.left - 6, y: at.y(value) + 4, "text-anchor": "end" }, text);
    }
    const steps = ticks(at.first, at.last, at.right - at.left > 500 ? 8 : 4).filter((step) => step >= at.first);
    for (const step of steps) {
      element(svg, "text", { x: at.x(step), y: at.bottom + 16, "text-anchor": "middle" }, short(step));
    }
  }

  function short(value) {
    const size = Math.abs(value);
    if (size !== 0 && size < 1e-3) return value.toExponential(0);
    if (size >= 10000) return `${+(value / 1000).toPrecision(3)}k`;
    return `${+value.toPrecision(4)}`;
  }

  function logTicks(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const times of [1, 2, 5]) {
        const value = times * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found.length > 1 ? found : [low, high];
  }

  function draw(chart) {
    const { curve, plot } = chart;
    const width = plot.clientWidth, height = plot.clientHeight;
    if (width < 60) return;
    const at = (chart.at = scales(chart, width, height));
    plot.replaceChildren();
    const svg = element(plot, "svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    axes(svg, chart, at);
    for (const limit of curve.limits) {
      const y = at.y(limit.value);
      element(svg, "line", { class: "limit", x1: at.left, x2: at.right, y1: y, y2: y });
      const below = y - at.top < 12;
      element(svg, "text", { class: "limit-text", x: at.right, y: below ? y + 12 : y - 4, "text-anchor": "end" }, limit.text);
    }
    const smooth = options.smooth && curve.values.length > 20;
    element(svg, "path", { class: smooth ? "line faint" : "line", d: path(curve, curve.values, at) });
    if (smooth) element(svg, "path", { class: "line", d: path(curve, smoothed(curve.values), at) });
    if (curve.values.length === 1) {
      element(svg, "circle", { class: "dot", r: 4, cx: at.x(curve.steps[0]), cy: at.y(curve.values[0]) });
    }
    curve.values.forEach((value, i) => {
      if (value === null) element(svg, "rect", { class: "broken", x: at.x(curve.steps[i]) - 2, y: at.bottom - 8, width: 4, height: 8 });
    });
    for (const mark of chart.marks) {
      for (const step of mark.steps.slice(-20)) pin(svg, mark, step, at);
    }
    chart.cursor = element(svg, "line", { class: "cursor", y1: at.top, y2: at.bottom, visibility: "hidden" });
    chart.dot = element(svg, "circle", { class: "dot", r: 4, visibility: "hidden" });
    chart.when = element(svg, "text", { class: "when", y: at.bottom - 6, visibility: "hidden" });
  }

  function pin(svg, mark, step, at) {
    const x = Math.min(at.right, Math.max(at.left, at.x(step)));
    const group = element(svg, "g", {});
    element(group, "title", {}, mark.sentence);
    element(group, "line", { class: "mark", x1: x, x2: x, y1: at.top, y2: at.bottom });
    element(group, "circle", { class: "badge", cx: x, cy: 9, r: 8 });
    element(group, "text", { class: "badge-text", x, y: 13 }, `${mark.number}`);
  }

  function nearest(steps, step) {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle; else high = middle;
    }
    return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
  }

  // All charts show the same step.
  function look(step) {
    for (const chart of charts) {
      const { curve, at } = chart;
      if (!at) continue;
      if (step === null) {
        for (const part of [chart.cursor, chart.dot, chart.when]) part.setAttribute("visibility", "hidden");
        tell(chart, curve.steps.length - 1);
        continue;
      }
      const i = nearest(curve.steps, step);
      const x = at.x(curve.steps[i]), value = curve.values[i];
      chart.cursor.setAttribute("x1", x);
      chart.cursor.setAttribute("x2", x);
      chart.cursor.setAttribute("visibility", "visible");
      chart.dot.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (value !== null) { chart.dot.setAttribute("cx", x); chart.dot.setAttribute("cy", at.y(value)); }
      time(chart, curve.steps[i], x);
      tell(chart, i);
    }
  }

  function time({ when, at }, step, x) {
    const left = x > (at.left + at.right) / 2;
    const epoch = page.epochs_per_step ? `, epoch ${(step * page.epochs_per_step).toFixed(1)}` : "";
    when.textContent = `step ${step.toLocaleString("en")}${epoch}`;
    when.setAttribute("x", left ? x - 8 : x + 8);
    when.setAttribute("text-anchor", left ? "end" : "start");
    when.setAttribute("visibility", "visible");
  }

  function tell({ curve, out }, i) {
    out.textContent = written(curve, curve.values[i]);
  }

  function listen(chart) {
    const { plot, curve } = chart;
    plot.addEventListener("pointermove", (event) => {
      const { at } = chart;
      if (!at) return;
      const x = event.clientX - plot.getBoundingClientRect().left;
      look(at.first + ((x - at.left) / (at.right - at.left)) * (at.last - at.first));
    });
    plot.addEventListener("pointerleave", () => look(null));
    plot.addEventListener("blur", () => look(null));
    plot.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      const end = curve.steps.length - 1;
      chart.place = Math.min(end, Math.max(0, (chart.place ?? end) + move));
      look(curve.steps[chart.place]);
      page.say(`${curve.title}, step ${curve.steps[chart.place]}: ${written(curve, curve.values[chart.place])}`);
    });
  }

  for (const figure of document.querySelectorAll(".chart")) {
    const curve = page.curves[+figure.dataset.curve];
    const marks = page.marks.map((mark, i) => ({ ...mark, number: i + 1 })).filter((mark) => mark.curves.includes(curve.key));
    const chart = { curve, marks, plot: figure.querySelector(".plot"), out: figure.querySelector("output") };
    charts.push(chart);
    listen(chart);
    new ResizeObserver(() => draw(chart)).observe(chart.plot);
    tell(chart, curve.steps.length - 1);
  }
  for (const name of Object.keys(options)) {
    const box = document.getElementById(name);
    if (!box) continue;
    box.checked = page.kept[name] ?? false;
    options[name] = box.checked;
    box.addEventListener("change", () => {
      options[name] = page.kept[name] = box.checked;
      charts.forEach(draw);
    });
  }
}
