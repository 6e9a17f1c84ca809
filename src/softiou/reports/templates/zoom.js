// Zoom and pan of the stages of the gallery, all of them together: wheel, fingers, drag, keys, buttons.
const zoomable = (root, changed) => {
  const LARGEST = 32, STEP = 1.5, PAN = .15;
  const stages = root.querySelector("[data-part=stages]");
  const view = { zoom: 1, x: 0, y: 0 };  // of the scene: scale, and its corner in stages
  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

  function apply() {
    view.zoom = clamp(view.zoom, 1, LARGEST);
    view.x = clamp(view.x, 1 - view.zoom, 0);
    view.y = clamp(view.y, 1 - view.zoom, 0);
    for (const name of ["zoom", "x", "y"]) stages.style.setProperty(`--${name}`, view[name]);
    stages.classList.toggle("zoomed", view.zoom > 1);
    root.dataset.zoom = view.zoom.toFixed(2);
    changed();
  }

  // A point of the stage, in [0, 1], stays where it is.
  function zoomTo(zoom, across = .5, down = .5) {
    const next = clamp(zoom, 1, LARGEST), ratio = next / view.zoom;
    view.x = across - (across - view.x) * ratio;
    view.y = down - (down - view.y) * ratio;
    view.zoom = next;
    apply();
  }

  function pan(across, down) {
    view.x += across;
    view.y += down;
    apply();
  }

  function fit() {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    apply();
  }

  // Shows a box [top, left, bottom, right], in [0, 1], with what is around it.
  function show([top, left, bottom, right]) {
    view.zoom = clamp(.4 / Math.max(bottom - top, right - left), 1, LARGEST);
    view.x = .5 - view.zoom * (left + right) / 2;
    view.y = .5 - view.zoom * (top + bottom) / 2;
    apply();
  }

  // Where an event is on its stage; with `scene`, on the image.
  function place(event, stage, scene = false) {
    const box = stage.getBoundingClientRect();
    const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return scene ? [(across - view.x) / view.zoom, (down - view.y) / view.zoom] : [across, down];
  }

  stages.addEventListener("wheel", event => {
    const stage = event.target.closest(".stage");
    if (!stage || (view.zoom === 1 && event.deltaY > 0)) return;  // the page scrolls on
    event.preventDefault();
    zoomTo(view.zoom * Math.exp(-clamp(event.deltaY, -120, 120) * .003), ...place(event, stage));
  }, { passive: false });

  const fingers = new Map();
  stages.addEventListener("pointerdown", event => {
    const stage = event.target.closest(".stage");
    if (!stage || event.target.closest(".handle") || event.button) return;
    fingers.set(event.pointerId, event);
    if (view.zoom > 1) stage.setPointerCapture(event.pointerId);
  });
  stages.addEventListener("pointermove", event => {
    const before = fingers.get(event.pointerId), stage = event.target.closest(".stage");
    if (!before || !stage) return;
    const others = [...fingers.values()].filter(one => one.pointerId !== event.pointerId);
    if (others.length) {
      const distance = one => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY);
      zoomTo(view.zoom * distance(event) / Math.max(1, distance(before)), ...place(others[0], stage));
    } else if (view.zoom > 1) {
      const [from, to] = [place(before, stage), place(event, stage)];
      pan(to[0] - from[0], to[1] - from[1]);
    }
    fingers.set(event.pointerId, event);
  });
  for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, event => fingers.delete(event.pointerId));
  stages.addEventListener("dblclick", event => {
    const stage = event.target.closest(".stage");
    if (stage) zoomTo(view.zoom > 1 ? 1 : 4, ...place(event, stage));
  });

  const buttons = { in: () => zoomTo(view.zoom * STEP), out: () => zoomTo(view.zoom / STEP), fit };
  for (const button of root.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", buttons[button.dataset.zoom]);
  }
  const keys = {
    "+": buttons.in, "=": buttons.in, "-": buttons.out, "0": fit,
    ArrowLeft: () => pan(PAN, 0), ArrowRight: () => pan(-PAN, 0), ArrowUp: () => pan(0, PAN), ArrowDown: () => pan(0, -PAN),
  };
  // Returns whether the key was one of these; arrows with Shift alone.
  function press(event) {
    const arrow = event.key.startsWith("Arrow");
    if (!(event.key in keys) || (arrow && (!event.shiftKey || view.zoom === 1))) return false;
    keys[event.key]();
    return true;
  }

  return { view, fit, show, place, press };
};
