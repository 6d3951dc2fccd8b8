// The chosen head, as a matrix and as lines

let layout = null; // where the cells of the matrix are on the canvas

function shownMatrix() {
  return matrix(state.kind, state.layer, state.head, state.unit);
}

function drawMatrix() {
  const canvas = $("matrix");
  const [rowAxis, columnAxis] = data.kinds[state.kind];
  const cells = shownMatrix();
  layout = matrixLayout(cells, data.axes[rowAxis][state.unit], data.axes[columnAxis][state.unit]);
  const ratio = window.devicePixelRatio || 1;
  const total = matrixSize();
  [canvas.width, canvas.height] = total.map((side) => side * ratio);
  [canvas.style.width, canvas.style.height] = total.map((side) => `${side}px`);
  canvas.dataset.cell = layout.size;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  paintMatrix(context, cells);
  const what = `${cells.rows} by ${cells.columns} weights between ${state.unit}`;
  canvas.setAttribute("aria-label", `${what}: ${$("says").textContent}`);
}

/** The width and height of the matrix, including its labels. */
function matrixSize() {
  const { left, top, size, rows, columns } = layout;
  return [left + size * columns + 2, top + size * rows + 2];
}

function paintMatrix(context, cells) {
  const { left, top, size } = layout;
  const [rowAxis, columnAxis] = data.kinds[state.kind];
  context.textBaseline = "middle";
  context.imageSmoothingEnabled = false;
  context.drawImage(image(cells, colours()), left, top, size * cells.columns, size * cells.rows);
  context.strokeStyle = css("--line");
  context.strokeRect(left - 0.5, top - 0.5, size * cells.columns + 1, size * cells.rows + 1);
  labelRows(context, rowAxis);
  labelColumns(context, rowAxis, columnAxis);
  if (size >= 26) writeWeights(context, cells);
  outlineGold(context);
  outlineFocus(context, rowAxis, columnAxis);
}

/** The position of the cells, which are squares as large as the space allows. */
function matrixLayout(cells, rowTexts, columnTexts) {
  const left = widest(rowTexts) + 10;
  const top = widest(columnTexts) + 10;
  const room = Math.min($("chosen").clientWidth, 620) - left - 2;
  const size = Math.max(13, Math.min(30, Math.floor(room / cells.columns)));
  return { left, top, size, rows: cells.rows, columns: cells.columns };
}

function labelRows(context, rowAxis) {
  const { left, top, size } = layout;
  const { axis, at } = focus();
  data.axes[rowAxis][state.unit].forEach((text, row) => {
    const isHere = axis === rowAxis && row === at;
    context.font = font({ bold: isHere });
    context.fillStyle = css(isHere ? "--mark" : "--ink");
    context.textAlign = "right";
    context.fillText(short(text), left - 6, top + size * (row + 0.5));
  });
}

function labelColumns(context, rowAxis, columnAxis) {
  const { left, top, size } = layout;
  const { axis, at, column: pointedColumn } = focus();
  data.axes[columnAxis][state.unit].forEach((text, column) => {
    const isChosen = axis === columnAxis && rowAxis !== columnAxis && column === at;
    const isHere = isChosen || column === pointedColumn;
    context.save();
    context.translate(left + size * (column + 0.5), top - 6);
    context.rotate(-Math.PI / 2);
    context.font = font({ bold: isHere });
    context.fillStyle = css(isHere ? "--mark" : "--ink");
    context.textAlign = "left";
    context.fillText(short(text), 0, 0);
    context.restore();
  });
}

