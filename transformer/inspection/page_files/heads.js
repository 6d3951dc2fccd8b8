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

/** Draw the matrix as an image with one pixel for each cell. */
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

/** The signed change of log p without a head. */
function change(head) {
  const text = Math.abs(head.cost).toFixed(2);
  return Number(text) === 0 ? text : `${head.cost < 0 ? "+" : "−"}${text}`;
}

function headFacts(head) {
  const parts = [`${head.role}${head.value === null ? "" : ` ${number(head.value, 2)}`}`];
  if (head.aer !== null) parts.push(`AER ${Math.round(100 * head.aer)}`);
  return parts.join(" · ");
}

const shortRole = (head) =>
  head.role === "aligns" ? `aligns, AER ${Math.round(100 * head.aer)}` : head.role;

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
    `layer.head, how much ${data.costUnit} changes without the head, and its role, measured on ${data.rolesFrom}. ` +
    "Underlined: at least 0.2.";
}

function markHeads() {
  for (const button of document.querySelectorAll(".head")) {
    const isChosen =
      Number(button.dataset.layer) === state.layer && Number(button.dataset.head) === state.head;
    button.setAttribute("aria-pressed", isChosen);
  }
}
