/** Texts of a PNG's tEXt and iTXt chunks by their keywords. */
export function pngTexts(png: Buffer): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    const end = data.indexOf(0);
    const keyword = data.toString('latin1', 0, end);
    if (type === 'tEXt') texts.set(keyword, data.toString('latin1', end + 1));
    // Four more zeros: not compressed, its method, no language, no translated keyword.
    if (type === 'iTXt') texts.set(keyword, data.toString('utf8', end + 5));
    at += 12 + length;
  }
  return texts;
}
