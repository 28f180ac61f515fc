// The page of a run: curves of the tag that is chosen in the table.

const tables = Object.fromEntries(Object.entries(page.tables).map(([name, columns]) =>
  [name, rowsOf(columns).map((row, place) => ({ ...row, place, series: "run" }))]));
let chosen = page.tag;

async function chooseTag(tag) {
  chosen = tag;
  showChosen();
  await set({ tag });
}

function showChosen() {
  document.querySelectorAll("tr[data-tag]").forEach((row) => {
    const is = Number(row.dataset.tag) === chosen;
    row.classList.toggle("is-selected", is);
    row.querySelector("button").setAttribute("aria-pressed", is);
  });
  const tag = tables.tags[chosen];
  const status = document.getElementById("chosen");
  if (status && tag) {
    status.textContent = `${tag.tag}: AUC ${tag.auc.toFixed(4)}, average precision `
      + `${tag.ap.toFixed(4)}, ${tag.positives} positive clips. Choose another tag in the table.`;
  }
}

document.querySelectorAll("tr[data-tag]").forEach((row) =>
  row.addEventListener("click", () => {
    // Not at the end of marking text.
    if (String(window.getSelection()) === "") chooseTag(Number(row.dataset.tag));
  }));

begin(async () => {
  const from = { "history-loss": "history", "history-auc": "history" };
  for (const element of document.querySelectorAll(".chart")) {
    const table = from[element.id] || element.id;
    await draw(element, element.id, () => ({ [table]: tables[table] }), () => ({ tag: chosen }));
  }
  showChosen();
});
