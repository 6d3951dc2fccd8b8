// Reactions to clicks, keys and the pointer

function chooseKind(kind) {
  if (!data.kinds[kind] || kind === state.kind) return;
  const [rowAxis, columnAxis] = data.kinds[state.kind];
  const wanted = data.kinds[kind][0];
  if (state.axis !== wanted) {
    const cells = matrix(state.kind, state.layer, state.head, state.unit);
    if (state.axis === rowAxis && columnAxis === wanted)
      state.word = largest(cells.columns, (each) => cells.at(state.word, each));
    else if (state.axis === columnAxis && rowAxis === wanted)
      state.word = largest(cells.rows, (each) => cells.at(each, state.word));
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
  if (!pointed) remember();
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
  listenToSaving();
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
  const { choice } = data;
  if (choice && state.unit === "words" && data.kinds[state.kind][0] === data.kinds[choice.kind][0]) {
    Object.assign(state, { word: choice.word, axis: data.kinds[choice.kind][0] });
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
