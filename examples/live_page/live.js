const SHAPES = ["circle", "square", "triangle"];
const PAUSE = 900;  // milliseconds after a stroke in which another may belong to the same digit
const RADIUS = 6;  // of a shape, in pixels of the canvas
const BACKGROUND = [38, 42, 60];
// Bright, as those of the training: each channel from 128 up.
const COLOURS = { coral: [255, 140, 128], yellow: [250, 222, 130], green: [140, 235, 150],
  cyan: [135, 228, 240], blue: [140, 165, 255], violet: [232, 150, 250] };
// size: of the canvas; pen: width of a stroke; tall: what a digit's larger side is in the training; digit: side
// of a digit of the palette, all in pixels of the canvas. cells: of the grid, each about as large as a digit.
// start: what is there before anybody draws.
const MODELS = {
  air: { size: 50, cells: 3, pen: 2.2, tall: 15, digit: 28 / 1.3, legend: ["first window", "second", "third"],
    about: "Attend, Infer, Repeat looks at one object after another: it places a window on each, redraws it, and "
      + "stops when nothing is left to explain. It was trained on scenes of 0, 1 or 2 digits, without labels.",
    hint: "Draw digits about as large as a cell of the grid, or drag them from here onto the canvas. Larger ones "
      + "are shrunk: the model knows digits of one size.",
    start: [["digit", 2, 15, 17], ["digit", 5, 34, 32]] },
  cst_vae: { size: 50, cells: 2, pen: 2.6, tall: 20, digit: 28, legend: ["layer 1, front", "layer 2"],
    about: "CST-VAE takes overlapping digits apart: each layer is a digit in a pose, completed where the other "
      + "hides it. It was trained on scenes of two digits, so it always finds two layers.",
    hint: "Draw two digits over each other, each about as large as a cell of the grid, or drag them from here. "
      + "Larger ones are shrunk: the model knows digits of one size.",
    start: [["digit", 3, 21, 22], ["digit", 7, 30, 29]] },
  econ: { size: 32, colour: true, legend: [],
    about: "ECON's experts compete for parts of the scene: each paints one class of shapes, and completes what is "
      + "hidden. It was trained on scenes of three shapes in any bright colours, without labels.",
    hint: "Drag shapes onto the canvas, or press one to add it. The one placed last lies in front.",
    start: [["shape", 1, 12, 13, "blue"], ["shape", 0, 18, 19, "coral"], ["shape", 2, 22, 11, "yellow"]] },
};
const $ = id => document.getElementById(id);
const board = $("board"), screen_ = board.getContext("2d");
const ink = document.createElement("canvas"), paint = ink.getContext("2d", { willReadFrequently: true });
let name, model, scale, selected = null, chosen = 0, tint = "coral", pictures = [], windowColours, shown = null;

// What is on the canvas: {kind, x, y, ...}, the last in front. A pen's strokes are lists of points.
function extent(item) {
  if (item.kind !== "pen") {
    const half = item.kind === "shape" ? RADIUS : model.digit / 2;
    return [item.x - half, item.y - half, item.x + half, item.y + half];
  }
  const points = item.strokes.flat(), half = model.pen / 2;
  const x = points.map(p => p[0]), y = points.map(p => p[1]);
  return [Math.min(...x) - half, Math.min(...y) - half, Math.max(...x) + half, Math.max(...y) + half];
}
function shift(item, dx, dy) {  // never over the edge
  const [left, top, right, bottom] = extent(item), inside = (d, low, high) => Math.max(-low, Math.min(d, model.size - high));
  dx = inside(dx, left, right); dy = inside(dy, top, bottom);
  if (item.kind === "pen") item.strokes = item.strokes.map(s => s.map(([x, y]) => [x + dx, y + dy]));
  else { item.x += dx; item.y += dy; }
}
function shrink(item, most = 1.1 * model.tall) {  // a digit drawn too large, frame by frame, about its middle
  if (held) { item.pause = setTimeout(() => shrink(item, most), PAUSE); return; }
  const [left, top, right, bottom] = extent(item), side = Math.max(right - left, bottom - top);
  if (side < most || !model.items.includes(item)) return;
  const factor = Math.max(0.88, model.tall / side), x = (left + right) / 2, y = (top + bottom) / 2;
  item.strokes = item.strokes.map(stroke => stroke.map(p => [x + factor * (p[0] - x), y + factor * (p[1] - y)]));
  change();
  requestAnimationFrame(() => shrink(item, 1.001 * model.tall));
}
function put(item, x, y) {
  if (item.kind === "shape") { x = Math.round(x); y = Math.round(y); }
  shift(item, x - item.x, y - item.y);
}
function piece(k, x = model.size / 2, y = model.size / 2, colour = tint) {
  return model.colour ? { kind: "shape", shape: k, x, y, colour } : { kind: "digit", digit: k, x, y };
}
function interrupt() {  // the first scene gives way to the user's
  if (model.fresh) { model.items = []; model.fresh = false; selected = null; }
}
function add(item) { interrupt(); model.items.push(item); selected = item; change(); }
function addSomewhere(k) {  // where most room is
  interrupt();
  const item = piece(k), places = [];
  for (const y of [0.5, 0.25, 0.75]) for (const x of [0.5, 0.25, 0.75]) places.push([x * model.size, y * model.size]);
  const middles = model.items.map(extent).map(([l, t, r, b]) => [(l + r) / 2, (t + b) / 2]);
  const room = ([x, y]) => Math.min(model.size, ...middles.map(m => Math.hypot(m[0] - x, m[1] - y)));
  put(item, ...places.reduce((best, place) => room(place) > room(best) + 0.1 ? place : best));
  add(item);
}
function remove(item) {
  if (!item) return;
  model.fresh = false;
  model.items = model.items.filter(other => other !== item);
  selected = model.items.at(-1) ?? null;
  change();
}

