// The page of several studies side by side.

const describeInterval = (row) =>
  row.low === null ? "–" : `${row.low.toFixed(4)} to ${row.high.toFixed(4)}`;
const named = (rows) => rows.map((row) => ({
  ...row, ...page.lines[row.line], study: page.studies[row.study], interval: describeInterval(row),
  network: `${page.lines[row.line].line}, ${row.target.toLocaleString("en")}`,
}));
const tables = {
  points: named(rowsOf(page.tables.points)),
  differences: named(rowsOf(page.tables.differences)),
  zero: [{ x: 0 }],
};
let axis = "params";
let hidden = [];

const parameters = () => ({ hidden });
const drawCosts = () => draw(document.getElementById("costs"), `auc-${axis}`,
  () => ({ points: tables.points }), parameters);
const drawDifferences = () => tables.differences.length && draw(
  document.getElementById("differences"), "differences",
  () => ({ differences: tables.differences, zero: tables.zero }), parameters);

onChange("axis", (chosen) => { axis = chosen; drawCosts(); });
followLegend((names) => {
  hidden = names;
  document.querySelectorAll("#matches tbody tr").forEach((row) => {
    row.hidden = hidden.includes(row.dataset.line);
  });
  return set(parameters());
});
begin(async () => {
  await drawDifferences();
  await drawCosts();
});
