// The search

const PITCH = 42; // the distance between two lanes, in pixels
const TOP = 40; // the top of the first lane, in pixels
const laneY = (lane) => TOP + lane * PITCH;

/** Group the steps: steps in which every hypothesis just continues in its lane share a group. */
function grouped(steps) {
  const isQuiet = (place) => {
    const step = steps[place];
    const before = steps[place - 1];
    if (!before || step.endings.length || step.lost || before.nodes.length !== step.nodes.length)
      return false;
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
  for (const path of paths) if (path.lostAt !== null) steps[path.lostAt - 1].lost = true;
  const drawn = [...steps.flatMap((step) => [...step.nodes, ...step.endings])];
  const lanes = 1 + Math.max(0, ...drawn.map((each) => each.lane));
  // `edges` is drawn below all text; `ends` maps "step lane" to the right end of a node
  const tree = { svg: $("tree"), edges: shape("g"), ends: new Map([["-1 0", 58]]), lanes, x: 70 };
  const start = shape("text", { x: 8, y: laneY(0) + 4, class: "soft" }, "⟨start⟩");
  const margin = shape("text", { x: 8, y: laneY(lanes) + 28, class: "soft small" }, "margin");
  tree.svg.replaceChildren(tree.edges, start, margin);
  for (const group of grouped(steps)) drawGroup(tree, group);
  tree.svg.setAttribute("width", tree.x + 10);
  tree.svg.setAttribute("height", laneY(lanes) + 58);
  const says = `Beam search in ${steps.length} steps; the table below has the candidates of a step.`;
  tree.svg.setAttribute("aria-label", says);
  $("paths").replaceChildren(...paths.map((path) => pathItem(path)));
  $("search-legend").textContent =
    `Beam ${data.search.beamSize}, α ${data.search.alpha}; closed after ${steps.length} steps: ${data.search.closed}. ` +
    "Thick line, ★: the winner, in the top lane. Under the words: sums of log-probabilities. ■: a complete output and " +
    "its score. Margin: log p of the winner’s token minus log p of the best other token; for collapsed steps, the " +
    "smallest margin. Dashed: greedy search; dotted, ◆: the reference, where these differ from the winner.";
}

/** Draw one column of the tree: a step, or several collapsed steps. */
function drawGroup(tree, group) {
  const [first, last] = [group[0], group.at(-1)];
  const { nodes } = data.search.steps[last];
  const labels = new Map(nodes.map((node) => [node.lane, laneTexts(group, node)]));
  const widths = [...labels.values()].map((label) => widest([label], 40));
  const width = 26 + Math.max(30, ...widths, data.search.steps[first].endings.length ? 88 : 0);
  const box = shape("g", { class: "step", "data-first": first, "data-last": last });
  const height = laneY(tree.lanes) + 48;
  box.append(shape("rect", { x: tree.x - 4, y: 2, width: width - 6, height, rx: 6, class: "box" }));
  const name = group.length > 1 ? `${first + 1}–${last + 1}` : `${first + 1}`;
  box.append(shape("text", { x: tree.x, y: 13, class: "soft small" }, name));
  for (const node of nodes) {
    drawNode(tree, box, node, labels.get(node.lane));
    const right = tree.x + widest([labels.get(node.lane)], 40) + 2;
    for (const step of group) tree.ends.set(`${step} ${node.lane}`, right);
  }
  for (const ending of data.search.steps[first].endings) drawEnding(tree, box, first, ending);
  connect(tree, first);
  for (const path of data.search.paths) if (path.lostAt === first + 1) drawLoss(tree, box, first, path);
  drawMargin(tree, box, group, width);
  box.addEventListener("click", () => chooseStep(first));
  tree.svg.append(box);
  tree.x += width;
}

function drawNode(tree, box, node, label) {
  const y = laneY(node.lane);
  const text = shape("text", { x: tree.x, y: y + 4, class: node.lane ? "soft" : "" }, label);
  text.append(shape("title", {}, `${label}: sum ${number(node.total)}`));
  const mark = node.marks.includes("reference") ? " ◆" : "";
  box.append(text, shape("text", { x: tree.x, y: y + 16, class: "soft small" }, log(node.total) + mark));
}

/** Draw a complete output in its lane, or above the lane if a hypothesis continues there. */
function drawEnding(tree, box, step, ending) {
  const isWinner = ending.place === 0;
  const isShared = data.search.steps[step].nodes.some((node) => node.lane === ending.lane);
  const y = laneY(ending.lane) - (isShared ? 14 : 0);
  const name = `${isWinner ? "★ " : ""}${ending.what} ${log(ending.score)}`;
  box.append(shape("rect", { x: tree.x, y: y - 4, width: 8, height: 8, class: "end" }));
  box.append(shape("text", { x: tree.x + 11, y: y + 4, class: isWinner ? "" : "soft small" }, name));
  drawEdge(tree, step, ending.parentLane, y, isWinner ? "winner" : "");
}

/** Draw lines from the hypotheses of the previous step to their continuations. */
function connect(tree, step) {
  const before = data.search.steps[step - 1];
  for (const node of data.search.steps[step].nodes) {
    const parentLane = before ? before.nodes[node.parent].lane : 0;
    drawEdge(tree, step, parentLane, laneY(node.lane), node.lane ? "" : "winner");
    if (node.lane)
      for (const mark of node.marks) drawEdge(tree, step, parentLane, laneY(node.lane) + 2, mark);
  }
}

/** Mark the step in which the search dropped greedy search's output or the reference. */
function drawLoss(tree, box, step, path) {
  const before = data.search.steps[step - 1];
  const parent = before ? before.nodes.find((node) => node.marks.includes(path.name)) : { lane: 0 };
  const y = laneY(tree.lanes) - 4;
  if (parent) drawEdge(tree, step, parent.lane, y, path.name);
  const says = `✗ ${short(path.tokens[step], 18)} (${path.name})`;
  box.append(shape("text", { x: tree.x, y: y + 4, class: "small" }, says));
}

/** Draw the winner's lead over the best other token; a full bar is 12 nats. */
function drawMargin(tree, box, group, width) {
  const margins = group.map((step) => data.search.steps[step].margin).filter((margin) => margin !== null);
  if (!margins.length) return;
  const least = Math.min(...margins);
  const full = Math.max(1, (width - 18) * Math.min(1, least / 12));
  const y = laneY(tree.lanes) + 20;
  box.append(shape("rect", { x: tree.x, y, width: full, height: 8, class: "margin" }));
  box.append(shape("text", { x: tree.x, y: y + 20, class: "soft small" }, number(least, 1)));
}

function drawEdge(tree, step, lane, y, name) {
  const left = tree.ends.get(`${step - 1} ${lane}`);
  const right = tree.x - 2;
  const bend = Math.min(22, (right - left) / 2);
  const path = `M${left} ${laneY(lane)}C${left + bend} ${laneY(lane)} ${right - bend} ${y} ${right} ${y}`;
  tree.edges.append(shape("path", { d: path, class: `edge ${name}` }));
}

/** The text of one lane in a group of steps that ends with `node`. */
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

function pathItem(path) {
  const item = element(
    "li",
    {},
    `${path.name}: `,
    element("bdi", {}, path.text),
    ` (log p ${log(path.total)})`,
  );
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
  for (const [text, isNumber] of [
    ["#", true],
    ["continues", false],
    ["token", false],
    ["log p", true],
    ["sum", true],
    ["penalty", true],
    ["score", true],
    ["fate", false],
  ]) {
    head.append(element("th", { scope: "col", class: isNumber ? "number" : "" }, text));
  }
  const before = data.search.steps[state.step - 1];
  const rows = step.candidates.map((candidate, place) => {
    const parent = before ? before.nodes[candidate.parent].text : "⟨start⟩";
    const row = element("tr", { class: ["kept", "ended"].includes(candidate.fate) ? "kept" : "" });
    const cell = (text, isNumber) =>
      element("td", { class: isNumber ? "number" : "" }, element("bdi", {}, text));
    row.append(cell(`${place + 1}`, true), cell(`… ${short(parent)}`), cell(short(candidate.text, 24)));
    for (const value of [candidate.logProb, candidate.total, step.penalty, candidate.score])
      row.append(cell(number(value), true));
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