// Painting: what the model is given is the average of ink drawn at ten times its resolution.
function inShape(shape, column, row) {
  const x = 2 * column + 1 - 2 * RADIUS, y = 2 * row + 1 - 2 * RADIUS, side = 2 * RADIUS;
  if (shape === 0) return x * x + y * y <= side * side;
  if (shape === 1) return Math.max(Math.abs(x), Math.abs(y)) <= side * Math.sqrt(Math.PI / 4);
  return 2 * Math.abs(x) <= y + side + 1;
}
function stampShape(context, shape, left, top) {
  for (let row = 0; row < 2 * RADIUS; row++) for (let column = 0; column < 2 * RADIUS; column++)
    if (inShape(shape, column, row)) context.fillRect(left + column, top + row, 1, 1);
}
const rgb = colour => `rgb(${colour.join(" ")})`;
function paintInk() {
  paint.globalCompositeOperation = "source-over";
  paint.fillStyle = model.colour ? rgb(BACKGROUND) : "black";
  paint.fillRect(0, 0, ink.width, ink.height);
  paint.globalCompositeOperation = model.colour ? "source-over" : "lighten";
  for (const item of model.items) {
    if (item.kind === "shape") {
      paint.fillStyle = rgb(COLOURS[item.colour]);
      stampShape(paint, item.shape, item.x - RADIUS, item.y - RADIUS);
    } else if (item.kind === "digit") {
      const side = model.digit * scale;
      paint.drawImage(pictures[item.digit], item.x * scale - side / 2, item.y * scale - side / 2, side, side);
    } else for (const stroke of item.strokes) {
      paint.strokeStyle = "white"; paint.lineCap = paint.lineJoin = "round"; paint.lineWidth = model.pen * scale;
      paint.beginPath();
      paint.moveTo(stroke[0][0] * scale, stroke[0][1] * scale);
      stroke.forEach(([x, y], k) => {  // through the middles between the points, so that corners are round
        const [u, v] = stroke[k + 1] ?? [x, y];
        paint.quadraticCurveTo(x * scale, y * scale, (x + u) / 2 * scale, (y + v) / 2 * scale);
      });
      paint.stroke();
    }
  }
}
function levels() {  // bytes, channel by channel
  const { data } = paint.getImageData(0, 0, ink.width, ink.height), size = model.size, pixels = size * size;
  if (model.colour) return Uint8Array.from({ length: 3 * pixels }, (_, i) => data[4 * (i % pixels) + Math.floor(i / pixels)]);
  const sums = new Float32Array(pixels), width = ink.width;
  for (let y = 0; y < width; y++) for (let x = 0; x < width; x++)
    sums[Math.floor(y / scale) * size + Math.floor(x / scale)] += data[4 * (y * width + x)];
  return Uint8Array.from(sums, sum => Math.round(sum / (scale * scale)));
}
function outline(context, points, colour, width) {
  context.beginPath(); points.forEach(([x, y]) => context.lineTo(x, y)); context.closePath();
  context.lineJoin = "round";
  context.strokeStyle = "black"; context.lineWidth = 2 * width; context.stroke();
  context.strokeStyle = colour; context.lineWidth = width; context.stroke();
}
function paintBoard() {
  const side = board.width, unit = side / model.size, pixel = side / board.clientWidth;
  screen_.setLineDash([]);
  screen_.imageSmoothingEnabled = !model.colour;
  screen_.drawImage(ink, 0, 0, side, side);
  screen_.fillStyle = "rgb(255 255 255 / 0.16)";
  for (let k = 1; k < model.cells; k++) {
    screen_.fillRect(k * side / model.cells, 0, pixel, side);
    screen_.fillRect(0, k * side / model.cells, side, pixel);
  }
  const windows = (shown?.windows ?? []).map(corners => corners.map(([x, y]) => [x * unit, y * unit]));
  windows.forEach((points, k) => outline(screen_, points, windowColours[k % windowColours.length], 2.5 * pixel));
  windows.forEach(([corner], k) => {
    const size = 17 * pixel, inside = v => Math.max(0, Math.min(v, side - size));
    const left = inside(corner[0]), top = inside(corner[1] - size);
    screen_.fillStyle = windowColours[k % windowColours.length]; screen_.fillRect(left, top, size, size);
    screen_.fillStyle = "black"; screen_.font = `bold ${13 * pixel}px system-ui, sans-serif`;
    screen_.textAlign = "center"; screen_.textBaseline = "middle";
    screen_.fillText(k + 1, left + size / 2, top + size / 2 + pixel);
  });
  if (selected && !model.fresh) {
    const [left, top, right, bottom] = extent(selected).map(v => v * unit);
    screen_.strokeStyle = "rgb(255 255 255 / 0.75)"; screen_.lineWidth = 1.5 * pixel; screen_.setLineDash([5 * pixel, 4 * pixel]);
    screen_.strokeRect(left, top, right - left, bottom - top);
  }
  for (const id of ["front", "remove"]) $(id).disabled = !selected || model.fresh;
}