function writeWeights(context, cells) {
  const { left, top, size } = layout;
  context.textAlign = "center";
  context.font = font({ size: 10 });
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

/** Outline the row or column in focus, and the cell under the pointer. */
function outlineFocus(context, rowAxis, columnAxis) {
  const { left, top, size, rows, columns } = layout;
  const { axis, at, column } = focus();
  context.strokeStyle = css("--mark");
  context.lineWidth = 2;
  context.setLineDash([]);
  if (axis === rowAxis) context.strokeRect(left, top + size * at, size * columns, size);
  else if (axis === columnAxis) context.strokeRect(left + size * at, top, size, size * rows);
  if (column !== null && axis === rowAxis) {
    context.lineWidth = 3;
    context.strokeRect(left + size * column, top + size * at, size, size);
  }
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
    context.strokeRect(
      ...corner,
      size * (lastColumn - firstColumn + 1) - 3,
      size * (lastRow - firstRow + 1) - 3,
    );
  }
}

function drawLinks() {
  const svg = $("links");
  const { axis, at } = focus();
  const [rowAxis, columnAxis] = data.kinds[state.kind];
  const cells = matrix(state.kind, state.layer, state.head, state.unit);
  const pitch = Math.max(cells.rows, cells.columns) > 40 ? 15 : 21;
  const texts = [rowAxis, columnAxis].map((name) => data.axes[name][state.unit].map((text) => short(text)));
  const widths = texts.map(widest);
  const left = Math.max(widths[0], 50) + 4;
  const middle = [left, left + 120];
  const height = Math.max(cells.rows, cells.columns) * pitch + 22;
  const y = (place) => 30 + place * pitch;
  svg.setAttribute("width", middle[1] + Math.max(widths[1], 60) + 6);
  svg.setAttribute("height", height);
  svg.replaceChildren();
  svg.append(
    shape(
      "text",
      { x: middle[0], y: 11, "text-anchor": "end", class: "soft small" },
      data.rowNames[state.kind],
    ),
  );
  svg.append(shape("text", { x: middle[1], y: 11, class: "soft small" }, data.columnNames[state.kind]));
  const isHere = (row, column) => (axis === rowAxis ? row === at : column === at);
  for (let row = 0; row < cells.rows; row++) {
    for (let column = 0; column < cells.columns; column++) {
      const weight = cells.at(row, column);
      if (weight < 0.03) continue;
      const line = { x1: middle[0] + 6, y1: y(row), x2: middle[1] - 6, y2: y(column), class: "link" };
      const share = isHere(row, column) ? 1 : 0.28;
      svg.append(
        shape("line", {
          ...line,
          "stroke-width": 0.5 + 5 * weight,
          "stroke-opacity": share * (0.2 + 0.8 * weight),
        }),
      );
    }
  }
  texts.forEach((words, side) => {
    words.forEach((text, place) => {
      const marked =
        axis === [rowAxis, columnAxis][side] && (side === 0 || rowAxis !== columnAxis) && place === at;
      const anchor = side ? "start" : "end";
      const attributes = {
        x: middle[side],
        y: y(place) + 4,
        "text-anchor": anchor,
        class: marked ? "here" : "",
      };
      svg.append(shape("text", attributes, text));
    });
  });
  svg.setAttribute("aria-label", `The same weights as lines: ${$("says").textContent}`);
}

function describeChosen() {
  const head = data.heads.find(
    (each) => each.kind === state.kind && each.layer === state.layer && each.head === state.head,
  );
  $("chosen-title").textContent =
    state.kind === "cross" ? `cross-attention, ${headName()}` : `self-attention, ${headName()}`;
  $("chosen-facts").textContent = head
    ? `${headFacts(head)} · without it ${data.costUnit} changes by ${change(head)}`
    : "choose a head, or press 1 to 9";
  const gold = state.kind === "cross" && data.gold ? " Dashed boxes: the correct alignment." : "";
  const unit =
    state.unit === "words"
      ? "Between words: the sum over the pieces of a word in a column, the mean over the pieces of a word in a row."
      : "";
  $("matrix-legend").textContent =
    `${data.rowNotes[state.kind]} Rows sum to 1; the stronger the colour, the larger the weight. ${unit}${gold}`;
}
