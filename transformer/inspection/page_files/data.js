// Helpers, and the numbers of the page. Strings are inserted only as text nodes, and no other file is loaded.
//
// All scripts in this folder are joined to one module, in the order of `SCRIPTS` in page.py.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const KIND_KEYS = { c: "cross", e: "encoder", d: "decoder" };
const NOTHING = 65535; // marks a missing column among the largest terms of equation 1

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

const font = ({ bold = false, size = 12 } = {}) =>
  `${bold ? "700 " : ""}${size}px ${getComputedStyle(document.body).fontFamily}`;
const ruler = document.createElement("canvas").getContext("2d");

/** The width in pixels of the widest label, in bold. */
function widest(texts, length = 16) {
  ruler.font = font({ bold: true });
  return Math.ceil(Math.max(0, ...texts.map((text) => ruler.measureText(short(text, length)).width)));
}

// The weights: for each module, its mean over heads and then each head, by pieces and then by words.

/** Unpack numbers from deflated base64, in which all first bytes come first, then all second bytes, and so on. */
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
    offset +=
      (module.heads + 1) * length(axisOf(module.kind, 0), unit) * length(axisOf(module.kind, 1), unit);
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
