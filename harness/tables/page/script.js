// Sorting of the tables, block by block, and the filters of the gallery. All else is plain HTML.
"use strict";
document.documentElement.classList.add("js");

function cellValue(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace("×", ""));
  return Number.isNaN(number) ? (/^–/.test(text) ? null : text.toLowerCase()) : number;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
  if (typeof a === typeof b) return sign * (a < b ? -1 : a > b ? 1 : 0);
  return typeof a === "number" ? -1 : 1;
}

function sortBlocks(table, header) {
  const column = header.cellIndex;
  const rising = header.getAttribute("aria-sort") === "descending";
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => row.cells.length > 1);
    rows.sort((a, b) => compare(cellValue(a, column), cellValue(b, column), rising ? 1 : -1));
    body.append(...rows);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[table.tHead.rows.length - 1].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBlocks(table, header));
  }
}

for (const form of document.querySelectorAll(".filters")) {
  const items = [...form.closest("section").querySelectorAll(".item")];
  const update = () => {
    const budget = form.elements.budget.value;
    const task = form.elements.task.value;
    const disagree = form.elements.disagree.checked;
    let shown = 0;
    for (const item of items) {
      const divided = item.dataset.disagree.split("|").includes(budget);
      item.hidden = (task && item.dataset.task !== task) || (disagree && !divided);
      shown += !item.hidden;
      for (const shot of item.querySelectorAll("[data-budget]")) {
        shot.hidden = shot.dataset.budget !== budget;
      }
    }
    form.querySelector("output").textContent = `${shown} of ${items.length} questions`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