// Talking: a drawing is sent at most once a frame; the server answers the latest.
let socket, sent = [], due = false, alive = null;
function change() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    paintInk(); paintBoard();
    if (socket?.readyState === WebSocket.OPEN) { sent.push(performance.now()); socket.send(levels()); }
  });
}
function connect() {
  socket?.close();
  const own = socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/explain/${name}`);
  own.onopen = () => { sent = []; change(); };
  own.onmessage = event => { if (own === socket) receive(JSON.parse(event.data)); };
  own.onclose = () => {
    if (own !== socket) return;
    status("no connection: is the server still running? Trying again.", true);
    setTimeout(() => own === socket && connect(), 1000);
  };
}
function status(text, bad = false) { $("status").textContent = text; $("status").className = bad ? "bad" : ""; }
function receive(answer) {
  if (answer.error) return status(answer.error, true);
  status(`answered in ${Math.max(1, Math.round(performance.now() - sent[answer.number]))} ms`);
  shown = answer;
  $("verdict").textContent = answer.text;
  clearTimeout(alive);
  alive = setTimeout(() => { $("said").textContent = answer.text; }, 500);
  showCounts(answer.count_probabilities);
  showRows(answer.rows);
  paintBoard();
}
function showCounts(probabilities) {
  $("counts").hidden = !probabilities;
  const bars = (probabilities ?? []).map((p, k) => {
    const bar = document.createElement("li"), length = document.createElement("b");
    length.style.setProperty("--p", p);
    bar.append(`${k}`, length, p.toFixed(2));
    return bar;
  });
  $("counts").replaceChildren(...bars);
}
function showRows(rows) {
  const layout = JSON.stringify(rows.map(row => [row.title, row.pictures.length]));
  if ($("rows").dataset.layout !== layout) {
    $("rows").dataset.layout = layout;
    $("rows").replaceChildren(...rows.filter(row => row.pictures.length).map(row => {
      const section = document.createElement("section"), title = document.createElement("h2"), list = document.createElement("div");
      title.textContent = row.title;
      for (const _ of row.pictures) {
        const figure = document.createElement("figure"), canvas = document.createElement("canvas");
        canvas.width = canvas.height = model.size;
        canvas.setAttribute("role", "img");
        figure.append(canvas, document.createElement("figcaption"));
        list.append(figure);
      }
      section.append(title, list);
      return section;
    }));
  }
  const figures = $("rows").querySelectorAll("figure");
  let next = 0;
  for (const row of rows) row.pictures.forEach((picture, k) => {
    const figure = figures[next++], [canvas, caption] = figure.children;
    showPicture(canvas, picture);
    caption.textContent = row.captions[k] ?? "";
    canvas.setAttribute("aria-label", [row.title, row.captions[k]].filter(Boolean).join(", "));
    figure.className = row.faint_from !== null && k >= row.faint_from ? "faint" : "";
  });
}
function showPicture(canvas, picture) {
  const bytes = Uint8Array.from(atob(picture), c => c.charCodeAt(0)), pixels = model.size ** 2;
  const image = new ImageData(model.size, model.size), step = bytes.length > pixels ? pixels : 0;
  for (let i = 0; i < pixels; i++)
    image.data.set([bytes[i], bytes[i + step], bytes[i + 2 * step], 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Pointers: on the board they draw or drag; from the palette they drag a piece onto the board.
function place(event) {
  const box = board.getBoundingClientRect(), unit = model.size / box.width;
  return [(event.clientX - box.left) * unit, (event.clientY - box.top) * unit];
}
function within([x, y], [left, top, right, bottom]) { return x >= left && x < right && y >= top && y < bottom; }
const everywhere = () => [0, 0, model.size, model.size];
function pieceAt(point) {
  return model.items.findLast(item => item.kind !== "pen" && within(point, extent(item)));
}
let held = null;  // {item, dx, dy}, or {stroke}
board.onpointerdown = event => {
  if (event.button || !event.isPrimary) return;  // a second finger draws nothing
  event.preventDefault();
  board.focus({ focusVisible: false });
  board.setPointerCapture(event.pointerId);
  const point = place(event), hit = model.fresh && !model.colour ? null : pieceAt(point);
  if (hit) { model.fresh = false; selected = hit; held = { item: hit, dx: hit.x - point[0], dy: hit.y - point[1] }; change(); }
  else if (model.colour) { selected = null; paintBoard(); }
  else {
    interrupt();
    const last = model.items.at(-1), [left, top, right, bottom] = last ? extent(last) : [];
    held = { stroke: [point] };
    // A stroke soon after another, and near it, belongs to the same digit.
    if (last?.kind === "pen" && event.timeStamp - last.time < PAUSE && within(point, [left - 4, top - 4, right + 4, bottom + 4]))
      last.strokes.push(held.stroke);
    else model.items.push({ kind: "pen", strokes: [held.stroke], x: 0, y: 0 });
    selected = model.items.at(-1);
    change();
  }
};
board.onpointermove = event => {
  board.classList.toggle("grab", !held && !(model.fresh && !model.colour) && Boolean(pieceAt(place(event))));
  if (!held || !event.isPrimary) return;
  const [x, y] = place(event);
  if (held.item) put(held.item, x + held.dx, y + held.dy);
  else for (const each of event.getCoalescedEvents?.() ?? [event]) {
    const point = place(each).map(v => Math.max(0, Math.min(v, model.size)));
    held.stroke.push(point);
  }
  change();
};
board.onpointerup = board.onpointercancel = event => {
  if (!event.isPrimary) return;
  const item = held?.stroke && model.items.at(-1);
  held = null;
  if (!item) return;
  item.time = event.timeStamp;
  clearTimeout(item.pause);
  item.pause = setTimeout(() => shrink(item), PAUSE);
};
function drag(button, k) {
  let ghost = null, item = null, from = null;
  const end = () => { ghost?.remove(); ghost = item = from = null; };
  button.onpointerdown = event => { if (!event.button) { from = [event.clientX, event.clientY]; button.setPointerCapture(event.pointerId); } };
  button.onpointermove = event => {
    if (!from || !ghost && Math.hypot(event.clientX - from[0], event.clientY - from[1]) < 6) return;
    if (!ghost) {
      ghost = button.firstChild.cloneNode();
      ghost.getContext("2d").drawImage(button.firstChild, 0, 0);
      ghost.className = "ghost";
      document.body.append(ghost);
    }
    ghost.style.left = `${event.clientX}px`; ghost.style.top = `${event.clientY}px`;
    const point = place(event), over = within(point, everywhere());
    ghost.hidden = over;
    if (over && !item) add(item = piece(k, ...point.map(Math.round)));
    if (over) { put(item, ...point); change(); }
    else if (item) { remove(item); item = null; }
  };
  button.onpointerup = () => { button.dragged = Boolean(ghost); end(); };
  button.onpointercancel = end;
  button.onclick = () => {
    choose(k);
    if (!button.dragged) addSomewhere(k);
    button.dragged = false;
  };
}
function choose(k) {
  chosen = k;
  [...$("palette").children].forEach((button, i) => button.setAttribute("aria-pressed", i === k));
}

// Keys: on the board, and on the palette, where Enter presses the button.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const far = event.shiftKey ? 5 : 1, { items } = model, turn = { PageDown: 1, PageUp: -1 }[event.key];
  if (ARROWS[event.key]) { if (selected) { model.fresh = false; shift(selected, ...ARROWS[event.key].map(d => d * far)); } }
  else if (event.key === "Delete" || event.key === "Backspace") remove(selected);
  else if (turn) { if (items.length) { model.fresh = false; selected = items.at((items.indexOf(selected) + turn) % items.length); } }
  else if (event.key === "Enter" && event.target === board) addSomewhere(chosen);
  else return;
  event.preventDefault();
  change();
}
board.onkeydown = $("palette").onkeydown = key;
$("remove").onclick = () => remove(selected);
$("clear").onclick = () => { interrupt(); model.items = []; selected = null; change(); };
$("front").onclick = () => {
  model.items = [...model.items.filter(item => item !== selected), selected];
  change();
};

// The choice of a model is kept in the address.
function open() {
  name = Object.hasOwn(MODELS, location.hash.slice(1)) ? location.hash.slice(1) : "air";
  model = MODELS[name];
  scale = model.colour ? 1 : 10;
  ink.width = ink.height = model.size * scale;
  shown = null; held = null;
  if (!model.items) {
    model.items = model.start.map(([, k, x, y, colour]) => piece(k, x, y, colour));
    model.fresh = true;
  }
  selected = model.items.at(-1) ?? null;
  document.querySelector(`[name=model][value=${name}]`).checked = true;
  $("about").textContent = model.about;
  $("hint").textContent = model.hint;
  const thing = model.colour ? "shapes" : "digits";
  board.setAttribute("aria-label", `Canvas for ${thing}`);
  $("palette").setAttribute("aria-label", `Add ${thing}`);
  $("colours").hidden = !model.colour;
  $("front").hidden = !model.colour;
  for (const id of ["verdict", "counts", "rows", "said"]) { $(id).textContent = ""; delete $(id).dataset.layout; }
  $("counts").hidden = true;
  $("legend").replaceChildren(...model.legend.map((text, k) => {
    const entry = document.createElement("li"), sign = document.createElement("i");
    sign.style.borderColor = windowColours[k];
    entry.append(sign, text);
    return entry;
  }));
  fillPalette();
  paintInk(); paintBoard();
  connect();
}
function fillPalette() {
  const labels = model.colour ? SHAPES : [..."0123456789"];
  chosen = Math.min(chosen, labels.length - 1);
  $("palette").className = model.colour ? "" : "many";
  $("palette").replaceChildren(...labels.map((label, k) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    canvas.width = canvas.height = model.colour ? 88 : 28;
    button.setAttribute("aria-label", `Add ${model.colour ? label : `digit ${label}`}`);
    button.append(canvas);
    drag(button, k);
    return button;
  }));
  choose(chosen);
  paintPalette();
}
function paintPalette() {
  [...$("palette").children].forEach((button, k) => {
    const context = button.firstChild.getContext("2d");
    if (!model.colour) return pictures[k] && context.drawImage(pictures[k], 0, 0);
    context.imageSmoothingEnabled = false;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = rgb(BACKGROUND); context.fillRect(0, 0, 88, 88);
    context.setTransform(5, 0, 0, 5, 14, 14);
    context.fillStyle = rgb(COLOURS[tint]);
    stampShape(context, k, 0, 0);
  });
}
for (const [label, colour] of Object.entries(COLOURS)) {
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "colour", value: label, checked: label === tint });
  input.setAttribute("aria-label", label);
  input.style.setProperty("--colour", rgb(colour));
  input.onchange = () => { tint = label; paintPalette(); };
  $("colours").append(input);
}
for (const input of document.querySelectorAll("[name=model]")) input.onchange = () => { location.hash = input.value; };
async function begin() {
  windowColours = (await (await fetch("/colours")).json()).map(rgb);
  const bytes = new Uint8Array(await (await fetch("/digits")).arrayBuffer());
  pictures = Array.from({ length: 10 }, (_, k) => {
    const canvas = document.createElement("canvas"), image = new ImageData(28, 28);
    canvas.width = canvas.height = 28;
    for (let i = 0; i < 784; i++) image.data.set([...new Array(3).fill(bytes[784 * k + i]), 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  });
  open();
  addEventListener("hashchange", open);
  new ResizeObserver(() => {
    board.width = board.height = Math.round(board.clientWidth * devicePixelRatio);
    paintBoard();
  }).observe(board);
}
begin();
