import { crc32 } from 'node:zlib';

/** Bytes of a PNG's signature and of its first chunk, IHDR: length, type, 13 bytes, checksum. */
const FIRST_CHUNK_END = 8 + 4 + 4 + 13 + 4;

/**
 * A PNG with a text beside its pixels, in a tEXt chunk (iTXt when it has characters beyond Latin-1).
 *
 * @param keyword 1 to 79 Latin-1 characters
 */
export function withText(png: Uint8Array, keyword: string, text: string): Uint8Array {
  const latin1 = [...text].every((character) => (character.codePointAt(0) ?? 0) < 256);
  const added = latin1
    ? chunk('tEXt', Buffer.from(`${keyword}\0${text}`, 'latin1'))
    : // Not compressed, no language, no translated keyword.
      chunk('iTXt', Buffer.concat([Buffer.from(`${keyword}\0\0\0\0\0`, 'latin1'), Buffer.from(text, 'utf8')]));
  return Buffer.concat([png.subarray(0, FIRST_CHUNK_END), added, png.subarray(FIRST_CHUNK_END)]);
}

function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, checksum]);
}
