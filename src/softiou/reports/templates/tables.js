// Sort a table by a column; without script it stays in the order of the classes.
for (const table of document.querySelectorAll(".sortable table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = column === 0 ? "ascending" : "descending";
      const other = column === 0 ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = row => row.cells[column].dataset.sort;
      const absentLast = (a, b) => (key(a) === "") - (key(b) === "");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => absentLast(a, b) || sign * (key(a) - key(b))));
    });
  });
}
