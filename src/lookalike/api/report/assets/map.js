// The map: a picture where there is room for one, a dot elsewhere; moved by drag, touch, wheel, pinch and keys.
function startMap(page) {
  const data = page.map;
  const count = data.names.length;
  const box = document.querySelector(".map");
  const canvas = box.querySelector("canvas.sky");
  const tip = box.querySelector(".tip");
  const large = tip.querySelector("canvas").getContext("2d");
  const pen = canvas.getContext("2d");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const THUMB = 44, DEEPEST = 12, REACH = 14, GLIDE = 350;
  const HUES = ["#4e79d8", "#e07b39", "#2f9e63", "#c8457a", "#8b62d6", "#b08a1e", "#1d9fb8", "#d14b4b", "#6b7f2a", "#9a6a4f", "#d684c2", "#73808f"];

  const layouts = data.layouts.map((layout) => {
    const bytes = Uint8Array.from(atob(layout.xy), (sign) => sign.charCodeAt(0));
    const levels = new DataView(bytes.buffer);
    const xy = new Float32Array(2 * count);
    for (let i = 0; i < 2 * count; i++) xy[i] = levels.getUint16(2 * i, true) / 65535;
    return { ...layout, xy, depth: null };
  });
  const pages = data.pages.map((uri) => {
    const image = new Image();
    image.onload = soon;
    image.src = uri;
    return image;
  });

  let chosen = Math.min(page.kept.layout ?? 0, layouts.length - 1);
  let xy = layouts[chosen].xy.slice();
  let view = page.kept.view ?? null, home = null;
  let only = null, current = -1, keyboard = false, waiting = false, glide = 0;
  let width = 0, height = 0, unit = 1, colors = {}, drawn = [];

  function resolved(name) {
    tip.style.color = `var(${name})`;
    const color = getComputedStyle(tip).color;
    tip.style.color = "";
    return color;
  }

  function measure() {
    const scale = devicePixelRatio || 1;
    width = box.clientWidth;
    height = box.clientHeight;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    unit = Math.min(width, height) - THUMB - 16;
    for (const layout of layouts) layout.depth = null;
    home = whole();
    if (!view) reset();
    colors = Object.fromEntries(["--card", "--ink", "--accent", "--other"].map((name) => [name, resolved(name)]));
    colors.groups = data.groups ? data.groups.names.map((_, number) => HUES[number % HUES.length]) : [colors["--accent"]];
    soon();
  }

  // The zoom, as a power of two over the whole map's, from which on an image has a cell of the grid to itself. Whatever
  // order the images come in, others of their folder do not come first.
  function depths(layout) {
    if (layout.depth) return layout.depth;
    const found = new Uint8Array(count).fill(DEEPEST + 1);
    const side = (1.2 * THUMB) / (unit * home.zoom);
    const order = Array.from({ length: count }, (_, i) => i).sort((i, j) => mixed(i) - mixed(j));
    for (let level = 0; level <= DEEPEST; level++) {
      const cells = new Set(), cell = side / 2 ** level;
      const key = (i) => Math.floor(layout.xy[2 * i] / cell) * 4194304 + Math.floor(layout.xy[2 * i + 1] / cell);
      for (let i = 0; i < count; i++) if (found[i] <= DEEPEST) cells.add(key(i));
      for (const i of order) {
        if (found[i] > DEEPEST && !cells.has(key(i))) { found[i] = level; cells.add(key(i)); }
      }
    }
    const top = found.reduce((most, level) => (level <= DEEPEST ? Math.max(most, level) : most), 0);
    return (layout.depth = { depth: found, top });
  }

  const mixed = (i) => Math.imul(i + 1, 2654435761) >>> 0;
  const across = (x) => width / 2 + (x - view.x) * unit * view.zoom;
  const down = (y) => height / 2 - (y - view.y) * unit * view.zoom;
  const group = (i) => (data.groups ? data.groups.of[i] : 0);
  const pale = (i) => only !== null && group(i) !== only;

  function soon() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }

  function draw(now) {
    waiting = false;
    if (!width) return;
    glided(now);
    const { depth, top } = depths(layouts[chosen]);
    const power = Math.log2(view.zoom / home.zoom) + 0.01;
    const size = THUMB * Math.min(Math.max(1, data.side / THUMB), Math.max(1, view.zoom / home.zoom / 2 ** top));
    pen.clearRect(0, 0, width, height);
    const pictures = [], specks = colors.groups.map(() => []);
    drawn = [];
    for (let i = 0; i < count; i++) {
      const x = across(xy[2 * i]), y = down(xy[2 * i + 1]);
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      const share = Math.min(1, 4 * (power - depth[i]) + 1);
      if (share > 0 && !pale(i)) pictures.push([i, x, y, share]);
      if (share < 1 || pale(i)) specks[group(i)].push(x, y);
    }
    dot(specks);
    for (const [i, x, y, share] of pictures) {
      pen.globalAlpha = share;
      framed(i, x, y, size, data.groups ? colors.groups[group(i)] : colors["--card"]);
      drawn.push([i, x, y, size / 2]);
    }
    pen.globalAlpha = 1;
    if (current >= 0) framed(current, across(xy[2 * current]), down(xy[2 * current + 1]), Math.max(size, 56), colors["--accent"], 3);
    if (keyboard) crosshair();
  }

  // One color after the other, on whole pixels: tens of thousands are drawn between two frames.
  function dot(specks) {
    specks.forEach((places, number) => {
      pen.globalAlpha = only !== null && only !== number ? 0.12 : 0.75;
      pen.fillStyle = colors.groups[number];
      for (let k = 0; k < places.length; k += 2) pen.fillRect((places[k] - 1) | 0, (places[k + 1] - 1) | 0, 3, 3);
    });
  }

  function framed(i, x, y, size, edge, thick = 2) {
    pen.fillStyle = edge;
    pen.fillRect(x - size / 2 - thick, y - size / 2 - thick, size + 2 * thick, size + 2 * thick);
    picture(pen, i, x - size / 2, y - size / 2, size);
  }

  function picture(where, i, left, top, size) {
    const each = data.across * data.across, place = i % each;
    const image = pages[Math.floor(i / each)];
    if (!image.complete || !image.naturalWidth) return;
    where.imageSmoothingEnabled = size < 2 * data.side;
    where.drawImage(image, (place % data.across) * data.side, Math.floor(place / data.across) * data.side, data.side, data.side, left, top, size, size);
  }

  function crosshair() {
    pen.strokeStyle = colors["--ink"];
    pen.lineWidth = 1;
    pen.globalAlpha = 0.6;
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(width / 2 + 34 * dx, height / 2 + 34 * dy);
      pen.lineTo(width / 2 + 46 * dx, height / 2 + 46 * dy);
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }

  // From one layout to the other, unless motion is not wanted.
  function glided(now) {
    if (!glide) return;
    const goal = layouts[chosen].xy, share = Math.min(1, (now - glide) / GLIDE);
    if (share >= 1) { xy = goal.slice(); glide = 0; return; }
    for (let i = 0; i < xy.length; i++) xy[i] += (goal[i] - xy[i]) * Math.min(1, 0.08 + share * share);
    soon();
  }

  function at(x, y) {
    for (let k = drawn.length - 1; k >= 0; k--) {
      const [i, cx, cy, half] = drawn[k];
      if (Math.abs(x - cx) <= half && Math.abs(y - cy) <= half) return i;
    }
    return closest(x, y, REACH);
  }

  function closest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      if (pale(i)) continue;
      const dx = across(xy[2 * i]) - x, dy = down(xy[2 * i + 1]) - y, far = dx * dx + dy * dy;
      if (far < least) { least = far; best = i; }
    }
    return best;
  }

  function show(i, x, y) {
    current = i;
    tip.hidden = i < 0;
    soon();
    if (i < 0) return;
    const canvas = large.canvas;
    canvas.width = canvas.height = 252;
    picture(large, i, 0, 0, 252);
    tip.lastElementChild.textContent = data.names[i];
    const left = x + 24 + tip.offsetWidth < width ? x + 24 : x - 24 - tip.offsetWidth;
    const above = Math.min(Math.max(8, y - tip.offsetHeight / 2), height - tip.offsetHeight - 8);
    tip.style.transform = `translate(${Math.max(8, left)}px, ${above}px)`;
  }

  function zoom(times, x = width / 2, y = height / 2) {
    const before = view.zoom;
    view.zoom = home.zoom * Math.min(2 ** (depths(layouts[chosen]).top + 1.5), Math.max(0.6, (before * times) / home.zoom));
    const share = 1 / before - 1 / view.zoom;
    view.x += ((x - width / 2) / unit) * share;
    view.y -= ((y - height / 2) / unit) * share;
    hold();
    return view.zoom !== before;
  }

  function pan(dx, dy) {
    view.x -= dx / (unit * view.zoom);
    view.y += dy / (unit * view.zoom);
    hold();
  }

  function hold() {
    view.x = Math.min(1, Math.max(0, view.x));
    view.y = Math.min(1, Math.max(0, view.y));
    page.kept.view = view;
    soon();
  }

  // All but the outermost hundredth on each side fills the frame.
  function whole() {
    const ends = [0, 1].map((axis) => {
      const values = Float32Array.from({ length: count }, (_, i) => layouts[chosen].xy[2 * i + axis]).sort();
      return [values[Math.floor(count / 100)], values[Math.ceil(count * 0.99) - 1]];
    });
    const [[left, right], [low, high]] = ends;
    const fit = (room, extent) => (room - THUMB - 24) / (unit * Math.max(extent, 0.05));
    return { x: (left + right) / 2, y: (low + high) / 2, zoom: Math.min(fit(width, right - left), fit(height, high - low)) };
  }

  function reset() {
    view = { ...home };
    hold();
  }

  function middle() {
    const i = closest(width / 2, height / 2, Infinity);
    show(i, width / 2, height / 2);
    if (i >= 0) page.say(data.names[i]);
  }

  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    moved = 0;
    keyboard = false;
    show(-1);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const { left, top } = canvas.getBoundingClientRect();
    if (!before) {
      show(at(event.clientX - left, event.clientY - top), event.clientX - left, event.clientY - top);
      return;
    }
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    moved += Math.abs(dx) + Math.abs(dy);
    if (fingers.size === 2) {
      const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
      const far = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) || 1;
      zoom(far(event) / far(before), (event.clientX + other.clientX) / 2 - left, (event.clientY + other.clientY) / 2 - top);
    }
    pan(dx / fingers.size, dy / fingers.size);
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (!fingers.delete(event.pointerId) || moved > 6) return;
      const { left, top } = canvas.getBoundingClientRect();
      show(at(event.clientX - left, event.clientY - top), event.clientX - left, event.clientY - top);
    });
  }
  canvas.addEventListener("pointerleave", () => { if (!keyboard) show(-1); });

  // A page that is being scrolled past goes on scrolling: only a wheel that begins over the map zooms.
  let scrolled = 0;
  addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });
  canvas.addEventListener("wheel", (event) => {
    if (performance.now() - scrolled < 250) return;
    const { left, top } = canvas.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 16 : 1;
    if (zoom(Math.exp(-event.deltaY * lines * 0.0022), event.clientX - left, event.clientY - top)) event.preventDefault();
  }, { passive: false });

  const KEYS = {
    ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), _: () => zoom(1 / 1.5), 0: reset, Home: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keyboard = true;
    act();
    middle();
  });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) { keyboard = true; middle(); } });
  canvas.addEventListener("blur", () => { keyboard = false; show(-1); });

  const acts = { in: () => zoom(1.6), out: () => zoom(1 / 1.6), whole: reset };
  for (const button of box.querySelectorAll(".zoom button")) button.addEventListener("click", acts[button.dataset.act]);
  const note = document.querySelector(".map-note");
  const choices = [...document.querySelectorAll(".choice button")];
  function choose(k, moves) {
    chosen = k;
    page.kept.layout = k;
    choices.forEach((button, other) => button.setAttribute("aria-pressed", String(other === k)));
    note.textContent = layouts[k].note;
    if (moves && !calm.matches) glide = performance.now();
    else xy = layouts[k].xy.slice();
    if (moves) {
      home = whole();
      reset();
    }
    show(-1);
  }
  choices.forEach((button, k) => button.addEventListener("click", () => choose(k, true)));
  for (const button of document.querySelectorAll(".legend button")) {
    const group = +button.dataset.group;
    button.querySelector("i").style.background = HUES[group % HUES.length];
    button.addEventListener("click", () => {
      only = only === group ? null : group;
      for (const other of document.querySelectorAll(".legend button")) other.setAttribute("aria-pressed", String(+other.dataset.group === only));
      soon();
    });
  }
  choose(chosen, false);
  new ResizeObserver(measure).observe(box);
  document.addEventListener("dressed", measure);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", measure);
}
