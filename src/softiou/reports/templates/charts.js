// Values of a chart on hover, focus and arrow keys. Each SVG says where its axes lie: left, top, width and
// height in parts of the drawing, then the limits of x.
for (const plot of document.querySelectorAll(".plot")) {
  const [left, top, width, height, low, high] = plot.querySelector("svg").dataset.plot.split(" ").map(Number);
  const readout = plot.parentElement.querySelector("[data-chart=readout]");
  const hint = readout.textContent;
  const at = value => left + width * (value - low) / (high - low);  // of the drawing's width
  const write = value => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  const nearest = (all, value) => all.reduce((best, one, index) =>
    Math.abs(one - value) < Math.abs(all[best] - value) ? index : best, 0);

  // What can be told: a place from and to, a text, and perhaps a link to the images behind it.
  const lines = JSON.parse(plot.dataset.lines ?? "[]");
  const steps = [...new Set(lines.flatMap(line => line[1]))].sort((a, b) => a - b);
  const valuesAt = step => lines.map(([name, its, all]) => `${name} ${write(all[nearest(its, step)])}`).join(" · ");
  const entries = lines.length
    ? steps.map(step => [step, step, `Step ${Math.round(step).toLocaleString("en")}: ${valuesAt(step)}`])
    : JSON.parse(plot.dataset.bins).map(([bin, from, to, text]) =>
      [from, to, text, "linked" in plot.dataset ? `bin=${bin}` : ""]);
  if (!entries.length) continue;
  const centres = entries.map(([from, to]) => (from + to) / 2);
  let current = entries.length - 1;
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  cursor.hidden = true;
  plot.append(cursor);

  function tell(index) {
    current = Math.max(0, Math.min(entries.length - 1, index));
    const [from, to, text] = entries[current];
    readout.textContent = text;
    Object.assign(cursor.style, {
      left: `${100 * at(from)}%`, width: `${100 * (at(to) - at(from))}%`, top: `${100 * top}%`, height: `${100 * height}%`,
    });
    cursor.hidden = false;
  }

  function leave() {
    cursor.hidden = true;
    readout.textContent = hint;
  }

  function open() {
    if (entries[current][3]) location.hash = entries[current][3];
  }

  function point(event) {
    const box = plot.getBoundingClientRect();
    tell(nearest(centres, low + ((event.clientX - box.left) / box.width - left) / width * (high - low)));
  }
  plot.addEventListener("pointermove", point);
  plot.addEventListener("click", event => { point(event); open(); });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) tell(current); });
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", event => {
    if (event.key === "Enter") open();
    const moves = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: entries.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    tell(moves[event.key]);
  });
}
