// The study's page: fills the charts with the page's tables, and keeps charts and tables in step.
"use strict";

const page = JSON.parse(document.getElementById("contents").textContent);

// ---- Tables, from columns to rows ----

function rowsOf(columns) {
  const names = Object.keys(columns);
  const length = names.length ? columns[names[0]].length : 0;
  return Array.from({ length }, (_, row) =>
    Object.fromEntries(names.map((name) => [name, columns[name][row]])));
}

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
  points, runs, tagScores,
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
// Views by the element that they are in, with what draws them again.
const views = new Map();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function themeOf() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    range: { category: page.looks.map((look) => (dark.matches ? look.dark : look.light)) },
    axis: {
      labelColor: colour("--text"), titleColor: colour("--text"), gridColor: colour("--line"),
      domainColor: colour("--muted"), tickColor: colour("--muted"),
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, gridOpacity: 0.8,
    },
  };
}

async function draw(element, name, names, signals = {}, filter = () => true) {
  const spec = structuredClone(page.charts[name]);
  spec.datasets = Object.fromEntries(names.map((each) => [each, data[each].filter(filter)]));
  if (name === "tags") {
    spec.height *= new Set(spec.datasets.tagScores.map((row) => row.label)).size;
  }
  for (const parameter of spec.params) {
    const value = { hidden: [...state.hidden], selected: state.selected, ...signals }[parameter.name];
    if (value !== undefined) parameter.value = value;
  }
  const before = views.get(element);
  const { view } = await vegaEmbed(element, spec, {
    // Expressions are walked through instead of compiled: the page allows no compilation of text.
    ast: true, renderer: "svg", actions: false, config: themeOf(), tooltip: { theme: "custom" },
    // Errors, not warnings: a chart may well show nothing, such as the ring around no network.
    logLevel: 1,
  });
  if (before) before.view.finalize();
  view.addEventListener("click", (event, item) => {
    if (item && item.datum && Number.isInteger(item.datum.network)) select(item.datum.network);
  });
  views.set(element, { view, again: () => draw(element, name, names, signalsNow(name), filter) });
  return view;
}

function signalsNow(name) {
  if (name !== "tags") return {};
  const selected = networks[state.selected];
  return { target: state.target, tagDomain: page.tagDomain, selectedTarget: selected ? selected.target : 0 };
}

async function set(values) {
  await Promise.all([...views.values()].map(({ view }) => {
    const known = view.getState({ signals: (name) => name in values, data: () => false }).signals;
    Object.keys(known).forEach((name) => view.signal(name, values[name]));
    return view.runAsync();
  }));
}

// ---- Charts ----

const drawCosts = () => draw(document.getElementById("costs"), `auc-${state.axis}`,
  ["points", "runs", "laws", "fronts"]);

const drawCurves = () => data.curves.length && draw(document.getElementById("curves"),
  `curves-${state.curves}-${state.time}`, ["curves"]);

function drawTags() {
  const blocks = [...document.querySelectorAll("#tags [data-category]")];
  return Promise.all(blocks.map((block) => draw(block.querySelector(".chart"), "tags",
    ["tagScores"], signalsNow("tags"), (row) => row.category === block.dataset.category)));
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
  await set({ selected: state.selected, ...signalsNow("tags") });
}

// A line that is pressed is shown alone, or with the others that are pressed; if none is, all are.
async function toggle(pressed) {
  pressed.setAttribute("aria-pressed", String(pressed.getAttribute("aria-pressed") !== "true"));
  const buttons = [...document.querySelectorAll("button[data-line]")];
  const chosen = buttons.filter((each) => each.getAttribute("aria-pressed") === "true");
  state.hidden = new Set(chosen.length ? buttons.filter((each) => !chosen.includes(each))
    .map((each) => each.dataset.line) : []);
  buttons.forEach((each) => each.classList.toggle("is-hidden", state.hidden.has(each.dataset.line)));
  filterRows();
  await set({ hidden: [...state.hidden] });
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

function sortBy(header) {
  const table = header.closest("table");
  const place = [...header.parentNode.children].indexOf(header);
  const descending = header.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("th[aria-sort]").forEach((each) => each.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const keyed = [...table.tBodies[0].rows].map((row) => {
    const cell = row.cells[place];
    const number = cell.dataset.value;
    return { row, key: number === undefined ? cell.textContent : Number(number) };
  });
  const missing = ({ key }) => typeof key === "number" && Number.isNaN(key);
  keyed.sort((a, b) => {
    // Rows without a number stay at the end.
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const order = typeof a.key === "number" ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
    return descending ? -order : order;
  });
  table.tBodies[0].append(...keyed.map(({ row }) => row));
}

// ---- Start ----

function onChange(id, change, event = "change") {
  const element = document.getElementById(id);
  if (element) element.addEventListener(event, () => change(element.value));
}

async function start() {
  document.querySelectorAll("button[data-line]").forEach((button) =>
    button.addEventListener("click", () => toggle(button)));
  document.querySelectorAll("th[aria-sort] button").forEach((button) =>
    button.addEventListener("click", () => sortBy(button.closest("th"))));
  document.querySelectorAll("tr[data-network]").forEach((row) =>
    row.addEventListener("click", () => {
      if (String(window.getSelection()) === "") select(Number(row.dataset.network));
    }));
  onChange("filter", filterRows, "input");
  onChange("axis", (axis) => { state.axis = axis; drawCosts(); });
  onChange("curve-score", (score) => { state.curves = score; drawCurves(); });
  onChange("curve-time", (time) => { state.time = time; drawCurves(); });
  onChange("target", (target) => { state.target = Number(target); set(signalsNow("tags")); });
  dark.addEventListener("change", () => Promise.all([...views.values()].map(({ again }) => again())));
  colourLegend();
  dark.addEventListener("change", colourLegend);
  await drawCosts();
  await drawTags();
  await drawCurves();
  document.documentElement.dataset.ready = "true";
}

function colourLegend() {
  document.querySelectorAll("[data-look]").forEach((mark) => {
    const look = page.looks[Number(mark.dataset.look)];
    mark.style.color = dark.matches ? look.dark : look.light;
  });
}

start();
