import {
  createScanner,
  findNodeAtLocation,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser';
import { inputError } from '../errors.ts';

/** A recipe is a page or two; a file beyond this is something else. */
export const MAX_RECIPE_BYTES = 1024 * 1024;
/** The deepest recipe has seven levels; the bound keeps a hostile file from exhausting the parser's stack. */
const MAX_DEPTH = 64;

/** A place in a recipe's text, counted from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A recipe's text, parsed, with a place for every value. */
export interface RecipeDocument {
  readonly file: string;
  readonly value: unknown;
  /** Where the value at this path stands, or the nearest value around it. With `key`, that key of the object there. */
  place(path: readonly PropertyKey[], key?: string): Place;
  /** Does the text hold a value at this path? */
  has(path: readonly PropertyKey[]): boolean;
}

/**
 * Parses JSON with comments and trailing commas.
 *
 * @param file name for messages
 * @throws PotstillError `ERR_RECIPE_SYNTAX` with line and column
 */
export function parseDocument(file: string, text: string): RecipeDocument {
  const source = text.startsWith('\uFEFF') ? text.slice(1) : text;
  const lineStarts = [0, ...[...source.matchAll(/\n/g)].map(({ index }) => index + 1)];
  const placeOf = (offset: number): Place => {
    const line = lineStarts.findLastIndex((start) => start <= offset);
    return { line: line + 1, column: offset - (lineStarts[line] ?? 0) + 1 };
  };
  const fail = (what: string, offset: number, remedy: string): never => {
    const { line, column } = placeOf(offset);
    throw inputError('ERR_RECIPE_SYNTAX', what, { where: `${file}:${line}:${column}`, remedy });
  };

  checkDepth(source, (offset) => fail(`nested more than ${MAX_DEPTH} deep`, offset, 'This is not a recipe.'));
  const errors: ParseError[] = [];
  const root = parseTree(source, errors, { allowTrailingComma: true, disallowComments: false });
  const [error] = errors;
  if (error !== undefined) {
    const name = printParseErrorCode(error.error)
      .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
      .toLowerCase();
    fail(`not JSON: ${name}`, error.offset, 'Mend the text there; comments and trailing commas are allowed.');
  }
  if (root === undefined) return fail('the file is empty', 0, 'See the README for a recipe to start from.');
  return {
    file,
    value: toValue(root, (key, offset) => fail(`"${key}" is given twice`, offset, 'Remove one of the two.')),
    has: (path) => nodeAt(root, path) !== undefined,
    place: (path, key) => {
      const found = key === undefined ? undefined : keyNode(nodeAt(root, path), key);
      for (let length = path.length; found === undefined && length >= 0; length -= 1) {
        const node = nodeAt(root, path.slice(0, length));
        if (node !== undefined) return placeOf(node.offset);
      }
      return placeOf(found?.offset ?? 0);
    },
  };
}

function checkDepth(source: string, tooDeep: (offset: number) => never): void {
  const scanner = createScanner(source, true);
  let depth = 0;
  while (scanner.getPosition() < source.length) {
    scanner.scan();
    if (scanner.getTokenLength() !== 1) continue; // brackets alone are one character long
    const token = source[scanner.getTokenOffset()];
    if (token === '{' || token === '[') depth += 1;
    if (token === '}' || token === ']') depth -= 1;
    if (depth > MAX_DEPTH) tooDeep(scanner.getTokenOffset());
  }
}

/** Plain data; `__proto__` becomes a key like any other, so that it is refused as an unknown one. */
function toValue(node: Node, twice: (key: string, offset: number) => never): unknown {
  const children = node.children ?? [];
  if (node.type === 'array') return children.map((child) => toValue(child, twice));
  if (node.type !== 'object') return node.value;
  const entries = new Map<string, unknown>();
  for (const { children: [key, value] = [] } of children) {
    if (key === undefined || value === undefined) continue;
    if (entries.has(key.value)) twice(key.value, key.offset);
    entries.set(key.value, toValue(value, twice));
  }
  return Object.fromEntries(entries);
}

function nodeAt(root: Node, path: readonly PropertyKey[]): Node | undefined {
  return findNodeAtLocation(
    root,
    path.filter((step) => typeof step !== 'symbol'),
  );
}

function keyNode(node: Node | undefined, key: string): Node | undefined {
  return node?.children?.map((property) => property.children?.[0]).find((name) => name?.value === key);
}
