// Pictures of the gallery, decoded when they are needed and kept while they are near: thumbnails from
// the page, and at full size from the folders beside it.
const pictures = (() => {
  const KEPT = 12;
  const canInflate = "DecompressionStream" in window;

  async function inflate(view, wide) {
    if (!view || !canInflate) return null;
    const bytes = Uint8Array.from(atob(view.data), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const values = wide ? new Uint16Array(buffer) : new Uint8Array(buffer);
    return { width: view.width, height: view.height, values };
  }

  const source = photo => `data:image/jpeg;base64,${photo.data}`;

  async function photograph(url) {
    const image = new Image();
    image.src = url;
    await image.decode().catch(() => {});
    return image;
  }

  async function decode(image, numClasses) {
    const wide = numClasses > 255;
    const [target, sides] = await Promise.all([
      inflate(image.target, wide),
      Promise.all(image.sides.map(async side => {
        const [photo, preds, uncertainty] = await Promise.all([
          image.photo && photograph(source(image.photo)), inflate(side.preds, wide), inflate(side.uncertainty, false),
        ]);
        return { photo, preds, uncertainty };
      })),
    ]);
    return { target, sides };
  }

  // A page on disk may read no file beside it, but run a script: its one call hands over the maps.
  const waiting = new Map();
  window.softiouPicture = maps => waiting.get(document.currentScript)?.(maps);

  function mapsOf(url) {
    const script = document.createElement("script");
    return new Promise((resolve, reject) => {
      waiting.set(script, resolve);
      script.addEventListener("error", () => reject(new Error(`no ${url}`)));
      script.src = url;
      document.head.append(script);
    }).finally(() => script.remove());
  }

  async function decodeFull(image, numClasses, folders) {
    const wide = numClasses > 255;
    const stem = image.stem.split("/").map(encodeURIComponent).join("/");
    const small = await get(image, numClasses);
    const sides = await Promise.all(folders.map(async (folder, index) => {
      const url = `${folder}/${stem}.full`;
      const [photo, maps] = await Promise.all([photograph(`${url}.jpg`), mapsOf(`${url}.js`)]);
      const [target, preds] = await Promise.all([inflate(maps.target, wide), inflate(maps.preds, wide)]);
      return { photo, preds, target, uncertainty: small.sides[index].uncertainty };
    }));
    return { target: sides[0].target, sides };
  }

  // The same promise for the same image; the one unused for longest goes first.
  function kept(cache, size, image, make) {
    const found = cache.get(image) ?? make();
    cache.delete(image);
    cache.set(image, found);
    if (cache.size > size) cache.delete(cache.keys().next().value);
    return found;
  }

  const small = new Map(), full = new Map();
  const get = (image, numClasses) => kept(small, KEPT, image, () => decode(image, numClasses));

  // Null where there is no larger picture; a folder that was not moved along is none.
  function getFull(image, numClasses, folders) {
    if (!image.full || !folders.length || !canInflate) return Promise.resolve(null);
    return kept(full, KEPT / 2, image, () => decodeFull(image, numClasses, folders).catch(() => null));
  }

  // Share of each pair of truth and prediction in the thumbnail: target * (C + 1) + preds -> [0, 1].
  const counted = new Map();
  async function count(image, numClasses) {
    const shares = new Map();
    const wide = numClasses > 255;
    const [target, preds] = await Promise.all([inflate(image.target, wide), inflate(image.sides[0].preds, wide)]);
    if (!target || target.values.length !== preds?.values.length) return shares;
    const counts = new Uint32Array((numClasses + 1) ** 2);
    for (let place = 0; place < target.values.length; place += 1) {
      counts[target.values[place] * (numClasses + 1) + preds.values[place]] += 1;
    }
    counts.forEach((pixels, pair) => { if (pixels) shares.set(pair, pixels / target.values.length); });
    return shares;
  }
  const pairs = (image, numClasses) => kept(counted, Infinity, image, () => count(image, numClasses));

  return { get, getFull, pairs, source, canInflate };
})();
