// The confusion matrix: what a cell says, on hover, focus and arrow keys; above 30 classes a canvas.
(() => {
  const source = document.getElementById("confusion-data");
  if (!source) return;
  const { names, totals, cells } = JSON.parse(source.textContent);
  const size = names.length;
  const counts = new Map(cells.map(([target, preds, count]) => [target * size + preds, count]));
  const readout = document.querySelector("[data-confusion=readout]");
  const clamp = value => Math.max(0, Math.min(size - 1, value));
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  function tell(target, preds) {
    const count = counts.get(target * size + preds) ?? 0;
    const share = totals[target] ? `${(100 * count / totals[target]).toFixed(2)} %` : "–";
    readout.textContent = `${names[target]} → ${names[preds]}: `
      + `${count.toLocaleString("en")} pixels, ${share} of ${names[target]}`;
  }

  // The gallery shows the images behind a cell.
  const open = (target, preds) => { location.hash = `confusion=${target},${preds}`; };

  const table = document.querySelector("[data-confusion=table]");
  if (table) {
    const place = cell => [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];
    const at = (row, column) => table.tBodies[0].rows[row].cells[column + 1];
    const cellOf = event => event.target.closest("tbody td");
    let stop = at(0, 0);
    stop.tabIndex = 0;
    table.addEventListener("pointerover", event => {
      if (cellOf(event)) tell(...place(cellOf(event)));
    });
    table.addEventListener("focusin", event => {
      const cell = cellOf(event);
      if (!cell) return;
      stop.tabIndex = -1;
      stop = cell;
      stop.tabIndex = 0;
      tell(...place(cell));
    });
    table.addEventListener("click", event => { if (cellOf(event)) open(...place(cellOf(event))); });
    table.addEventListener("keydown", event => {
      if (event.key === "Enter" && cellOf(event)) open(...place(cellOf(event)));
      const step = steps[event.key];
      if (!step || !cellOf(event)) return;
      event.preventDefault();
      const [row, column] = place(cellOf(event));
      at(clamp(row + step[0]), clamp(column + step[1])).focus();
    });
    return;
  }

  const canvas = document.querySelector("[data-confusion=canvas]");
  const pixels = Math.max(5, Math.round(560 / size));
  const pen = canvas.getContext("2d");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const marked = { target: -1, preds: -1 };
  canvas.width = canvas.height = size * pixels;
  canvas.style.width = `${size * pixels}px`;

  function draw() {
    pen.fillStyle = dark.matches ? "#181e26" : "#ffffff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = dark.matches ? "#232b36" : "#eef1f5";
    for (let index = 0; index < size; index += 1) {
      pen.fillRect(index * pixels, index * pixels, pixels, pixels);
    }
    for (const [target, preds, count] of cells) {
      pen.globalAlpha = Math.sqrt(count / totals[target]);
      pen.fillStyle = target === preds ? "#3f83f0" : "#e0782a";
      pen.fillRect(preds * pixels, target * pixels, pixels, pixels);
    }
    pen.globalAlpha = 1;
    if (marked.target >= 0) {
      pen.strokeStyle = dark.matches ? "#ffffff" : "#000000";
      pen.strokeRect(marked.preds * pixels - .5, marked.target * pixels - .5, pixels + 1, pixels + 1);
    }
  }

  function mark(target, preds) {
    Object.assign(marked, { target: clamp(target), preds: clamp(preds) });
    tell(marked.target, marked.preds);
    draw();
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const index = (offset, length) => Math.floor(size * offset / length);
    mark(index(event.clientY - box.top, box.height), index(event.clientX - box.left, box.width));
  }
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("click", () => open(marked.target, marked.preds));
  canvas.addEventListener("keydown", event => {
    if (event.key === "Enter") open(Math.max(0, marked.target), Math.max(0, marked.preds));
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    mark(Math.max(0, marked.target) + step[0], Math.max(0, marked.preds) + step[1]);
  });
  dark.addEventListener("change", draw);
  draw();
})();
