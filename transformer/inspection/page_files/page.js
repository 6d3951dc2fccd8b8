"use strict";
// Draws the page from the JSON in #data. Texts only ever become text nodes; nothing is loaded.
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const KIND_KEYS = { c: "cross", e: "encoder", d: "decoder" };
  const NOTHING = 65535; // a column that is not there, in the largest terms of equation 1

  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function shape(tag, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  const number = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
  const log = (value) => number(value, Math.abs(value) < 0.1 ? 4 : 2);
  const short = (text, length = 16) => {
    const letters = [...text];
    return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : text;
  };

  // The weights: for each module, its mean over heads and then each head, by pieces and then by words.

  /** Numbers that the page holds deflated, in base64: all first bytes, then all second ones, and so on. */
  async function unpack(text, Numbers) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const byByte = new Uint8Array(await new Response(stream).arrayBuffer());
    const size = Numbers.BYTES_PER_ELEMENT;
    const count = byByte.length / size;
    const bytes = new Uint8Array(byByte.length);
    for (let part = 0; part < size; part++) {
      for (let place = 0; place < count; place++) bytes[place * size + part] = byByte[part * count + place];
    }
    return new Numbers(bytes.buffer);
  }

  const weights = await unpack(data.weights, Uint16Array);
  const terms = data.terms.map(() => null);
  for (const [place, part] of data.terms.entries()) {
    if (!part) continue;
    terms[place] = {
      kept: part.kept,
      totals: await unpack(part.totals, Float32Array),
      columns: await unpack(part.columns, Uint16Array),
      scores: await unpack(part.scores, Float32Array),
    };
  }
  let offset = 0;
  for (const module of data.modules) {
    module.offsets = {};
    for (const unit of ["pieces", "words"]) {
      module.offsets[unit] = offset;
      offset += (module.heads + 1) * length(axisOf(module.kind, 0), unit) * length(axisOf(module.kind, 1), unit);
    }
  }

  function axisOf(kind, side) {
    return data.axes[data.kinds[kind][side]];
  }

  function length(axis, unit) {
    return axis[unit].length;
  }

  /** The matrix of one head; head 0 is the mean of the layer's heads. */
  function matrix(kind, layer, head, unit) {
    const module = data.modules.find((each) => each.kind === kind && each.layer === layer);
    const rows = length(axisOf(kind, 0), unit);
    const columns = length(axisOf(kind, 1), unit);
    const start = module.offsets[unit] + head * rows * columns;
    return { rows, columns, at: (row, column) => weights[start + row * columns + column] / 1000 };
  }

  // The state: what is pinned, and what the pointer or the focus is on.

  const state = { kind: null, layer: 1, head: 0, unit: "words", word: 0, axis: null, step: 0, pinned: false };
  let pointed = null; // {axis, at, column}, which goes before the state while it lasts
  const layersOf = (kind) => data.modules.filter((each) => each.kind === kind);

  function start() {
    if (!data.choice) {
      state.axis = Object.keys(data.axes)[0];
    } else {
      const { kind, layer, head, word } = data.choice;
      Object.assign(state, { kind, layer, head, word, axis: data.kinds[kind][0] });
    }
    const given = new URLSearchParams(location.hash.slice(1));
    if (data.kinds[given.get("kind")]) state.kind = given.get("kind");
    if (["words", "pieces"].includes(given.get("unit"))) state.unit = given.get("unit");
    if (data.axes[given.get("axis")]) state.axis = given.get("axis");
    for (const name of ["layer", "head", "word", "step"]) {
      if (/^\d+$/.test(given.get(name) ?? "")) state[name] = Number(given.get(name));
    }
    state.pinned = given.get("pinned") === "1";
    if (state.kind) {
      const modules = layersOf(state.kind);
      state.layer = Math.min(Math.max(state.layer, 1), modules.length);
      state.head = Math.min(state.head, modules[state.layer - 1].heads);
    }
    state.word = Math.min(state.word, length(data.axes[state.axis], state.unit) - 1);
    if (data.search) state.step = Math.min(state.step, data.search.steps.length - 1);
    if (data.search && !given.has("step")) state.step = stepOfWord();
  }

  function remember() {
    const parts = new URLSearchParams();
    for (const name of ["kind", "layer", "head", "unit", "axis", "word", "step"]) parts.set(name, state[name]);
    if (state.pinned) parts.set("pinned", "1");
    try {
      history.replaceState(null, "", `#${parts}`);
    } catch {
      // a notebook's frame has no address of its own
    }
  }

  const focus = () => pointed ?? { axis: state.axis, at: state.word, column: null };

  /** The search step that predicts the chosen word of the output. */
  function stepOfWord() {
    const { axis, at } = focus();
    const place = axis !== "target" ? -1 : state.unit === "words" ? data.axes.target.wordOf.indexOf(at) : at;
    return Math.max(0, Math.min(place, data.search.steps.length - 1));
  }

  /** Where a column is in the lines at the top: [axis, place], or null. */
  function placeOf(axisName, at) {
    if (axisName !== "read") return [axisName, at];
    const piece = state.unit === "words" ? data.axes.read.wordOf.indexOf(at) : at;
    const place = data.readPlaces[piece];
    if (!place) return null;
    return state.unit === "words" ? [place[0], data.axes[place[0]].wordOf[place[1]]] : place;
  }

  /** [axis, place, weight] of everything that is tinted for the word in focus. */
  function tints() {
    if (!state.kind) return [];
    const { axis, at } = focus();
    const [rowAxis, columnAxis] = data.kinds[state.kind];
    const cells = matrix(state.kind, state.layer, state.head, state.unit);
    const found = [];
    if (axis === rowAxis) {
      for (let column = 0; column < cells.columns; column++) {
        const place = placeOf(columnAxis, column);
        if (place) found.push([...place, cells.at(at, column)]);
      }
    } else if (axis === columnAxis) {
      for (let row = 0; row < cells.rows; row++) found.push([rowAxis, row, cells.at(row, at)]);
    }
    return found;
  }

  // The two lines of text

  function drawLines() {
    for (const line of document.querySelectorAll("#lines p")) {
      const name = line.dataset.axis;
      const axis = data.axes[name];
      line.replaceChildren();
      axis[state.unit].forEach((text, at) => {
        const word = state.unit === "words" ? at : axis.wordOf[at];
        const isFirst = state.unit === "words" || axis.wordOf[at - 1] !== word;
        const isSpaced = isFirst && axis.spaced[word];
        if (isSpaced && at) line.append(" ");
        const button = element("button", { type: "button", class: "word", "data-axis": name, "data-at": at });
        button.classList.toggle("glued", !isSpaced);
        button.classList.toggle("special", text.startsWith("⟨") && text.endsWith("⟩"));
        button.append(element("bdi", {}, text));
        line.append(button);
      });
    }
  }

  function markLines() {
    const { axis, at } = focus();
    const found = new Map(tints().map(([name, place, weight]) => [`${name} ${place}`, weight]));
    for (const word of document.querySelectorAll(".word")) {
      const isHere = word.dataset.axis === axis && Number(word.dataset.at) === at;
      const weight = found.get(`${word.dataset.axis} ${word.dataset.at}`) ?? 0;
      word.classList.toggle("here", isHere);
      word.classList.toggle("pinned", isHere && state.pinned && !pointed);
      word.style.setProperty("--weight", weight);
      if (weight >= 0.1) word.dataset.weight = number(weight);
      else delete word.dataset.weight;
    }
  }

  function headName() {
    const module = state.kind === "cross" ? "" : ` of the ${state.kind}`;
    return state.head ? `head ${state.layer}.${state.head}${module}` : `the mean of layer ${state.layer}${module}`;
  }

  function say() {
    const says = $("says");
    says.replaceChildren();
    if (!state.kind) return;
    const { axis, at, column } = focus();
    const [rowAxis, columnAxis] = data.kinds[state.kind];
    const cells = matrix(state.kind, state.layer, state.head, state.unit);
    const name = (axisName, place) => element("bdi", {}, short(data.axes[axisName][state.unit][place], 40));
    const verb = rowAxis === "target" ? "predicting " : "at ";
    if (axis === rowAxis) {
      const best = column ?? largest(cells.columns, (place) => cells.at(at, place));
      says.append(verb, name(axis, at), `, ${headName()} looks at `, name(columnAxis, best));
      says.append(`: ${number(cells.at(at, best))}`);
    } else if (axis === columnAxis) {
      const best = largest(cells.rows, (row) => cells.at(row, at));
      says.append(name(axis, at), `: ${headName()} looks at it most when `, verb, name(rowAxis, best));
      says.append(`: ${number(cells.at(best, at))}`);
    } else {
      says.append(name(axis, at), ` is no part of this attention (${state.kind})`);
    }
  }

  function largest(count, value) {
    let best = 0;
    for (let place = 1; place < count; place++) if (value(place) > value(best)) best = place;
    return best;
  }

  // Heads

  function heat(weight) {
    return Math.pow(weight, 0.7);
  }

  function colours() {
    const probe = element("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
    return ["--paper", "--heat"].map((name) => {
      probe.fillStyle = css(name);
      probe.fillRect(0, 0, 1, 1);
      return [...probe.getImageData(0, 0, 1, 1).data];
    });
  }

  /** The matrix as an image with one pixel for each cell. */
  function image(cells, [low, high]) {
    const canvas = element("canvas", { width: cells.columns, height: cells.rows });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(cells.columns, cells.rows);
    for (let row = 0; row < cells.rows; row++) {
      for (let column = 0; column < cells.columns; column++) {
        const share = heat(cells.at(row, column));
        const start = 4 * (row * cells.columns + column);
        for (let part = 0; part < 3; part++) {
          pixels.data[start + part] = low[part] + (high[part] - low[part]) * share;
        }
        pixels.data[start + 3] = 255;
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /** What log p changes by without a head, with its sign. */
  function change(head) {
    const text = Math.abs(head.cost).toFixed(2);
    return Number(text) === 0 ? text : `${head.cost < 0 ? "+" : "−"}${text}`;
  }

  function headFacts(head) {
    const parts = [`${head.role}${head.value === null ? "" : ` ${number(head.value, 2)}`}`];
    if (head.aer !== null) parts.push(`AER ${Math.round(100 * head.aer)}`);
    return parts.join(" · ");
  }

  const shortRole = (head) => (head.role === "aligns" ? `aligns, AER ${Math.round(100 * head.aer)}` : head.role);

  function drawKinds() {
    const names = Object.keys(data.kinds);
    $("kinds").replaceChildren(
      ...names.map((kind) => choice(data.kindNames[kind], kind === state.kind, () => chooseKind(kind))),
    );
    $("units").replaceChildren(
      ...["words", "pieces"].map((unit) => choice(unit, unit === state.unit, () => chooseUnit(unit))),
    );
  }

  function choice(text, isPressed, act) {
    const button = element("button", { type: "button", "aria-pressed": isPressed }, text);
    button.addEventListener("click", act);
    return button;
  }

  function drawHeads() {
    const most = Math.max(...layersOf(state.kind).map((each) => each.heads));
    const grid = element("div", { class: "heads" });
    grid.style.gridTemplateColumns = `repeat(${most}, minmax(0, 1fr))`;
    grid.classList.toggle("many", most > 6);
    const scale = colours();
    for (const head of data.heads.filter((each) => each.kind === state.kind)) {
      const cells = image(matrix(state.kind, head.layer, head.head, state.unit), scale);
      const name = `${head.layer}.${head.head}`;
      const caption = element("span", { class: "caption" }, element("b", {}, name));
      caption.append(element("span", { class: "cost" }, change(head)));
      caption.classList.toggle("costly", head.cost >= 0.2);
      const says = `head ${name}: ${headFacts(head)}; without it ${data.costUnit} changes by ${change(head)}`;
      const button = element("button", { type: "button", class: "head", title: says, "aria-label": says });
      button.append(cells, caption, element("span", { class: "role" }, shortRole(head)));
      Object.assign(button.dataset, { layer: head.layer, head: head.head });
      button.addEventListener("click", () => chooseHead(head.layer, head.head));
      grid.append(button);
    }
    $("heads").replaceChildren(grid);
    $("heads-legend").textContent =
      `layer.head, what ${data.costUnit} changes by without it, and its role, measured on ${data.rolesFrom}. ` +
      "Underlined: at least 0.2.";
  }

  function markHeads() {
    for (const button of document.querySelectorAll(".head")) {
      const isChosen = Number(button.dataset.layer) === state.layer && Number(button.dataset.head) === state.head;
      button.setAttribute("aria-pressed", isChosen);
    }
  }

  // The chosen head, as a matrix and as lines

  let layout = null; // where the cells of the matrix are on the canvas

  function drawMatrix() {
    const canvas = $("matrix");
    const { axis, at, column: pointedColumn } = focus();
    const [rowAxis, columnAxis] = data.kinds[state.kind];
    const cells = matrix(state.kind, state.layer, state.head, state.unit);
    const rowTexts = data.axes[rowAxis][state.unit];
    const columnTexts = data.axes[columnAxis][state.unit];
    const context = canvas.getContext("2d");
    const font = (bold, size = 12) => `${bold ? "700 " : ""}${size}px ${getComputedStyle(document.body).fontFamily}`;
    context.font = font(true);
    const width = (texts) => Math.ceil(Math.max(...texts.map((text) => context.measureText(short(text)).width)));
    const left = width(rowTexts) + 10;
    const top = width(columnTexts) + 10;
    const room = Math.min($("chosen").clientWidth, 620) - left - 2;
    const size = Math.max(13, Math.min(30, Math.floor(room / cells.columns)));
    layout = { left, top, size, rows: cells.rows, columns: cells.columns };
    canvas.dataset.cell = size;
    const ratio = window.devicePixelRatio || 1;
    const total = [left + size * cells.columns + 2, top + size * cells.rows + 2];
    [canvas.width, canvas.height] = total.map((side) => side * ratio);
    [canvas.style.width, canvas.style.height] = total.map((side) => `${side}px`);
    context.scale(ratio, ratio);

    const scale = colours();
    context.imageSmoothingEnabled = false;
    context.drawImage(image(cells, scale), left, top, size * cells.columns, size * cells.rows);
    context.strokeStyle = css("--line");
    context.lineWidth = 1;
    context.strokeRect(left - 0.5, top - 0.5, size * cells.columns + 1, size * cells.rows + 1);

    const tinted = (row, column) =>
      (axis === rowAxis && row === at) || (axis === columnAxis && rowAxis !== columnAxis && column === at);
    context.textBaseline = "middle";
    for (let row = 0; row < cells.rows; row++) {
      const isHere = axis === rowAxis && row === at;
      context.font = font(isHere);
      context.fillStyle = css(isHere ? "--mark" : "--ink");
      context.textAlign = "right";
      context.fillText(short(rowTexts[row]), left - 6, top + size * (row + 0.5));
    }
    for (let column = 0; column < cells.columns; column++) {
      const isHere = (axis === columnAxis && rowAxis !== columnAxis && column === at) || column === pointedColumn;
      context.save();
      context.translate(left + size * (column + 0.5), top - 6);
      context.rotate(-Math.PI / 2);
      context.font = font(isHere);
      context.fillStyle = css(isHere ? "--mark" : "--ink");
      context.textAlign = "left";
      context.fillText(short(columnTexts[column]), 0, 0);
      context.restore();
    }
    if (size >= 26) {
      context.textAlign = "center";
      context.font = font(false, 10);
      for (let row = 0; row < cells.rows; row++) {
        for (let column = 0; column < cells.columns; column++) {
          const weight = cells.at(row, column);
          if (weight < 0.05) continue;
          context.fillStyle = css(heat(weight) > 0.5 ? "--paper" : "--ink");
          const text = weight === 1 ? "1" : number(weight).slice(1);
          context.fillText(text, left + size * (column + 0.5), top + size * (row + 0.5));
        }
      }
    }
    outlineGold(context);
    context.strokeStyle = css("--mark");
    context.lineWidth = 2;
    context.setLineDash([]);
    if (axis === rowAxis) context.strokeRect(left, top + size * at, size * cells.columns, size);
    else if (axis === columnAxis) context.strokeRect(left + size * at, top, size, size * cells.rows);
    if (pointedColumn !== null && axis === rowAxis) {
      context.lineWidth = 3;
      context.strokeRect(left + size * pointedColumn, top + size * at, size, size);
    }
    const unit = state.unit === "words" ? "words" : "pieces";
    canvas.setAttribute("aria-label", `${cells.rows} by ${cells.columns} weights between ${unit}: ${$("says").textContent}`);
  }

  function outlineGold(context) {
    if (state.kind !== "cross" || !data.gold) return;
    const { left, top, size } = layout;
    const places = (axis, word) =>
      state.unit === "words" ? [word, word] : [axis.wordOf.indexOf(word), axis.wordOf.lastIndexOf(word)];
    context.strokeStyle = css("--gold");
    context.lineWidth = 2;
    context.setLineDash([4, 2]);
    for (const [source, target] of data.gold) {
      const [firstRow, lastRow] = places(data.axes.target, target);
      const [firstColumn, lastColumn] = places(data.axes.source, source);
      const corner = [left + size * firstColumn + 1.5, top + size * firstRow + 1.5];
      context.strokeRect(...corner, size * (lastColumn - firstColumn + 1) - 3, size * (lastRow - firstRow + 1) - 3);
    }
  }

  function drawLinks() {
    const svg = $("links");
    const { axis, at } = focus();
    const [rowAxis, columnAxis] = data.kinds[state.kind];
    const cells = matrix(state.kind, state.layer, state.head, state.unit);
    const pitch = Math.max(cells.rows, cells.columns) > 40 ? 15 : 21;
    const texts = [rowAxis, columnAxis].map((name) => data.axes[name][state.unit].map((text) => short(text)));
    const context = element("canvas").getContext("2d");
    context.font = `700 12px ${getComputedStyle(document.body).fontFamily}`;
    const widths = texts.map((words) => Math.ceil(Math.max(...words.map((text) => context.measureText(text).width))));
    const left = Math.max(widths[0], 50) + 4;
    const middle = [left, left + 120];
    const height = Math.max(cells.rows, cells.columns) * pitch + 22;
    const y = (place) => 30 + place * pitch;
    svg.setAttribute("width", middle[1] + Math.max(widths[1], 60) + 6);
    svg.setAttribute("height", height);
    svg.replaceChildren();
    svg.append(shape("text", { x: middle[0], y: 11, "text-anchor": "end", class: "soft small" }, data.rowNames[state.kind]));
    svg.append(shape("text", { x: middle[1], y: 11, class: "soft small" }, data.columnNames[state.kind]));
    const isHere = (row, column) => (axis === rowAxis ? row === at : column === at);
    for (let row = 0; row < cells.rows; row++) {
      for (let column = 0; column < cells.columns; column++) {
        const weight = cells.at(row, column);
        if (weight < 0.03) continue;
        const line = { x1: middle[0] + 6, y1: y(row), x2: middle[1] - 6, y2: y(column), class: "link" };
        const share = isHere(row, column) ? 1 : 0.28;
        svg.append(shape("line", { ...line, "stroke-width": 0.5 + 5 * weight, "stroke-opacity": share * (0.2 + 0.8 * weight) }));
      }
    }
    texts.forEach((words, side) => {
      words.forEach((text, place) => {
        const marked = axis === [rowAxis, columnAxis][side] && (side === 0 || rowAxis !== columnAxis) && place === at;
        const anchor = side ? "start" : "end";
        const attributes = { x: middle[side], y: y(place) + 4, "text-anchor": anchor, class: marked ? "here" : "" };
        svg.append(shape("text", attributes, text));
      });
    });
    svg.setAttribute("aria-label", `The same weights as lines: ${$("says").textContent}`);
  }

  function describeChosen() {
    const head = data.heads.find(
      (each) => each.kind === state.kind && each.layer === state.layer && each.head === state.head,
    );
    $("chosen-title").textContent = state.kind === "cross" ? `cross-attention, ${headName()}` : `self-attention, ${headName()}`;
    $("chosen-facts").textContent = head
      ? `${headFacts(head)} · without it ${data.costUnit} changes by ${change(head)}`
      : "choose a head, or press 1 to 9";
    const gold = state.kind === "cross" && data.gold ? " Dashed boxes: the right alignment." : "";
    const unit = state.unit === "words" ? "Words: the sum over the pieces looked at, the mean over those that look." : "";
    $("matrix-legend").textContent = `${data.rowNotes[state.kind]} Rows sum to 1; the stronger the colour, the larger the weight. ${unit}${gold}`;
  }

  // The search

  const PITCH = 42;
  let groups = [];

  /** Steps in groups: several in one where every hypothesis just goes on in its lane. */
  function grouped(steps) {
    const isQuiet = (place) => {
      const step = steps[place];
      const before = steps[place - 1];
      if (!before || step.endings.length || step.lost || before.nodes.length !== step.nodes.length) return false;
      return step.nodes.every((node) => before.nodes[node.parent].lane === node.lane);
    };
    const found = [];
    steps.forEach((_, place) => {
      if ($("collapse").checked && isQuiet(place)) found[found.length - 1].push(place);
      else found.push([place]);
    });
    return found;
  }

  function joined(texts) {
    return texts.join("").replaceAll("␣", " ").trim() || texts.join("");
  }

  function drawSearch() {
    const { steps, paths } = data.search;
    for (const step of steps) step.lost = false;
    for (const path of paths) if (path.lostAt !== null && steps[path.lostAt - 1]) steps[path.lostAt - 1].lost = true;
    groups = grouped(steps);
    const svg = $("tree");
    svg.replaceChildren();
    const lanes = 1 + Math.max(0, ...steps.flatMap((step) => [...step.nodes, ...step.endings].map((each) => each.lane)));
    const top = 40;
    const y = (lane) => top + lane * PITCH;
    const bottom = top + lanes * PITCH + 18;
    let x = 70;
    const at = new Map(); // "step lane" -> [left, right] of a node
    at.set("-1 0", [8, 56]);
    svg.append(shape("text", { x: 8, y: y(0) + 4, class: "soft" }, "⟨start⟩"));
    const edges = shape("g");
    svg.append(edges);
    for (const group of groups) {
      const last = steps[group.at(-1)];
      const first = steps[group[0]];
      const labels = new Map();
      for (const node of last.nodes) labels.set(node.lane, laneTexts(group, node));
      const lengths = [...labels.values()].map((label) => [...label].length);
      const width = 26 + 7.2 * Math.max(4, ...lengths, first.endings.length ? 12 : 0);
      const box = shape("g", { class: "step", "data-first": group[0], "data-last": group.at(-1) });
      box.append(shape("rect", { x: x - 4, y: 2, width: width - 6, height: bottom + 30, rx: 6, class: "box" }));
      const name = group.length > 1 ? `${group[0] + 1}–${group.at(-1) + 1}` : `${group[0] + 1}`;
      box.append(shape("text", { x, y: 13, class: "soft small" }, name));
      for (const node of last.nodes) {
        const label = labels.get(node.lane);
        const right = x + 7.2 * [...label].length;
        at.set(`${group.at(-1)} ${node.lane}`, [x, right]);
        for (const place of group.slice(0, -1)) at.set(`${place} ${node.lane}`, [x, right]);
        const says = `${label}: sum ${number(node.total)}`;
        const text = shape("text", { x, y: y(node.lane) + 4, class: node.lane ? "soft" : "" }, label);
        text.append(shape("title", {}, says));
        const marks = node.marks.filter((mark) => mark === "reference" && !data.search.isReferenceWinner);
        box.append(text, shape("text", { x, y: y(node.lane) + 16, class: "soft small" }, log(node.total) + (marks.length ? " ◆" : "")));
      }
      for (const ending of first.endings) {
        const isWinner = ending.place === 0;
        const lane = y(ending.lane) + (first.nodes.some((node) => node.lane === ending.lane) ? -14 : 0);
        box.append(shape("rect", { x, y: lane - 4, width: 8, height: 8, class: "end" }));
        const name = `${isWinner ? "★ " : ""}${ending.what} ${log(ending.score)}`;
        box.append(shape("text", { x: x + 11, y: lane + 4, class: isWinner ? "" : "soft small" }, name));
        const from = at.get(`${group[0] - 1} ${ending.parentLane}`) ?? at.get("-1 0");
        edges.append(edge(from[1], y(ending.parentLane), x - 2, lane, `edge ${isWinner ? "winner" : ""}`));
      }
      const before = steps[group[0] - 1];
      for (const node of first.nodes) {
        const parentLane = before ? before.nodes[node.parent].lane : 0;
        const from = at.get(`${group[0] - 1} ${parentLane}`);
        if (!from) continue;
        edges.append(edge(from[1] + 2, y(parentLane), x - 2, y(node.lane), `edge ${node.lane ? "" : "winner"}`));
        for (const mark of node.marks) {
          if (node.lane) edges.append(edge(from[1] + 2, y(parentLane) + 2, x - 2, y(node.lane) + 2, `edge ${mark}`));
        }
      }
      for (const path of paths) {
        if (path.lostAt - 1 !== group[0] || path.lostAt === null) continue;
        const parent = before ? before.nodes.find((node) => node.marks.includes(path.name)) : { lane: 0 };
        const from = parent && (at.get(`${group[0] - 1} ${parent.lane}`) ?? at.get("-1 0"));
        const height = y(lanes) - 4;
        if (from) edges.append(edge(from[1], y(parent.lane), x - 2, height, `edge ${path.name}`));
        box.append(shape("text", { x, y: height + 4, class: "small" }, `✗ ${path.tokens[path.lostAt - 1]} (${path.name})`));
      }
      const margins = group.map((place) => steps[place].margin).filter((margin) => margin !== null);
      if (margins.length) {
        const least = Math.min(...margins);
        const share = Math.min(1, least / 12);
        box.append(shape("rect", { x, y: bottom + 2, width: Math.max(1, (width - 18) * share), height: 8, class: "margin" }));
        box.append(shape("text", { x, y: bottom + 22, class: "soft small" }, number(least, 1)));
      }
      box.addEventListener("click", () => chooseStep(group[0]));
      svg.append(box);
      x += width;
    }
    svg.append(shape("text", { x: 8, y: bottom + 10, class: "soft small" }, "margin"));
    svg.setAttribute("width", x + 10);
    svg.setAttribute("height", bottom + 40);
    svg.setAttribute("aria-label", `Beam search in ${steps.length} steps; the table below has the candidates of a step.`);
    $("paths").replaceChildren(...paths.map((path) => pathItem(path)));
    $("search-legend").textContent =
      `Beam ${data.search.beamSize}, α ${data.search.alpha}; closed after ${steps.length} steps: ${data.search.closed}. ` +
      "Thick line, ★: the winner, in the top lane. Sums of log-probabilities under the words; ■ a complete output and its " +
      "score. Margin: log p of the winner’s token minus the best other’s, the least of collapsed steps. " +
      "Dashed: greedy search; dotted, ◆: the reference, where they leave the winner’s way.";
  }

  /** What one lane says in a group of steps that ends with `node`. */
  function laneTexts(group, node) {
    const texts = [];
    let current = node;
    for (const place of [...group].reverse()) {
      texts.unshift(current.text);
      const before = data.search.steps[place - 1];
      if (before) current = before.nodes[current.parent];
    }
    return group.length > 1 ? short(joined(texts), 40) : short(texts[0], 18);
  }

  function edge(x1, y1, x2, y2, name) {
    const bend = Math.min(22, (x2 - x1) / 2);
    const path = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
    return shape("path", { d: path, class: name });
  }

  function pathItem(path) {
    const item = element("li", {}, `${path.name}: `, element("bdi", {}, path.text), ` (log p ${log(path.total)})`);
    if (path.isWinner) item.append(" — the winner");
    else if (path.lostAt === null) item.append(` — ${path.fate}`);
    else item.append(` — lost in step ${path.lostAt}: ${path.fate}`);
    return item;
  }

  function drawStep() {
    const step = data.search.steps[state.step];
    $("step-number").textContent = `step ${state.step + 1} of ${data.search.steps.length}`;
    for (const group of document.querySelectorAll("#tree .step")) {
      const isChosen = Number(group.dataset.first) <= state.step && state.step <= Number(group.dataset.last);
      group.classList.toggle("chosen", isChosen);
      if (isChosen) keepInView($("tree-box"), group.getBBox());
    }
    const head = element("tr");
    for (const [text, isNumber] of [["#", true], ["continues", false], ["token", false], ["log p", true], ["sum", true], ["penalty", true], ["score", true], ["fate", false]]) {
      head.append(element("th", { scope: "col", class: isNumber ? "number" : "" }, text));
    }
    const before = data.search.steps[state.step - 1];
    const rows = step.candidates.map((candidate, place) => {
      const parent = before ? before.nodes[candidate.parent].text : "⟨start⟩";
      const row = element("tr", { class: ["kept", "ended"].includes(candidate.fate) ? "kept" : "" });
      const cell = (text, isNumber) => element("td", { class: isNumber ? "number" : "" }, element("bdi", {}, text));
      row.append(cell(`${place + 1}`, true), cell(`… ${short(parent)}`), cell(short(candidate.text, 24)));
      for (const value of [candidate.logProb, candidate.total, step.penalty, candidate.score]) row.append(cell(number(value), true));
      row.append(cell(candidate.fate));
      return row;
    });
    const caption = element("caption", {}, `Candidates of step ${state.step + 1}, best first`);
    if (step.margin !== null) caption.append(`; margin ${number(step.margin, 2)} over ${step.runnerUp}`);
    $("candidates").replaceChildren(caption, element("thead", {}, head), element("tbody", {}, ...rows));
  }

  function keepInView(box, { x, width }) {
    if (x < box.scrollLeft || x + width > box.scrollLeft + box.clientWidth) box.scrollLeft = x - 80;
  }

  // Numbers

  function drawNumbers() {
    const { axis, at } = focus();
    const body = $("numbers-body");
    const pieces = piecesOf(axis, at);
    const parts = [];
    if (data.predictions.length > 1) parts.push(decided(axis, pieces));
    const own = data.predictions.filter((each) => each.axis === null || (each.axis === axis && pieces.includes(each.place)));
    const left = element("div");
    if (own.length) left.append(guesses(own));
    const norms = data.sublayers.filter((each) => each.axis === axis);
    if (norms.length && pieces.length) left.append(normTable(norms, axis, pieces));
    const grid = element("div", { class: "grids" }, left);
    const equation = equationOne();
    if (equation) grid.append(equation);
    parts.push(grid);
    body.replaceChildren(...parts);
  }

  function piecesOf(axis, at) {
    if (state.unit === "pieces") return [at];
    return data.axes[axis].wordOf.flatMap((word, place) => (word === at ? [place] : []));
  }

  function place(name) {
    const found = data.places[name];
    return element("p", { class: "place" }, `${found.paper}: `, element("code", {}, found.code));
  }

  function table(caption, heads, rows) {
    const cells = heads.map((text) => (text ? element("th", { scope: "col" }, element("bdi", {}, text)) : element("td")));
    const head = element("tr", {}, ...cells);
    return element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...rows));
  }

  function decided(axis, pieces) {
    const shown = data.predictions;
    const layers = shown[0].layers.length;
    const rows = Array.from({ length: layers }, (_, layer) => {
      const row = element("tr", {}, element("th", { scope: "row" }, layer + 1 < layers ? `after layer ${layer + 1}` : "the model"));
      for (const each of shown) {
        const best = each.layers[layer][0][0];
        const isFinal = best === each.text;
        const cell = element("td", { class: `own${isFinal ? " final" : ""}` }, isFinal ? "✓ " : "", element("bdi", {}, short(best, 14)));
        cell.style.setProperty("--weight", each.own[layer]);
        if (each.axis === axis && pieces.includes(each.place)) cell.classList.add("here");
        row.append(cell);
      }
      return row;
    });
    const box = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Predictions after each layer" });
    box.append(table("What would be predicted after each layer (✓: what the model says in the end)", ["", ...shown.map((each) => short(each.text, 14))], rows));
    const outer = element("div", {}, box, place("output"));
    return outer;
  }

  function guesses(own) {
    const outer = element("div");
    for (const each of own.slice(0, 8)) {
      const layers = each.layers.length;
      const rows = each.layers.map((found, layer) => {
        const row = element("tr", {}, element("th", { scope: "row" }, layer + 1 < layers ? `layer ${layer + 1}` : "the model"));
        for (const [text, probability] of found) {
          const cell = element("td", { class: text === each.text ? "final" : "" }, element("bdi", {}, short(text, 14)), ` ${number(100 * probability, 1)} %`);
          row.append(cell);
        }
        return row;
      });
      outer.append(table(`${short(each.text, 24)}: log p ${number(each.logProb, 4)}`, ["", "1", "2", "3", "4", "5"].slice(0, 1 + each.layers[0].length), rows));
    }
    return outer;
  }

  function normTable(norms, axis, pieces) {
    const outer = element("div");
    const piece = pieces[0];
    const rows = norms.map((each) => {
      const row = element("tr", {}, element("th", { scope: "row" }, each.name));
      const values = [each.before[piece], each.update[piece], each.after[piece]];
      for (const value of [...values, values[1] / values[0]]) row.append(element("td", { class: "number" }, number(value, 2)));
      return row;
    });
    const what = axis === "target" ? "where it is predicted" : "where it is read";
    const caption = `Lengths of the vectors around each sub-layer, ${short(data.axes[axis].pieces[piece], 24)}, ${what}`;
    outer.append(table(caption, ["sub-layer", "|x|", "|Sublayer(x)|", "|output|", "ratio"], rows), place("residual"));
    return outer;
  }

  /** Equation 1 for the chosen cell, or null if the module has a formula of its own. */
  function equationOne() {
    if (!state.kind || !state.head) return null;
    const { axis, at, column } = focus();
    const [rowAxis, columnAxis] = data.kinds[state.kind];
    const index = data.modules.findIndex((each) => each.kind === state.kind && each.layer === state.layer);
    if (axis !== rowAxis || !terms[index]) return null;
    const fine = matrix(state.kind, state.layer, state.head, "pieces");
    const rows = piecesOf(axis, at);
    const cells = matrix(state.kind, state.layer, state.head, state.unit);
    const best = column ?? largest(cells.columns, (each) => cells.at(at, each));
    const columns = state.unit === "pieces" ? [best] : piecesOf(columnAxis, best);
    const row = rows[largest(rows.length, (each) => Math.max(...columns.map((one) => fine.at(rows[each], one))))];
    const chosen = columns[largest(columns.length, (each) => fine.at(row, columns[each]))];
    return equationTable(index, row, chosen, rowAxis, columnAxis, { rows, columns, fine, weight: cells.at(at, best) });
  }

  function equationTable(index, row, chosen, rowAxis, columnAxis, cell) {
    const module = data.modules[index];
    const { kept, totals, columns, scores } = terms[index];
    const line = (state.head - 1) * fineRows(module) + row;
    const found = [];
    for (let each = 0; each < kept; each++) {
      const at = columns[line * kept + each];
      if (at !== NOTHING) found.push({ at, score: scores[line * kept + each] });
    }
    const own = found.find((each) => each.at === chosen);
    const outer = element("div");
    const texts = data.axes[columnAxis].pieces;
    const pair = `${short(data.axes[rowAxis].pieces[row])} → ${short(texts[chosen])}`;
    if (!own) {
      outer.append(element("p", { class: "sum" }, `Equation 1 for ${pair}: not among the ${kept} largest terms of its row.`), place("equation"));
      return outer;
    }
    const most = Math.max(...found.map((each) => each.score));
    const total = Math.exp(totals[line] - most);
    const shown = found.slice(0, 6);
    const rows = shown.map((each) => {
      const term = Math.exp(each.score - most);
      const cells = [number(each.score), number(term, 4), number(term / total)];
      const name = element("th", { scope: "row" }, element("bdi", {}, short(texts[each.at], 20)));
      return element("tr", { class: each.at === chosen ? "kept" : "" }, name, ...cells.map((text) => element("td", { class: "number" }, text)));
    });
    const rest = total - shown.reduce((sum, each) => sum + Math.exp(each.score - most), 0);
    if (Math.abs(rest) > 0.00005) {
      rows.push(element("tr", {}, element("th", { scope: "row" }, "all others"), element("td"), element("td", { class: "number" }, number(rest, 4)), element("td", { class: "number" }, number(rest / total))));
    }
    rows.push(element("tr", {}, element("th", { scope: "row" }, "sum"), element("td"), element("td", { class: "number" }, number(total, 4)), element("td", { class: "number" }, number(1))));
    const width = module.keyWidth;
    outer.append(table(`Equation 1 for ${pair}`, ["key", `s = q·k / √${width}`, `exp(s − ${number(most)})`, "weight"], rows));
    outer.append(element("p", { class: "sum" }, `q · k = ${number(own.score * Math.sqrt(width))}; divided by √${width} = ${number(own.score)}; exp(…) / sum = ${number(Math.exp(own.score - most) / total)}`));
    if (cell.rows.length * cell.columns.length > 1) {
      const sums = cell.rows.map((one) => cell.columns.map((two) => number(cell.fine.at(one, two))).join(" + "));
      const text = cell.rows.length > 1 ? `mean of (${sums.join("), (")})` : sums[0];
      outer.append(element("p", { class: "sum" }, `between words: ${short(text, 160)} = ${number(cell.weight)}`));
    }
    outer.append(place("equation"));
    return outer;
  }

  const fineRows = (module) => length(axisOf(module.kind, 0), "pieces");

  // What the reader does

  function chooseKind(kind) {
    if (!data.kinds[kind] || kind === state.kind) return;
    const [rowAxis, columnAxis] = data.kinds[state.kind];
    const wanted = data.kinds[kind][0];
    if (state.axis !== wanted) {
      const cells = matrix(state.kind, state.layer, state.head, state.unit);
      if (state.axis === rowAxis && columnAxis === wanted) state.word = largest(cells.columns, (each) => cells.at(state.word, each));
      else if (state.axis === columnAxis && rowAxis === wanted) state.word = largest(cells.rows, (each) => cells.at(each, state.word));
      else state.word = 0;
      state.axis = wanted;
    }
    state.kind = kind;
    const modules = layersOf(kind);
    state.layer = Math.min(state.layer, modules.length);
    state.head = Math.min(state.head, modules[state.layer - 1].heads);
    drawKinds();
    drawHeads();
    update();
  }

  function chooseUnit(unit) {
    if (unit === state.unit) return;
    const axis = data.axes[state.axis];
    state.word = unit === "words" ? axis.wordOf[state.word] : axis.wordOf.indexOf(state.word);
    state.unit = unit;
    pointed = null;
    drawLines();
    if (state.kind) {
      drawKinds();
      drawHeads();
    }
    update();
  }

  function chooseHead(layer, head) {
    const modules = layersOf(state.kind);
    if (layer < 1 || layer > modules.length || head > modules[layer - 1].heads) return;
    Object.assign(state, { layer, head });
    update();
  }

  function chooseStep(step) {
    if (!data.search || step < 0 || step >= data.search.steps.length) return;
    state.step = step;
    drawStep();
    remember();
  }

  function chooseWord(axis, at, isPinned) {
    if (at < 0 || at >= length(data.axes[axis], state.unit)) return;
    Object.assign(state, { axis, word: at, pinned: isPinned });
    pointed = null;
    if (data.search && axis === "target") state.step = stepOfWord();
    update();
  }

  function point(to) {
    if (JSON.stringify(to) === JSON.stringify(pointed)) return;
    pointed = to;
    update();
  }

  function update() {
    say();
    markLines();
    if (state.kind) {
      markHeads();
      describeChosen();
      drawMatrix();
      drawLinks();
    }
    drawNumbers();
    if (data.search) drawStep();
    remember();
  }

  function cellUnder(event) {
    const box = $("matrix").getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - layout.left) / layout.size);
    const row = Math.floor((event.clientY - box.top - layout.top) / layout.size);
    const isInside = row >= 0 && row < layout.rows && column >= 0 && column < layout.columns;
    return isInside ? { axis: data.kinds[state.kind][0], at: row, column } : null;
  }

  const onWord = (event) => event.target.closest?.(".word");

  function listen() {
    const lines = $("lines");
    const see = (event) => {
      const word = onWord(event);
      if (word) point({ axis: word.dataset.axis, at: Number(word.dataset.at), column: null });
    };
    lines.addEventListener("pointerover", see);
    lines.addEventListener("focusin", see);
    lines.addEventListener("pointerleave", () => point(null));
    lines.addEventListener("focusout", () => point(null));
    lines.addEventListener("click", (event) => {
      const word = onWord(event);
      if (word) chooseWord(word.dataset.axis, Number(word.dataset.at), true);
    });
    $("matrix").addEventListener("pointermove", (event) => point(cellUnder(event)));
    $("matrix").addEventListener("pointerleave", () => point(null));
    $("matrix").addEventListener("click", (event) => {
      const cell = cellUnder(event);
      if (cell) chooseWord(cell.axis, cell.at, true);
    });
    $("step-back").addEventListener("click", () => chooseStep(state.step - 1));
    $("step-on").addEventListener("click", () => chooseStep(state.step + 1));
    $("collapse").addEventListener("change", () => {
      drawSearch();
      drawStep();
    });
    $("help-button").addEventListener("click", () => $("help").showModal());
    document.addEventListener("keydown", onKey);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      if (state.kind) drawHeads();
      update();
    });
    addEventListener("resize", () => state.kind && drawMatrix());
  }

  function onKey(event) {
    const isTyping = event.ctrlKey || event.metaKey || event.altKey || $("help").open;
    const isScrolling = event.key.startsWith("Arrow") && event.target.classList?.contains("scroll");
    if (isTyping || isScrolling) return;
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    const key = event.key.toLowerCase();
    if (event.key in moves) {
      const { axis, at } = focus();
      chooseWord(axis, at + moves[event.key], state.pinned);
    } else if (event.key === "ArrowUp") chooseHead(state.layer - 1, state.head);
    else if (event.key === "ArrowDown") chooseHead(state.layer + 1, state.head);
    else if (/^\d$/.test(key)) chooseHead(state.layer, Number(key));
    else if (key in KIND_KEYS) chooseKind(KIND_KEYS[key]);
    else if (key === "w") chooseUnit(state.unit === "words" ? "pieces" : "words");
    else if (key === "[") chooseStep(state.step - 1);
    else if (key === "]") chooseStep(state.step + 1);
    else if (key === "?") $("help").showModal();
    else if (event.key === "Escape") unpin();
    else return;
    event.preventDefault();
  }

  function unpin() {
    state.pinned = false;
    pointed = null;
    if (onWord({ target: document.activeElement })) document.activeElement.blur();
    if (data.choice && state.unit === "words" && data.kinds[state.kind][0] === data.kinds[data.choice.kind][0]) {
      Object.assign(state, { word: data.choice.word, axis: data.kinds[data.choice.kind][0] });
    }
    update();
  }

  start();
  $("tables").open = false;
  drawLines();
  if (state.kind) {
    $("attention").hidden = false;
    drawKinds();
    drawHeads();
  }
  if (data.search) {
    $("search").hidden = false;
    drawSearch();
  }
  $("numbers").hidden = false;
  listen();
  update();
  document.documentElement.dataset.ready = "1";
})();
