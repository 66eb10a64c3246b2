"use strict";
// Draws the classifier's answers. Texts and label names enter the document as text nodes alone.

const MAX_CHARACTERS = 20000, MAX_WORDS = 200, MAX_BARS = 12, MOVE_MILLISECONDS = 180, WORD_DELAY_MILLISECONDS = 120;
const model = JSON.parse(document.getElementById("model").textContent);
const { classify, encode, arrays } = makeClassifier(model);
const control = model.control && makeClassifier(model.control, encode);
const circuit = model.circuit;
const simulate = circuit && circuit.simulation && makeStatevector(circuit.simulation, arraysOf(circuit.arrays));
const find = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

function arraysOf(entries) {
  return Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, decodeArray(entry)]));
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(parent, name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const percent = (share) => (100 * share).toFixed(share > 0.0995 && share < 0.9995 ? 0 : 1) + " %";

function makeBars(list) {
  const rows = model.classes.map((name) => {
    const fill = element("div", { class: "fill" }), share = element("span", { class: "share" });
    const row = element("li", {}, element("span", { class: "name" }, name), share, element("div", { class: "track", "aria-hidden": "true" }, fill));
    list.append(row);
    return { row, fill, share };
  });
  return (probabilities, label) => {
    const order = [...rows.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
    rows.forEach(({ row, fill, share }, i) => {
      row.classList.toggle("top", i === label);
      row.hidden = rows.length > MAX_BARS && order.indexOf(i) >= MAX_BARS;
      fill.style.transform = `scaleX(${probabilities[i]})`;
      share.textContent = percent(probabilities[i]);
    });
    if (rows.length > MAX_BARS) order.slice(0, MAX_BARS).forEach((i) => list.append(rows[i].row));
  };
}

// Draws wires, gates, Bloch vectors and expectation values; returns the function that moves them.
function drawCircuit(width) {
  const holder = find("circuit");
  holder.replaceChildren();
  const n = circuit.qubits, phone = width < 560, drawn = circuit.columns > 0;
  const inline = circuit.wires.every((wire) => wire >= 0), spheres = Boolean(simulate);
  const line = phone ? 36 : 42, labels = phone ? 28 : 34, ball = spheres ? (phone ? 34 : 44) : 0;
  const gauge = phone ? 58 : 170, number = 48, right = ball + gauge + number + 12;
  const column = drawn ? Math.max(13, Math.min(46, (width - labels - right - 8) / circuit.columns)) : 0;
  const start = labels + 4, end = start + column * circuit.columns;
  const total = Math.max(width, end + right), gaugeLeft = end + ball + 10;
  const room = Math.max(gauge, total - gaugeLeft - number - 2);
  const extra = inline ? 0 : circuit.observables.length;
  const height = (n + extra) * line + 26;
  const svg = shape(holder, "svg", { width: total, height, viewBox: `0 0 ${total} ${height}`, role: "img" });
  shape(svg, "title", {}, `Circuit with ${n} qubits, its expectation values and the Bloch vector of each qubit`);
  const y = (row) => 24 + row * line + line / 2, box = Math.min(column - 3, line - 12, 28);
  const caption = (x, text, anchor) => shape(svg, "text", { x, y: 12, class: "quiet", "text-anchor": anchor || "middle" }, text);
  if (spheres && !phone) caption(end + ball / 2 + 4, "Bloch");
  caption(gaugeLeft, "−1", "start");
  caption(gaugeLeft + room, "+1", "end");
  for (let q = 0; q < n; q++) {
    shape(svg, "text", { x: labels - 6, y: y(q) + 4, "text-anchor": "end", class: "quiet" }, `q${q}`);
    if (drawn) shape(svg, "line", { x1: start, y1: y(q), x2: end + 4, y2: y(q), class: "wire" });
  }
  const hands = [];
  for (const [name, qubits, input, place] of drawn ? circuit.gates : []) {
    const x = start + (place + 0.5) * column, rows = qubits.map(y), top = Math.min(...rows), bottom = Math.max(...rows);
    const tip = shape(svg, "g", {});
    shape(tip, "title", {}, input >= 0 ? `${name}: angle ${input} of the text` : name);
    if (qubits.length > 1) shape(tip, "line", { x1: x, y1: top, x2: x, y2: bottom, class: "link" });
    if (name === "cz" || name === "cx") {
      rows.forEach((row, i) => {
        if (name === "cx" && i === 1) {
          shape(tip, "circle", { cx: x, cy: row, r: 6, class: "sphere" });
          shape(tip, "line", { x1: x, y1: row - 6, x2: x, y2: row + 6, class: "link" });
        } else shape(tip, "circle", { cx: x, cy: row, r: 3.5, fill: "var(--ink)" });
      });
      continue;
    }
    for (const row of rows) {
      const kind = input >= 0 ? "input" : "weight";
      if (input >= 0 && qubits.length === 1) {
        shape(tip, "circle", { cx: x, cy: row, r: box / 2, class: kind });
        hands.push([input, shape(tip, "line", { x1: x, y1: row, x2: x, y2: row, class: "hand" }), x, row, box / 2 - 3]);
      } else {
        shape(tip, "rect", { x: x - box / 2, y: row - box / 2, width: box, height: box, rx: 4, class: kind });
        const letter = name.replace(/^r+/, "").toUpperCase() || name.toUpperCase();
        if (box > 11 && letter.length < 3) shape(tip, "text", { x, y: row + 4, "text-anchor": "middle", style: `font-size: ${Math.min(12, box * 0.6)}px` }, letter);
      }
    }
  }
  const radius = ball / 2 - 5, balls = [];
  for (let q = 0; q < (spheres ? n : 0); q++) {
    const x = end + ball / 2 + 4, group = shape(svg, "g", {});
    const title = shape(group, "title", {}, "");
    shape(group, "circle", { cx: x, cy: y(q), r: radius, class: "sphere" });
    shape(group, "ellipse", { cx: x, cy: y(q), rx: radius, ry: radius * 0.32, class: "equator" });
    const vector = shape(group, "line", { x1: x, y1: y(q), x2: x, y2: y(q), class: "vector" });
    balls.push([title, vector, shape(group, "circle", { r: 3, class: "tip" }), x, y(q)]);
  }
  const gauges = circuit.observables.map((name, k) => {
    const row = y(inline ? circuit.wires[k] : n + k), middle = gaugeLeft + room / 2;
    if (!inline) shape(svg, "text", { x: gaugeLeft - 8, y: row + 4, "text-anchor": "end", class: "quiet" }, name);
    const group = shape(svg, "g", {});
    shape(group, "title", {}, `Expectation value of ${name}`);
    shape(group, "rect", { x: gaugeLeft, y: row - 5, width: room, height: 10, rx: 5, class: "track" });
    const bar = shape(group, "rect", { x: middle, y: row - 5, width: 0, height: 10, rx: 3, class: "gauge" });
    shape(group, "line", { x1: middle, y1: row - 8, x2: middle, y2: row + 8, class: "zero" });
    const text = shape(svg, "text", { x: gaugeLeft + room + number - 2, y: row + 4, class: "value" }, "");
    return [bar, text, middle];
  });
  return (angles, values, bloch) => {
    for (const [input, hand, x, row, length] of hands) {
      hand.setAttribute("x2", x + length * Math.sin(angles[input]));
      hand.setAttribute("y2", row - length * Math.cos(angles[input]));
    }
    balls.forEach(([title, vector, tip, x, row], q) => {
      const [bx, by, bz] = bloch.slice(3 * q, 3 * q + 3);
      const px = x + radius * (0.93 * by - 0.36 * bx), py = row - radius * (0.95 * bz - 0.3 * bx);
      for (const [key, value] of [["x2", px], ["y2", py]]) vector.setAttribute(key, value);
      tip.setAttribute("cx", px);
      tip.setAttribute("cy", py);
      tip.setAttribute("r", 2.6 + 0.9 * bx);
      title.textContent = `Qubit ${q}: x ${bx.toFixed(2)}, y ${by.toFixed(2)}, z ${bz.toFixed(2)}`;
    });
    gauges.forEach(([bar, text, middle], k) => {
      const size = (Math.min(1, Math.abs(values[k])) * room) / 2;
      bar.setAttribute("x", values[k] < 0 ? middle - size : middle);
      bar.setAttribute("width", size);
      text.textContent = (values[k] < 0 ? "−" : "+") + Math.abs(values[k]).toFixed(2);
    });
  };
}

function blochVectors(angles) {
  const state = simulate(angles), vectors = [];
  for (let q = 0; q < circuit.qubits; q++) {
    const bit = 1 << q;
    vectors.push(pauliValue(state, bit, 0), pauliValue(state, bit, bit), pauliValue(state, 0, bit));
  }
  return vectors;
}

const showBars = makeBars(find("bars")), showControl = control && makeBars(find("control-bars"));
let move = circuit ? drawCircuit(find("circuit").clientWidth) : null, shown = null, target = null, began = 0, frame = 0;
let wordTimer = 0, wordRun = 0, spokenTimer = 0;

// Moves everything that is drawn from where it is to the latest answer.
function animate(now) {
  const part = still ? 1 : Math.max(0, Math.min(1, (now - began) / MOVE_MILLISECONDS)), eased = 1 - (1 - part) ** 3;
  const between = (key) => target.to[key].map((value, i) => target.from[key][i] + (value - target.from[key][i]) * eased);
  shown = { probabilities: between("probabilities"), control: between("control"), angles: between("angles"), values: between("values"), bloch: between("bloch") };
  showBars(shown.probabilities, target.label);
  if (control) showControl(shown.control, target.controlLabel);
  if (move) move(shown.angles, shown.values, shown.bloch);
  frame = part < 1 ? requestAnimationFrame(animate) : 0;
}

function textNow() {
  const text = find("text").value;
  find("note").textContent = text.length > MAX_CHARACTERS ? `Only the first ${MAX_CHARACTERS.toLocaleString("en")} characters are classified.` : "";
  return text.slice(0, MAX_CHARACTERS);
}

function update() {
  const started = performance.now(), text = textNow(), answer = classify(text);
  const other = control ? control.classify(text) : null, list = (values) => Array.from(values || []);
  const to = { probabilities: list(answer.probabilities), control: list(other && other.probabilities), angles: list(answer.angles),
    values: list(answer.values), bloch: simulate ? blochVectors(answer.angles) : [] };
  target = { from: shown || to, to, label: answer.label, controlLabel: other ? other.label : -1 };
  const name = model.classes[answer.label], share = answer.probabilities[answer.label];
  const sure = model.threshold === null || share >= model.threshold;
  find("verdict").replaceChildren(text.trim() ? name : "", element("small", {}, text.trim() ? `  ${percent(share)}${sure ? "" : ", unsure: defer this text"}` : "Waiting for a text"));
  clearTimeout(spokenTimer);
  spokenTimer = setTimeout(() => { find("spoken").textContent = text.trim() ? `${name}, ${percent(share)}` : ""; }, 700);
  began = performance.now();
  if (still) animate(began);
  else if (!frame) frame = requestAnimationFrame(animate);
  clearTimeout(wordTimer);
  wordTimer = setTimeout(() => explainWords(text, answer), WORD_DELAY_MILLISECONDS);
  fillNumbers(to);
  window.lastUpdateMilliseconds = performance.now() - started;
}

// Leave-one-out: how much the label's probability falls without each word.
function explainWords(text, answer) {
  const run = ++wordRun, parts = text.split(/(\s+)/u), places = [...parts.keys()].filter((i) => parts[i].trim()).slice(0, MAX_WORDS);
  const effects = new Map();
  const step = () => {
    if (run !== wordRun) return;
    const until = performance.now() + 8;
    while (effects.size < places.length && performance.now() < until) {
      const place = places[effects.size];
      const without = classify(parts.filter((_, i) => i !== place).join(""));
      effects.set(place, answer.probabilities[answer.label] - without.probabilities[answer.label]);
    }
    if (effects.size < places.length) setTimeout(step); else showWords(parts, effects);
  };
  step();
}

function showWords(parts, effects) {
  const most = Math.max(0.02, ...Array.from(effects.values(), Math.abs));
  find("words").replaceChildren(...parts.map((part, i) => {
    if (!effects.has(i)) return part;
    const effect = effects.get(i), strength = (Math.abs(effect) / most).toFixed(3), color = effect >= 0 ? "--for" : "--against";
    const span = element("span", { title: `${effect >= 0 ? "+" : "−"}${(100 * Math.abs(effect)).toFixed(1)} points` }, part);
    span.style.backgroundColor = `rgba(var(${color}), ${(0.32 * strength).toFixed(3)})`;
    span.style.borderBottomColor = `rgba(var(${color}), ${strength})`;
    return span;
  }));
  find("word-legend").hidden = !effects.size;
  const ranked = [...effects].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 3);
  find("word-summary").textContent = ranked.length ? "Words that mattered most: " + ranked.map(([i, effect]) => `${parts[i]}, ${(100 * effect).toFixed(0)} points`).join("; ") : "";
}

function fillNumbers({ angles, values, bloch }) {
  if (!circuit || !find("numbers").closest("details").open) return;
  const cells = (kind, row) => element("tr", {}, ...row.map((cell) => element(kind, {}, cell)));
  const fixed = (value) => (value === undefined ? "" : value.toFixed(4));
  const rows = Math.max(circuit.qubits, angles.length, values.length);
  const body = Array.from({ length: rows }, (_, i) => cells("td", [String(i), fixed(angles[i]), circuit.observables[i] || "", fixed(values[i]),
    ...[0, 1, 2].map((axis) => fixed(bloch[3 * i + axis]))]));
  find("numbers").replaceChildren(cells("th", ["", "angle (rad)", "observable", "value", "Bloch x", "y", "z"]), ...body);
}

find("summary").textContent = model.summary;
find("how").textContent = model.how;
if (control) {
  find("control").hidden = false;
  find("control-title").textContent = `Answer of the classical control (${model.control.name})`;
}
if (circuit) {
  for (const [style, text] of [["background: var(--soft); outline: 1.5px solid var(--student); border-radius: 50%", "rotation by an angle of the text"],
    ["background: var(--neutral); outline: 1px solid var(--line)", "trained rotation"], ["background: var(--student)", "expectation value"]]) {
    find("circuit-legend").append(element("span", {}, element("i", { style }), text));
  }
  let width = find("circuit").clientWidth;
  addEventListener("resize", () => {
    if (find("circuit").clientWidth === width) return;
    width = find("circuit").clientWidth;
    move = drawCircuit(width);
    move(shown.angles, shown.values, shown.bloch);
  });
} else {
  find("circuit-card").hidden = true;
  find("answer-title").textContent = "Answer of the model";
}
find("numbers").closest("details").addEventListener("toggle", update);
find("text").addEventListener("input", update);
update();
