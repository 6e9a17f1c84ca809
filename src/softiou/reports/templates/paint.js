// Draw one layer of the gallery from class indices or levels of uncertainty, a pixel at a time.
const paint = (() => {
  const pack = ([red, green, blue], alpha = 255) =>
    ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const HATCH = [pack([128, 128, 128]), pack([188, 188, 188])];
  const FAINT = 28;  // opacity of the classes that are not singled out, of 255

  function fill(canvas, map, colourOf) {
    canvas.width = map.width;
    canvas.height = map.height;
    const pen = canvas.getContext("2d");
    const picture = pen.createImageData(map.width, map.height);
    const out = new Uint32Array(picture.data.buffer);
    for (let place = 0; place < out.length; place += 1) out[place] = colourOf(map.values[place], place);
    pen.putImageData(picture, 0, 0);
  }

  function hatched(place, width) {
    return HATCH[((Math.floor(place / width) + place % width) >> 2) & 1];
  }

  function classes(canvas, map, data, single) {
    const last = data.classes.length;
    const table = Uint32Array.from(data.classes, ({ colour }, index) =>
      pack(colour, single === null || single === index ? 255 : FAINT));
    fill(canvas, map, (value, place) => value < last ? table[value] : hatched(place, map.width));
  }

  function mistakes(canvas, target, preds, data, single, pair) {
    const last = data.classes.length;
    const wrong = pack(data.mistake);
    fill(canvas, target, (value, place) => {
      if (value >= last) return hatched(place, target.width);
      const other = preds.values[place];
      if (value === other) return 0;
      if (pair) return value === pair[0] && other === pair[1] ? wrong : 0;
      return single === null || single === value || single === other ? wrong : 0;
    });
  }

  function levels(canvas, map, data) {
    const table = Uint32Array.from(data.ramp, colour => pack(colour));
    fill(canvas, map, value => table[value]);
  }

  return { classes, mistakes, levels };
})();
