"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const sprite = document.getElementById("sprite");
const side = Number(sprite.dataset.side), columns = Number(sprite.dataset.columns);
const canvases = [...document.querySelectorAll("canvas.map")];
const NEAR = 16;  // points on the screen within which an item is meant
let label = document.querySelector("input[name=label]:checked").value;
let alone = null;  // the code that is shown alone
let chosen = null, pinned = false;

const valueOf = (name, item) => {
  const column = data.labels[name], code = column.codes[item];
  return code === data.unknown ? null : code === data.other ? column.rare[item] : column.values[code];
};
const element = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};
const thumbnail = (context, item, x, y, size) => context.drawImage(
  sprite, item % columns * side, Math.floor(item / columns) * side, side, side, x, y, size, size);

/** Where an item lies on a canvas, in points of the screen. */
const at = (canvas, item) => {
  const [x, y] = data.maps[canvas.dataset.model].places[item], margin = 14;
  return [margin + x / 10000 * (canvas.clientWidth - 2 * margin), margin + y / 10000 * (canvas.clientHeight - 2 * margin)];
};

function draw(canvas) {
  const density = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  canvas.width = Math.round(canvas.clientWidth * density);
  canvas.height = Math.round(canvas.clientHeight * density);
  context.scale(density, density);
  const pictures = document.getElementById("pictures").checked, codes = data.labels[label].codes;
  const radius = canvas.clientWidth < 450 ? 2.4 : 3.2, size = canvas.clientWidth < 450 ? 16 : 24;
  const layers = [...data.ids.keys()].sort((a, b) => codes[b] - codes[a]);  // unknown and rare ones lie below
  for (const item of layers) {
    const [x, y] = at(canvas, item);
    context.globalAlpha = alone === null || codes[item] === alone ? 1 : 0.08;
    if (pictures) {
      thumbnail(context, item, x - size / 2, y - size / 2, size);
    } else {
      context.fillStyle = data.colours[codes[item]];
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    }
  }
  context.globalAlpha = 1;
  if (chosen === null) return;
  context.strokeStyle = "#1d2430";
  for (const item of data.maps[canvas.dataset.model].near[chosen]) ring(context, at(canvas, item), radius + 3, 1.3);
  ring(context, at(canvas, chosen), radius + 6, 2.6);
}

function ring(context, [x, y], radius, width) {
  context.lineWidth = width;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
}

const drawAll = () => canvases.forEach(draw);

function choose(item) {
  if (item === chosen) return;
  chosen = item;
  drawAll();
  describe();
}

/** Picture, values and nearest items of what is chosen. */
function describe() {
  const about = document.getElementById("about");
  about.replaceChildren();
  about.classList.toggle("chosen", chosen !== null);
  if (chosen === null) {
    about.append(element("p", "No item chosen.", {class: "soft"}));
    return;
  }
  const own = element("div", ""), close = element("button", "close", {type: "button"});
  close.addEventListener("click", () => {
    pinned = false;
    choose(null);
  });
  own.append(close, element("h3", data.ids[chosen], {dir: "auto"}));
  own.append(strip([chosen], 2 * side, "Picture of " + data.ids[chosen]));
  own.append(element("p", data.texts[chosen], {dir: "auto", class: "small"}));
  const values = element("dl", "");
  for (const name of Object.keys(data.labels)) {
    const value = valueOf(name, chosen);
    values.append(element("dt", name), element("dd", value ?? "not known", value === null ? {class: "soft"} : {dir: "auto"}));
  }
  own.append(values);
  about.append(own);
  for (const [model, map] of Object.entries(data.maps)) {
    const part = element("div", ""), near = map.near[chosen], mine = valueOf(label, chosen);
    const same = near.filter((item) => mine !== null && valueOf(label, item) === mine).length;
    const said = mine === null ? `${label} not known` : `${same} of ${near.length} have its ${label}`;
    part.append(element("h3", `${model}: nearest ${near.length}`), strip(near, side, `The items nearest to it: ${said}`));
    part.append(element("p", said, {class: "small"}));
    about.append(part);
  }
}

/** Pictures of items in rows of five. */
function strip(items, size, name) {
  const canvas = element("canvas", "", {role: "img", "aria-label": name});
  canvas.width = Math.min(items.length, 5) * (size + 2);
  canvas.height = Math.ceil(items.length / 5) * (size + 2);
  const context = canvas.getContext("2d");
  items.forEach((item, i) => thumbnail(context, item, i % 5 * (size + 2), Math.floor(i / 5) * (size + 2), size));
  return canvas;
}

/** The legend: one button per value shows it alone. */
function showValues() {
  const column = data.labels[label], box = document.getElementById("values");
  const entries = column.values.map((value, code) => [value, column.counts[code], code]);
  if (column.other[1]) entries.push([...column.other, data.other]);
  if (column.unknown) entries.push(["not known", column.unknown, data.unknown]);
  box.replaceChildren(...entries.map(([value, count, code]) => {
    const button = element("button", "", {type: "button", "aria-pressed": "false"}), dot = element("i", "");
    dot.style.background = data.colours[code];
    button.append(dot, element("bdi", value), ` ${count}`);
    button.addEventListener("click", () => {
      alone = alone === code ? null : code;
      [...box.children].forEach((other) => other.setAttribute("aria-pressed", String(other === button && alone !== null)));
      drawAll();
    });
    return button;
  }));
}

/** The item under a pointer, or null. */
function under(canvas, event) {
  const box = canvas.getBoundingClientRect();
  let best = null, distance = NEAR;
  for (const item of data.ids.keys()) {
    const [x, y] = at(canvas, item);
    const far = Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
    if (far < distance) [best, distance] = [item, far];
  }
  return best;
}

/** The nearest item in the direction of an arrow key; sideways counts double. */
function towards(canvas, [dx, dy]) {
  if (chosen === null) return 0;
  const [x0, y0] = at(canvas, chosen);
  let best = chosen, distance = Infinity;
  for (const item of data.ids.keys()) {
    const [x, y] = at(canvas, item), ahead = (x - x0) * dx + (y - y0) * dy;
    const aside = Math.abs((x - x0) * dy) + Math.abs((y - y0) * dx);
    if (ahead > 0 && aside <= 2 * ahead && ahead + 2 * aside < distance) [best, distance] = [item, ahead + 2 * aside];
  }
  return best;
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
for (const canvas of canvases) {
  canvas.addEventListener("pointermove", (event) => {
    if (!pinned && event.pointerType === "mouse") choose(under(canvas, event));
  });
  canvas.addEventListener("click", (event) => {
    const item = under(canvas, event);
    pinned = item !== null;
    choose(item);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key in ARROWS) {
      event.preventDefault();
      pinned = true;
      choose(towards(canvas, ARROWS[event.key]));
    } else if (event.key === "Escape") {
      pinned = false;
      choose(null);
    }
  });
}
document.getElementById("choice").addEventListener("change", () => {
  label = document.querySelector("input[name=label]:checked").value;
  alone = null;
  showValues();
  drawAll();
  describe();
});
window.addEventListener("resize", drawAll);
showValues();
sprite.decode().then(drawAll, drawAll);
