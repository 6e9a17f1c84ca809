// Pictures of the gallery, decoded when they are needed and kept while they are near.
const pictures = (() => {
  const KEPT = 12;
  const cache = new Map();
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

  async function photograph(view) {
    if (!view) return null;
    const image = new Image();
    image.src = source(view);
    await image.decode().catch(() => {});
    return image;
  }

  async function decode(image, numClasses) {
    const wide = numClasses > 255;
    const [target, sides] = await Promise.all([
      inflate(image.target, wide),
      Promise.all(image.sides.map(async side => {
        const [photo, preds, uncertainty] = await Promise.all([
          photograph(image.photo), inflate(side.preds, wide), inflate(side.uncertainty, false),
        ]);
        return { photo, preds, uncertainty };
      })),
    ]);
    return { target, sides };
  }

  // The same promise for the same image; the one unused for longest goes first.
  function get(image, numClasses) {
    const found = cache.get(image) ?? decode(image, numClasses);
    cache.delete(image);
    cache.set(image, found);
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
    return found;
  }

  return { get, source, canInflate };
})();
