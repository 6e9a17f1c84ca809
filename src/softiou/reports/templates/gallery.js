// The gallery: one large view with layers, thumbnails, sorting and keys. Names go in as text only.
(() => {
  const root = document.getElementById("gallery");
  if (!root) return;
  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const part = name => root.querySelector(`[data-part=${name}]`);
  const panes = [...root.querySelectorAll(".stages figure")];  // one for each side, then the truth
  const stages = panes.map(pane => pane.querySelector(".stage"));
  const buttons = [...root.querySelectorAll("button[data-layer]")];
  const compared = data.sides.length > 1;
  const last = data.classes.length;
  const HINT = "Point at the image to read a pixel.";

  let order = [];  // indices of the images shown, sorted
  let position = 0;
  let rising = true;
  let layers = new Set(["image", compared ? "error" : "preds"]);
  let mode = "overlay";  // or truth and prediction "beside" each other, or a "swipe" between them
  let focus = null;  // a class, a cell of the confusion matrix or a bin of confidence: what to look at
  let single = null;  // the class that is singled out
  let shown = null;  // pictures of the image on the stage
  let ticket = 0;  // a later wish makes earlier ones void

  function element(tag, text = "", name = "") {
    const made = document.createElement(tag);
    if (text !== "") made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function swatch(colour) {
    const made = element("span", "", "swatch");
    made.style.background = `rgb(${colour.join(" ")})`;
    return made;
  }

  const zoom = zoomable(root, () => divide());

  const number = value => value === null ? "–" : value.toFixed(1);
  const signed = value => value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;

  // Thumbnails

  const strip = part("strip");
  const thumbs = data.images.map((image, index) => {
    const button = element("button", "", "thumb");
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.index = index;
    button.title = image.stem;
    button.append(element("span", "", "picture"), element("span", "", "score"));
    button.addEventListener("click", () => step(order.indexOf(index)));
    return button;
  });
  const watcher = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      const { photo, stem } = data.images[target.dataset.index];
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      if (!photo) continue;
      const picture = new Image(photo.width, photo.height);
      picture.alt = stem;
      picture.decoding = "async";
      picture.src = pictures.source(photo);
      target.firstChild.append(picture);
    }
  }, { root: strip, rootMargin: "160px" });
  thumbs.forEach(thumb => watcher.observe(thumb));

  // Order

  function sortedBy() {
    const key = Number(part("sort").value);
    return key < 0 ? null : key;
  }

  function arrange(keep) {
    const current = order[position];
    const key = sortedBy();
    const wanted = part("filter").value;
    const has = image => wanted === "" || image.classes.some(([index]) => index === Number(wanted));
    const value = index => focus ? focus.values[index] : key === null ? index : data.images[index].sorts[key];
    const there = index => has(data.images[index]) && (!focus || value(index) !== undefined);
    order = data.images.map((_, index) => index).filter(there);
    order.sort((a, b) => {
      const absent = (value(a) === null) - (value(b) === null);
      return absent || (rising ? 1 : -1) * (value(a) - value(b)) || a - b;
    });
    part("focus").hidden = !focus;
    part("focus").textContent = focus ? `${focus.name} ✕` : "";
    part("direction").textContent = key === null
      ? (rising ? "↑ in order" : "↓ backwards") : (rising ? "↑ lowest first" : "↓ highest first");
    for (const index of order) {
      const { sorts, stem } = data.images[index];
      const written = focus ? focus.text(focus.values[index]) : key !== null && (data.sorts[key].gain ? signed : number)(sorts[key]);
      thumbs[index].lastChild.textContent = key === null && !focus ? stem : written;
    }
    strip.replaceChildren(...order.map(index => thumbs[index]));
    show(Math.max(0, keep ? order.indexOf(current) : 0));
  }

  // The large view

  function step(wanted) {
    const done = show(wanted);
    remember();
    return done;
  }

  function show(wanted) {
    position = Math.max(0, Math.min(order.length - 1, wanted));
    const image = data.images[order[position]];
    const mine = ++ticket;
    part("position").textContent = image ? `${position + 1} of ${order.length}` : "none";
    part("previous").disabled = position === 0;
    part("next").disabled = position >= order.length - 1;
    if (!image) return Promise.resolve();
    return pictures.get(image, last).then(found => {
      if (mine !== ticket) return;
      shown = found;
      single = null;
      present(image);
      facts(image);
      draw();
      markThumb(thumbs[order[position]]);
      mark(null);
      root.dataset.shown = image.stem;
      sharpen(image, mine);
    });
  }

  // The thumbnail is replaced once the picture at full size is there; then the neighbours are fetched.
  function sharpen(image, mine) {
    pictures.getFull(image, last, data.folders).then(found => {
      if (mine !== ticket) return;
      if (found) {
        shown = found;
        present(image);
        draw();
      }
      root.dataset.full = found ? image.stem : "";
      for (const near of [order[position + 2], order[position - 1], order[position + 1]]) {
        if (near === undefined) continue;
        setTimeout(() => pictures.get(data.images[near], last), 0);
        setTimeout(() => mine === ticket && pictures.getFull(data.images[near], last, data.folders), 50);
      }
    });
  }

  // Outlines a box [top, left, bottom, right] in pixels of the image and zooms to it; null for none.
  function mark(box) {
    const { size } = data.images[order[position]];
    for (const frame of root.querySelectorAll(".box")) frame.hidden = !box || !size;
    if (!box || !size) return;
    const [top, left, bottom, right] = box.map((value, index) => value / size[index % 2]);
    for (const frame of root.querySelectorAll(".box")) {
      frame.style.inset = `${100 * top}% ${100 * (1 - right)}% ${100 * (1 - bottom)}% ${100 * left}%`;
    }
    zoom.show([top, left, bottom, right]);
  }

  const sideOf = pane => shown?.sides[pane] ?? shown?.sides[0];

  function present(image) {
    stages.forEach((stage, pane) => {
      const { photo, preds } = sideOf(pane);
      const size = photo?.naturalWidth ? [photo.naturalWidth, photo.naturalHeight]
        : preds ? [preds.width, preds.height] : [4, 3];
      stage.style.setProperty("--width", size[0]);
      stage.style.setProperty("--height", size[1]);
      stage.querySelector("img")?.remove();
      if (!photo || panes[pane].hidden) return;
      const picture = pane < shown.sides.length ? photo : photo.cloneNode();
      picture.alt = `Image ${image.stem}`;
      picture.draggable = false;
      stage.firstChild.prepend(picture);
    });
  }

  function facts(image) {
    part("stem").textContent = image.stem;
    part("stem").href = `#image=${encodeURIComponent(image.stem)}`;
    part("readout").textContent = HINT;
    scores(image);
    legend(image);
  }

  function scores(image) {
    const rows = data.scores.map(({ name, better }, index) => {
      const row = element("tr");
      const values = image.scores[index];
      row.append(element("th", name), ...values.map(value => element("td", number(value))));
      if (values.length === 2) {
        const gain = values.includes(null) ? null : values[1] - values[0];
        const good = better === "high" ? gain > 0 : gain < 0;
        row.append(element("td", signed(gain), gain && better ? (good ? "better" : "worse") : ""));
      }
      return row;
    });
    if (compared) {
      const head = element("tr", "", "head");
      head.append(element("th"), ...data.sides.map(name => element("td", name)));
      if (data.sides.length === 2) head.append(element("td", "gain"));
      rows.unshift(head);
    }
    part("scores").tBodies[0].replaceChildren(...rows);
  }

  function legend(image) {
    const entries = image.classes.map(([index, share, ...ious]) => {
      const { name, colour } = data.classes[index];
      const button = element("button");
      button.type = "button";
      button.title = `${name}: ${share.toFixed(1)} % of the truth`;
      button.append(swatch(colour), element("span", name, "label"));
      ious.forEach(iou => button.append(element("span", number(iou), "value")));
      const on = () => { single = index; draw(); };
      const off = () => { single = null; draw(); };
      button.addEventListener("pointerenter", on);
      button.addEventListener("focus", on);
      button.addEventListener("pointerleave", off);
      button.addEventListener("blur", off);
      const item = element("li");
      item.append(button);
      return item;
    });
    part("legend").replaceChildren(...entries);
  }

  // Layers of a pane, the truth being the last.
  function layersOf(pane) {
    if (mode === "overlay") return layers;
    const classes = mode === "swipe" ? ["target", "preds"] : panes[pane].dataset.pane === "target" ? ["target"] : ["preds"];
    return new Set(layers.has("image") ? ["image", ...classes] : classes);
  }

  function draw() {
    const all = new Set(panes.flatMap((pane, index) => pane.hidden ? [] : [...layersOf(index)]));
    for (const button of buttons) button.setAttribute("aria-pressed", all.has(button.dataset.layer));
    const grey = all.has("error") || all.has("uncertainty");
    stages.forEach((stage, pane) => {
      const on = layersOf(pane);
      stage.classList.toggle("no-image", !on.has("image"));
      stage.classList.toggle("grey", grey);
      for (const canvas of stage.querySelectorAll("canvas")) {
        const layer = canvas.dataset.layer;
        canvas.hidden = panes[pane].hidden || !on.has(layer) || !drawn(canvas, layer, sideOf(pane));
      }
    });
    part("key").replaceChildren(...keys(all));
    divide();
  }

  // Truth and prediction beside each other, over each other, or left and right of a divider.
  function setMode(wanted) {
    mode = wanted;
    for (const button of root.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", button.dataset.mode === mode);
    }
    panes.at(-1).hidden = mode !== "beside";
    if (!compared) panes[0].firstElementChild.hidden = mode !== "beside";
    part("divider-label").hidden = mode !== "swipe";
    part("stages").dataset.mode = mode;
    for (const handle of root.querySelectorAll(".handle")) handle.hidden = mode !== "swipe";
    if (shown) present(data.images[order[position]]);
    draw();
  }

  function divide() {
    const at = Number(part("divider").value) / 100;
    part("stages").style.setProperty("--divider", at);
    part("stages").style.setProperty("--cut", (at - zoom.view.x) / zoom.view.zoom);
  }

  // Returns whether there is something to draw.
  function drawn(canvas, layer, side) {
    if (!side) return false;
    const target = side.target ?? shown.target;
    const { preds, uncertainty } = side;
    if (layer === "target" && target) paint.classes(canvas, target, data, single);
    else if (layer === "preds" && preds) paint.classes(canvas, preds, data, single);
    else if (layer === "error" && comparable(target, preds)) {
      paint.mistakes(canvas, target, preds, data, single, focus?.pair);
    } else if (layer === "uncertainty" && uncertainty) paint.levels(canvas, uncertainty, data);
    else return false;
    return true;
  }

  const comparable = (one, other) => one && other && one.width === other.width && one.height === other.height;

  // What the colours of the layers mean that are no classes.
  function keys(layers) {
    const found = [];
    const entry = (mark, text) => {
      const made = element("span");
      made.append(mark, text);
      found.push(made);
    };
    if (!pictures.canInflate) return [element("span", "This browser is too old to draw the layers.")];
    if (layers.has("error")) entry(swatch(data.mistake), "wrong");
    if (layers.has("uncertainty")) {
      const bar = element("span", "", "ramp");
      bar.style.background = `linear-gradient(90deg, ${data.ramp.map(c => `rgb(${c.join(" ")})`).join(",")})`;
      entry(bar, "0 to 100 % unsure");
    }
    const ignored = shown?.target?.values.includes(last);
    if (ignored && (layers.has("error") || layers.has("target"))) {
      entry(element("span", "", "swatch hatched"), "ignored");
    }
    return found;
  }

  function markThumb(thumb) {
    const focused = strip.contains(document.activeElement);
    const old = strip.querySelector("[aria-current]");
    old?.removeAttribute("aria-current");
    if (old) old.tabIndex = -1;
    thumb.setAttribute("aria-current", "true");
    thumb.tabIndex = 0;
    if (focused) thumb.focus({ preventScroll: true });
    strip.scrollTo({
      left: thumb.offsetLeft - (strip.clientWidth - thumb.offsetWidth) / 2,
      top: thumb.offsetTop - (strip.clientHeight - thumb.offsetHeight) / 2,
    });
  }

  // One layer over the image at a time, unless it is added.
  function toggle(layer, add) {
    if (mode !== "overlay" && layer !== "image") setMode("overlay");
    if (layers.has(layer)) layers.delete(layer);
    else if (layer === "image" || add) layers.add(layer);
    else layers = new Set([...layers].filter(one => one === "image").concat(layer));
    draw();
  }

  // Controls

  function fillIn() {
    const option = (text, value) => Object.assign(element("option", text), { value });
    part("sort").append(...data.sorts.map(({ name }, index) => option(name, index)), option("Order of the split", -1));
    const used = new Set(data.images.flatMap(image => image.classes.map(([index]) => index)));
    part("filter").append(...data.classes.flatMap(({ name }, index) =>
      used.has(index) ? [option(`with ${name}`, index)] : []));
  }

  function startWithWorst() {
    const key = sortedBy();
    rising = key === null || data.sorts[key].better !== "low";
    arrange(false);
  }

  // What a link says: #image=STEM, with &box= of a region; #class=, #confusion=TRUTH,PREDICTION, #bin=.
  // The images behind it are shown, the most telling first.

  async function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const numbers = name => (asked.get(name) ?? "").split(",").map(Number);
    if (asked.has("image")) return showImage(asked.get("image"), asked.has("box") ? numbers("box") : null);
    if (asked.has("class")) look(focusOnClass(...numbers("class")));
    else if (asked.has("confusion")) look(await focusOnPair(...numbers("confusion")));
    else if (asked.has("bin")) look(focusOnBin(...numbers("bin")));
  }

  function showImage(stem, box) {
    const index = data.images.findIndex(image => image.stem === stem);
    if (index < 0) return;
    if (!order.includes(index)) {
      focus = null;
      part("filter").value = "";
      arrange(false);
    }
    root.scrollIntoView();
    show(order.indexOf(index)).then(() => { if (box) mark(box); });
  }

  function look(found) {
    if (!found) return;
    focus = found;
    part("filter").value = "";
    layers = new Set(["image", focus.layer]);
    setMode("overlay");
    rising = focus.rising;
    arrange(false);
    root.scrollIntoView();
  }

  const share = value => `${(100 * value).toFixed(2)} %`;

  function focusOnClass(wanted) {
    const values = data.images.map(({ classes }) => classes.find(([index]) => index === wanted)?.at(-1));
    return data.classes[wanted] && { name: data.classes[wanted].name, values, text: number, rising: true, layer: "preds" };
  }

  async function focusOnPair(target, preds) {
    const names = [target, preds].map(index => data.classes[index]?.name);
    if (names.includes(undefined)) return null;
    const shares = await Promise.all(data.images.map(image => pictures.pairs(image, last)));
    const values = shares.map(found => found.get(target * (last + 1) + preds));
    const same = target === preds;
    return {
      name: same ? names[0] : names.join(" → "), values, text: share, rising: false,
      layer: same ? "preds" : "error", pair: same ? null : [target, preds],
    };
  }

  function focusOnBin(wanted) {
    const values = data.images.map(({ bins }) => bins.find(([index]) => index === wanted)?.[1]);
    const text = pixels => `${Math.round(pixels).toLocaleString("en")} px`;
    return { name: `confidence bin ${wanted + 1}`, values, text, rising: false, layer: "uncertainty" };
  }

  function unfocus() {
    focus = null;
    startWithWorst();
  }

  // The address bar holds a link to the image that the reader has chosen.
  function remember() {
    const image = data.images[order[position]];
    if (image) history.replaceState(null, "", `#image=${encodeURIComponent(image.stem)}`);
  }

  addEventListener("hashchange", follow);
  part("focus").addEventListener("click", unfocus);
  part("stem").addEventListener("click", () => mark(null));

  part("sort").addEventListener("change", unfocus);
  part("filter").addEventListener("change", () => arrange(true));
  // The arrow keys go on with the images instead of the next choice.
  for (const name of ["sort", "filter"]) part(name).addEventListener("change", event => event.target.blur());
  part("direction").addEventListener("click", () => { rising = !rising; arrange(false); });
  part("previous").addEventListener("click", () => step(position - 1));
  part("next").addEventListener("click", () => step(position + 1));
  part("opacity").addEventListener("input", setOpacity);
  for (const button of buttons) {
    button.addEventListener("click", event => toggle(button.dataset.layer, event.shiftKey));
  }

  function setOpacity() {
    root.style.setProperty("--overlay", part("opacity").value / 100);
  }

  document.addEventListener("keydown", event => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest?.("select, textarea, .scroll, pre") || !inSight()) return;
    const typed = event.target.matches?.("input");
    if (!typed && zoom.press(event)) return event.preventDefault();
    const wanted = root.querySelector(`[data-mode][aria-keyshortcuts=${CSS.escape(event.key.toUpperCase())}]`);
    if (wanted && !typed) setMode(wanted.dataset.mode);
    const digit = /^(?:Digit|Numpad)([1-5])$/.exec(event.code);
    if (digit) toggle(buttons[digit[1] - 1].dataset.layer, event.shiftKey);
    if (typed || event.shiftKey) return;
    const moves = { ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: order.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    step(moves[event.key]);
  });

  function inSight() {
    const box = root.getBoundingClientRect();
    return box.top < innerHeight * .85 && box.bottom > innerHeight * .15;
  }

  let touched = null;
  part("stages").addEventListener("touchstart", event => {
    const alone = event.touches.length < 2 && zoom.view.zoom === 1 && mode !== "swipe";
    touched = alone ? event.changedTouches[0] : null;
  }, { passive: true });
  part("stages").addEventListener("touchend", event => {
    if (!touched) return;
    const end = event.changedTouches[0];
    const [right, down] = [end.clientX - touched.clientX, end.clientY - touched.clientY];
    if (Math.abs(right) > 40 && Math.abs(right) > 2 * Math.abs(down)) step(position - Math.sign(right));
  }, { passive: true });

  function read(event, stage, pane) {
    const [across, down] = zoom.place(event, stage, true);
    const at = map => map && map.values[Math.min(map.height - 1, Math.floor(down * map.height)) * map.width
      + Math.min(map.width - 1, Math.floor(across * map.width))];
    const name = value => value === undefined || value === null ? "–" : data.classes[value]?.name ?? "ignored";
    const { preds, uncertainty } = sideOf(pane);
    const told = [`truth ${name(at(shown.target))}`, `prediction ${name(at(preds))}`];
    if (uncertainty) told.push(`unsure ${Math.round(100 * at(uncertainty) / (data.ramp.length - 1))} %`);
    part("readout").textContent = (compared ? `${data.sides[pane] ?? "Truth"}: ` : "") + told.join(" · ");
  }

  stages.forEach((stage, pane) => {
    for (const kind of ["pointermove", "pointerdown"]) {
      stage.addEventListener(kind, event => shown && read(event, stage, pane));
    }
    stage.addEventListener("pointerleave", () => { part("readout").textContent = HINT; });
    const handle = stage.querySelector(".handle");
    handle.addEventListener("pointerdown", event => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", event => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      part("divider").value = 100 * zoom.place(event, stage)[0];
      divide();
    });
  });
  part("divider").addEventListener("input", divide);
  for (const button of root.querySelectorAll("[data-mode]")) {
    button.addEventListener("click", () => setMode(button.dataset.mode));
  }

  root.hidden = false;
  fillIn();
  setOpacity();
  setMode("overlay");
  startWithWorst();
  follow();
})();
