// Sorting and filtering of tables that are marked as sortable. They are complete, and in order, without it.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows].filter((row) => !row.matches(".group")));
  const listed = new Map(rows.map((row, place) => [row, place]));
  const words = new Map(rows.map((row) => [row, `${row.cells[0].textContent} ${row.cells[row.cells.length - 1].textContent}`.toLowerCase()]));

  const make = (name, properties = {}, ...inside) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...inside);
    return element;
  };

  const wanted = make("input", { type: "search", autocomplete: "off", placeholder: "name, path, method or note" });
  const measured = make("input", { type: "checkbox", autocomplete: "off" });
  const told = make("output");
  const tools = make("form", { className: "tools", onsubmit: () => false },
    make("label", {}, "Filter ", wanted), make("label", {}, measured, " measured only"), told);
  tools.setAttribute("role", "search");
  table.before(tools);

  const filter = () => {
    const parts = wanted.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      row.hidden = !parts.every((part) => words.get(row).includes(part)) || (measured.checked && "missing" in row.dataset);
    }
    for (const body of table.tBodies) body.hidden = [...body.rows].every((row) => row.hidden || row.matches(".group"));
    told.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} figures`;
  };
  tools.addEventListener("input", filter);
  filter();

  // A cell without a number comes last, whichever way the others go.
  const compare = (column, sign) => (row, other) => {
    const [a, b] = [row, other].map((one) => (one.cells[column] || one.cells[0]).dataset.order);
    if (!column) return sign * row.cells[0].textContent.trim().localeCompare(other.cells[0].textContent.trim());
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (a - b);
  };
  const heads = [...table.tHead.rows[0].cells].filter((head) => "sortable" in head.dataset);
  for (const head of heads) {
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.ariaSort];
      const order = next === undefined ? "ascending" : next;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order) head.ariaSort = order;
      const by = order ? compare(head.cellIndex, order === "ascending" ? 1 : -1) : () => 0;
      const sorted = [...rows].sort((row, other) => by(row, other) || listed.get(row) - listed.get(other));
      for (const row of sorted) row.parentElement.append(row);
    });
  }
  table.classList.add("live");
}
