// The state: the reader's choices, and the item under the pointer or in focus.

const state = { kind: null, layer: 1, head: 0, unit: "words", word: 0, axis: null, step: 0, pinned: false };
let pointed = null; // {axis, at, column}, which overrides the state while it is set
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
  if (["source", "target"].includes(given.get("axis")) && data.axes[given.get("axis")]) {
    state.axis = given.get("axis");
  }
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
    // an iframe in a notebook has no URL
  }
}

const focus = () => pointed ?? { axis: state.axis, at: state.word, column: null };

/** The search step that predicts the chosen word of the output. */
function stepOfWord() {
  const { axis, at } = focus();
  const place = axis !== "target" ? -1 : state.unit === "words" ? data.axes.target.wordOf.indexOf(at) : at;
  return Math.max(0, Math.min(place, data.search.steps.length - 1));
}

/** The position of a column in the lines at the top: [axis, place], or null. */
function placeOf(axisName, at) {
  if (axisName !== "read") return [axisName, at];
  const piece = state.unit === "words" ? data.axes.read.wordOf.indexOf(at) : at;
  const place = data.readPlaces[piece];
  if (!place) return null;
  return state.unit === "words" ? [place[0], data.axes[place[0]].wordOf[place[1]]] : place;
}

/** [axis, place, weight] of every word or piece that is tinted for the word in focus. */
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
