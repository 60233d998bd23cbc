/** Bytes of a list that are parsed together: its members live no longer than that. */
const PIECE_BYTES = 1 << 18;
/** No name of a list is longer. */
const MAX_NAME = 32;

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const LIST = 0x5b;
/** Square brackets and braces differ in this bit alone. */
const BRACE_BIT = 0x20;
const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;

/** Takes some members of a list, the first of which has this index. */
export type TakeMembers = (members: readonly unknown[], first: number) => void;

/**
 * Parses a JSON object but for some long lists of its own (a plan's views, captions and samples, of which there may be
 * hundreds of thousands): they are left empty, and their members handed on piece by piece, so that all of them are never held
 * at once.
 *
 * @param lists by name, what takes the members; lists that are not there have none
 * @throws SyntaxError for what is no JSON, and for a list that is there twice
 */
export function readApart(json: Uint8Array, lists: ReadonlyMap<string, TakeMembers>): unknown {
  const bytes = Buffer.from(json.buffer, json.byteOffset, json.byteLength);
  const around: Buffer[] = [];
  const seen = new Set<string>();
  let [depth, kept, name] = [0, 0, ''];
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (byte === QUOTE) {
      const end = endOfString(bytes, at);
      if (depth === 1) name = end - at <= MAX_NAME ? bytes.toString('latin1', at + 1, end) : '';
      at = end;
    } else if (isClosing(byte)) {
      depth -= 1;
    } else if (isOpening(byte)) {
      const take = byte === LIST && depth === 1 ? lists.get(name) : undefined;
      if (take === undefined) {
        depth += 1;
        continue;
      }
      if (seen.has(name)) throw new SyntaxError(`${name} is there twice`);
      seen.add(name);
      const end = readList(bytes, at + 1, take);
      around.push(bytes.subarray(kept, at + 1));
      [kept, at] = [end, end];
    }
  }
  // Whatever does not belong together is seen here: the brackets of the lists are still there.
  return JSON.parse(Buffer.concat([...around, bytes.subarray(kept)]).toString('utf8'));
}

/** Hands on the members of a list that begins here; gives the place of the bracket that ends it. */
function readList(bytes: Buffer, start: number, take: TakeMembers): number {
  let [depth, from, first] = [0, start, 0];
  const parse = (to: number): void => {
    const members = JSON.parse(`[${bytes.toString('utf8', from, to)}]`) as unknown[];
    // A comma with nothing before or behind it, where a piece happens to end.
    if (members.length === 0 && (from > start || bytes[to] === COMMA)) throw new SyntaxError('a list has a gap');
    take(members, first);
    first += members.length;
    from = to + 1;
  };
  for (let at = start; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (byte === QUOTE) {
      at = endOfString(bytes, at);
    } else if (byte === COMMA) {
      if (depth === 0 && at - from >= PIECE_BYTES) parse(at);
    } else if (isOpening(byte)) {
      depth += 1;
    } else if (isClosing(byte)) {
      if (depth === 0) {
        parse(at);
        return at;
      }
      depth -= 1;
    }
  }
  throw new SyntaxError('a list has no end');
}

function isOpening(byte: number): boolean {
  return (byte | BRACE_BIT) === OPENING_BRACE;
}

function isClosing(byte: number): boolean {
  return (byte | BRACE_BIT) === CLOSING_BRACE;
}

/** The place of the quote that ends a string. */
function endOfString(bytes: Buffer, start: number): number {
  for (let at = start + 1; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === BACKSLASH) at += 1;
    else if (byte === QUOTE) return at;
  }
  throw new SyntaxError('a string has no end');
}
