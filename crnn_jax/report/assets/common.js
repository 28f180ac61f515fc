// What all pages share: tables as rows, charts, and headers that sort.
"use strict";

const page = JSON.parse(document.getElementById("contents").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
// Charts with a row for each value of a field of a table.
const ROWS = { tags: ["tagScores", "label"], differences: ["differences", "network"] };
// Views by the element that they are in, with what draws them again.
const views = new Map();

// ---- Tables of the page's contents, from columns to rows ----

function rowsOf(columns) {
  const names = Object.keys(columns);
  const length = names.length ? columns[names[0]].length : 0;
  return Array.from({ length }, (_, row) =>
    Object.fromEntries(names.map((name) => [name, columns[name][row]])));
}

// ---- Charts ----

function themeOf() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    range: { category: page.looks.map((look) => (dark.matches ? look.dark : look.light)) },
    legend: {
      labelColor: colour("--text"), labelFontSize: 12,
      symbolFillColor: colour("--text"), symbolStrokeColor: colour("--text"),
    },
    axis: {
      labelColor: colour("--text"), titleColor: colour("--text"), gridColor: colour("--line"),
      domainColor: colour("--muted"), tickColor: colour("--muted"),
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, gridOpacity: 0.8,
    },
  };
}

// What is being drawn in each element: one after the other, so that the last one stays.
const queues = new Map();

function draw(element, ...chart) {
  const after = (queues.get(element) || Promise.resolve()).then(() => drawNow(element, ...chart));
  queues.set(element, after);
  return after;
}

// Draw a chart of the page into an element. `fill` returns the rows of its tables by name, and
// `values` the values of its parameters; both are asked again when it is drawn again.
async function drawNow(element, name, fill, values, onClick = () => {}) {
  const spec = structuredClone(page.charts[name]);
  spec.datasets = fill();
  // The height of a chart of many rows is that of one of them.
  if (ROWS[name]) {
    const [table, field] = ROWS[name];
    spec.height *= new Set(spec.datasets[table].map((row) => row[field])).size;
  }
  const now = values();
  for (const parameter of spec.params || []) {
    if (now[parameter.name] !== undefined) parameter.value = now[parameter.name];
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
    if (item && item.datum) onClick(item.datum);
  });
  views.set(element, { view, again: () => draw(element, name, fill, values, onClick) });
  // What was chosen while it was drawn.
  const changed = values();
  (spec.params || []).forEach(({ name: parameter }) => {
    if (changed[parameter] !== undefined) view.signal(parameter, changed[parameter]);
  });
  await view.runAsync();
}

const drawAgain = () => Promise.all([...views.values()].map(({ again }) => again()));

// Set parameters in all charts that have them.
async function set(values) {
  await Promise.all([...views.values()].map(({ view }) => {
    const known = view.getState({ signals: (name) => name in values, data: () => false }).signals;
    Object.keys(known).forEach((name) => view.signal(name, values[name]));
    return view.runAsync();
  }));
}

// ---- Controls ----

function onChange(id, change, event = "change") {
  const element = document.getElementById(id);
  if (element) element.addEventListener(event, () => change(element.value));
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

// A line that is pressed is shown alone, or with the others that are pressed; if none is, all are.
function followLegend(hide) {
  const buttons = [...document.querySelectorAll("button[data-line]")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    const chosen = buttons.filter((each) => each.getAttribute("aria-pressed") === "true");
    const left = chosen.length ? buttons.filter((each) => !chosen.includes(each)) : [];
    buttons.forEach((each) => each.classList.toggle("is-hidden", left.includes(each)));
    hide(left.map((each) => each.dataset.line));
  }));
}

function colourLegend() {
  document.querySelectorAll("[data-look]").forEach((mark) => {
    const look = page.looks[Number(mark.dataset.look)];
    mark.style.color = dark.matches ? look.dark : look.light;
  });
}

// Draw everything, and say that it is drawn.
async function begin(drawAll) {
  document.querySelectorAll("th[aria-sort] button").forEach((button) =>
    button.addEventListener("click", () => sortBy(button.closest("th"))));
  colourLegend();
  dark.addEventListener("change", () => { colourLegend(); drawAgain(); });
  await drawAll();
  document.documentElement.dataset.ready = "true";
}
