// Numbers

function drawNumbers() {
  const { axis, at } = focus();
  const body = $("numbers-body");
  const pieces = piecesOf(axis, at);
  const parts = [];
  if (data.predictions.length > 1) parts.push(decided(axis, pieces));
  const own = data.predictions.filter(
    (each) => each.axis === null || (each.axis === axis && pieces.includes(each.place)),
  );
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
  const cells = heads.map((text) =>
    text ? element("th", { scope: "col" }, element("bdi", {}, text)) : element("td"),
  );
  const head = element("tr", {}, ...cells);
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
}

function decided(axis, pieces) {
  const shown = data.predictions;
  const layers = shown[0].layers.length;
  const rows = Array.from({ length: layers }, (_, layer) => {
    const row = element(
      "tr",
      {},
      element("th", { scope: "row" }, layer + 1 < layers ? `after layer ${layer + 1}` : "the model"),
    );
    for (const each of shown) {
      const best = each.layers[layer][0][0];
      const isFinal = best === each.text;
      const cell = element(
        "td",
        { class: `own${isFinal ? " final" : ""}` },
        isFinal ? "✓ " : "",
        element("bdi", {}, short(best, 14)),
      );
      cell.style.setProperty("--weight", each.own[layer]);
      if (each.axis === axis && pieces.includes(each.place)) cell.classList.add("here");
      row.append(cell);
    }
    return row;
  });
  const box = element("div", {
    class: "scroll",
    tabindex: 0,
    role: "region",
    "aria-label": "Predictions after each layer",
  });
  box.append(
    table(
      "What each layer would predict (✓: the model’s final prediction)",
      ["", ...shown.map((each) => short(each.text, 14))],
      rows,
    ),
  );
  const outer = element("div", {}, box, place("output"));
  return outer;
}

function guesses(own) {
  const outer = element("div");
  for (const each of own.slice(0, 8)) {
    const layers = each.layers.length;
    const rows = each.layers.map((found, layer) => {
      const row = element(
        "tr",
        {},
        element("th", { scope: "row" }, layer + 1 < layers ? `layer ${layer + 1}` : "the model"),
      );
      for (const [text, probability] of found) {
        const cell = element(
          "td",
          { class: text === each.text ? "final" : "" },
          element("bdi", {}, short(text, 14)),
          ` ${number(100 * probability, 1)} %`,
        );
        row.append(cell);
      }
      return row;
    });
    outer.append(
      table(
        `${short(each.text, 24)}: log p ${number(each.logProb, 4)}`,
        ["", "1", "2", "3", "4", "5"].slice(0, 1 + each.layers[0].length),
        rows,
      ),
    );
  }
  return outer;
}

function normTable(norms, axis, pieces) {
  const outer = element("div");
  const piece = pieces[0];
  const rows = norms.map((each) => {
    const row = element("tr", {}, element("th", { scope: "row" }, each.name));
    const values = [each.before[piece], each.update[piece], each.after[piece]];
    for (const value of [...values, values[1] / values[0]])
      row.append(element("td", { class: "number" }, number(value, 2)));
    return row;
  });
  const what = axis === "target" ? "where it is predicted" : "where it is read";
  const caption = `Lengths of the vectors around each sub-layer, ${short(data.axes[axis].pieces[piece], 24)}, ${what}`;
  outer.append(
    table(caption, ["sub-layer", "|x|", "|Sublayer(x)|", "|output|", "ratio"], rows),
    place("residual"),
  );
  return outer;
}

/** Equation 1 for the chosen cell, or null if the module uses another formula. */
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
  const row =
    rows[largest(rows.length, (each) => Math.max(...columns.map((one) => fine.at(rows[each], one))))];
  const chosen = columns[largest(columns.length, (each) => fine.at(row, columns[each]))];
  return equationTable(index, row, chosen, rowAxis, columnAxis, {
    rows,
    columns,
    fine,
    weight: cells.at(at, best),
  });
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
    outer.append(
      element(
        "p",
        { class: "sum" },
        `Equation 1 for ${pair}: not among the ${kept} largest terms of its row.`,
      ),
      place("equation"),
    );
    return outer;
  }
  const most = Math.max(...found.map((each) => each.score));
  const total = Math.exp(totals[line] - most);
  const shown = found.slice(0, 6);
  const rows = shown.map((each) => {
    const term = Math.exp(each.score - most);
    const cells = [number(each.score), number(term, 4), number(term / total)];
    const name = element("th", { scope: "row" }, element("bdi", {}, short(texts[each.at], 20)));
    return element(
      "tr",
      { class: each.at === chosen ? "kept" : "" },
      name,
      ...cells.map((text) => element("td", { class: "number" }, text)),
    );
  });
  const rest = total - shown.reduce((sum, each) => sum + Math.exp(each.score - most), 0);
  if (Math.abs(rest) > 0.00005) {
    rows.push(
      element(
        "tr",
        {},
        element("th", { scope: "row" }, "all others"),
        element("td"),
        element("td", { class: "number" }, number(rest, 4)),
        element("td", { class: "number" }, number(rest / total)),
      ),
    );
  }
  rows.push(
    element(
      "tr",
      {},
      element("th", { scope: "row" }, "sum"),
      element("td"),
      element("td", { class: "number" }, number(total, 4)),
      element("td", { class: "number" }, number(1)),
    ),
  );
  const width = module.keyWidth;
  outer.append(
    table(
      `Equation 1 for ${pair}`,
      ["key", `s = q·k / √${width}`, `exp(s − ${number(most)})`, "weight"],
      rows,
    ),
  );
  outer.append(
    element(
      "p",
      { class: "sum" },
      `q · k = ${number(own.score * Math.sqrt(width))}; divided by √${width} = ${number(own.score)}; exp(…) / sum = ${number(Math.exp(own.score - most) / total)}`,
    ),
  );
  if (cell.rows.length * cell.columns.length > 1) {
    const sums = cell.rows.map((one) =>
      cell.columns.map((two) => number(cell.fine.at(one, two))).join(" + "),
    );
    const text = cell.rows.length > 1 ? `mean of (${sums.join("), (")})` : sums[0];
    outer.append(
      element("p", { class: "sum" }, `between words: ${short(text, 160)} = ${number(cell.weight)}`),
    );
  }
  outer.append(place("equation"));
  return outer;
}

const fineRows = (module) => length(axisOf(module.kind, 0), "pieces");
