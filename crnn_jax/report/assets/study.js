// The page of a study: keeps its charts and its table in step.

function describeInterval(row) {
  return row.low === null ? "–" : `${row.low.toFixed(4)} to ${row.high.toFixed(4)}`;
}

const networks = rowsOf(page.tables.networks).map((row, network) => {
  const line = page.lines[row.line];
  return { network, target: row.target, seeds: row.seeds,
    line: line.name, architecture: line.architecture, rule: line.rule };
});
const withNetwork = (rows) => rows.map((row) => ({ ...networks[row.network], ...row }));
const points = withNetwork(rowsOf(page.tables.points))
  .map((row) => ({ ...row, interval: describeInterval(row) }));
const runs = withNetwork(rowsOf(page.tables.runs));
const tags = rowsOf(page.tables.tags);
const tagScores = withNetwork(rowsOf(page.tables.tagScores)).map((row) => {
  const tag = tags[row.tag];
  return { ...row, ...tag, label: `${tag.tag} (${tag.rank})`, interval: describeInterval(row) };
});
const data = {
  laws: rowsOf(page.tables.laws).map((row) => {
    const line = page.lines[row.line];
    return { ...row, line: line.name, architecture: line.architecture, rule: line.rule };
  }),
  fronts: withNetwork(rowsOf(page.tables.fronts)).map((row) => ({ ...points[row.network], ...row })),
  curves: rowsOf(page.tables.curves).map((row) => {
    const { name, network } = runs[row.run];
    return { ...networks[network], ...row, name };
  }),
};

// ---- What is shown ----

const state = {
  hidden: new Set(),
  selected: -1,
  axis: "params",
  target: page.target,
  curves: "auc",
  time: "epoch",
};

// The parameters of the charts, see `crnn_jax.report.charts`.
function parameters() {
  const selected = networks[state.selected];
  return {
    hidden: [...state.hidden],
    selected: state.selected,
    target: state.target,
    tagDomain: page.tagDomain,
    selectedTarget: selected ? selected.target : 0,
  };
}

function choose(datum) {
  if (Number.isInteger(datum.network)) select(datum.network);
}

const drawCosts = () => draw(document.getElementById("costs"), `auc-${state.axis}`,
  () => ({ points, runs, laws: data.laws, fronts: data.fronts }), parameters, choose);

const drawCurves = () => data.curves.length && draw(document.getElementById("curves"),
  `curves-${state.curves}-${state.time}`, () => ({ curves: data.curves }), parameters, choose);

function drawTags() {
  const blocks = [...document.querySelectorAll("#tags [data-category]")];
  return Promise.all(blocks.map((block) => {
    const rows = tagScores.filter((row) => row.category === block.dataset.category);
    const fill = () => ({ tagScores: rows });
    return draw(block.querySelector(".chart"), "tags", fill, parameters, choose);
  }));
}

// ---- Selection, kept in step with the tables ----

async function select(network) {
  state.selected = state.selected === network ? -1 : network;
  const chosen = networks[state.selected];
  if (chosen) {
    state.target = chosen.target;
    document.getElementById("target").value = String(chosen.target);
  }
  document.querySelectorAll("tr[data-network]").forEach((row) => {
    const is = Number(row.dataset.network) === state.selected;
    row.classList.toggle("is-selected", is);
    row.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", is));
  });
  const said = chosen
    ? `Selected: ${chosen.line}, ${chosen.target.toLocaleString("en")} parameters`
    : "No network is selected";
  document.getElementById("selected").textContent = said;
  await set(parameters());
}

// ---- Tables ----

function filterRows() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  document.querySelectorAll("#runs tbody tr").forEach((row) => {
    const text = row.textContent.toLowerCase();
    const line = row.dataset.line;
    row.hidden = state.hidden.has(line) || !words.every((word) => text.includes(word));
    shown += !row.hidden;
  });
  document.getElementById("shown").textContent = `${shown} runs`;
}

// ---- Start ----

followLegend((names) => {
  state.hidden = new Set(names);
  filterRows();
  return set(parameters());
});
document.querySelectorAll("tr[data-network]").forEach((row) =>
  row.addEventListener("click", () => {
    // Not at the end of marking text.
    if (String(window.getSelection()) === "") select(Number(row.dataset.network));
  }));
onChange("filter", filterRows, "input");
onChange("axis", (axis) => { state.axis = axis; drawCosts(); });
onChange("curve-score", (score) => { state.curves = score; drawCurves(); });
onChange("curve-time", (time) => { state.time = time; drawCurves(); });
onChange("target", (target) => { state.target = Number(target); set(parameters()); });
begin(async () => {
  await drawCosts();
  await drawTags();
  await drawCurves();
});
