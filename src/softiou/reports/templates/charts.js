// Values of a chart on hover, focus and arrow keys. Each SVG says where its axes lie: left, top, width and
// height in parts of the drawing, then the limits of x.
for (const plot of document.querySelectorAll(".plot")) {
  const [left, top, width, height, low, high] = plot.querySelector("svg").dataset.plot.split(" ").map(Number);
  const readout = plot.parentElement.querySelector("[data-chart=readout]");
  const hint = readout.textContent;
  const at = value => left + width * (value - low) / (high - low);  // of the drawing's width
  const put = (element, from, to) => Object.assign(element.style, {
    left: `${100 * from}%`, width: `${100 * (to - from)}%`, top: `${100 * top}%`, height: `${100 * height}%`,
  });

  // Bars: a link for each, to the images behind it.
  for (const [index, from, to, text] of JSON.parse(plot.dataset.bins ?? "[]")) {
    const bin = document.createElement("a");
    bin.className = "bin";
    if ("linked" in plot.dataset) bin.href = `#bin=${index}`;
    else bin.tabIndex = 0;
    bin.textContent = text;
    put(bin, at(from), at(to));
    for (const kind of ["pointerenter", "focus"]) bin.addEventListener(kind, () => { readout.textContent = text; });
    for (const kind of ["pointerleave", "blur"]) bin.addEventListener(kind, () => { readout.textContent = hint; });
    plot.append(bin);
  }

  // Lines: the values nearest to a step.
  const lines = JSON.parse(plot.dataset.lines ?? "[]");
  if (!lines.length) continue;
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  cursor.hidden = true;
  plot.append(cursor);
  const steps = [...new Set(lines.flatMap(line => line[1]))].sort((a, b) => a - b);
  const nearest = (all, step) => all.reduce((best, one, index) =>
    Math.abs(one - step) < Math.abs(all[best] - step) ? index : best, 0);
  const write = value => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  let current = steps.length - 1;

  function tell(index) {
    current = Math.max(0, Math.min(steps.length - 1, index));
    const step = steps[current];
    const values = lines.map(([name, its, all]) => `${name} ${write(all[nearest(its, step)])}`);
    readout.textContent = `Step ${Math.round(step).toLocaleString("en")}: ${values.join(" · ")}`;
    put(cursor, at(step), at(step));
    cursor.hidden = false;
  }

  function leave() {
    cursor.hidden = true;
    readout.textContent = hint;
  }

  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width - left) / width;
    tell(nearest(steps, low + across * (high - low)));
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) tell(current); });
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", event => {
    const moves = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: steps.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    tell(moves[event.key]);
  });
}
