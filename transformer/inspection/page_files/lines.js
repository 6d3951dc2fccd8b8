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
  return state.head
    ? `head ${state.layer}.${state.head}${module}`
    : `the mean of layer ${state.layer}${module}`;
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
    says.append(name(axis, at), ` is not part of this attention (${state.kind})`);
  }
}

function largest(count, value) {
  let best = 0;
  for (let place = 1; place < count; place++) if (value(place) > value(best)) best = place;
  return best;
}
