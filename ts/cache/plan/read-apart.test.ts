import { expect, it } from 'vitest';
import { readApart } from './read-apart.ts';

/** Reads a text with the list `views` apart: the rest, and the members with the pieces that they came in. */
function read(text: string): { readonly rest: unknown; readonly members: unknown[]; readonly pieces: number } {
  const members: unknown[] = [];
  let pieces = 0;
  const take = (some: readonly unknown[], first: number): void => {
    expect(first).toBe(members.length);
    members.push(...some);
    pieces += 1;
  };
  return { rest: readApart(Buffer.from(text), new Map([['views', take]])), members, pieces };
}

it('hands on the members of a list, and leaves it empty', () => {
  const views = [{ view: '[",]\\"' }, [1, [2]], 'é', 3, null, {}];
  const document = { a: { views: [1] }, b: 'views', views, 'vie"ws': [4], c: [[]] };
  const { rest, members } = read(JSON.stringify(document, null, 1));
  expect(members).toEqual(views);
  expect(rest).toEqual({ ...document, views: [] });
});

it('hands on long lists in pieces', () => {
  const views = Array.from({ length: 30_000 }, (_, i) => ({ image: `image "${i}"`, view: [i, 'x,]'] }));
  const { rest, members, pieces } = read(JSON.stringify({ views }));
  expect([rest, members]).toEqual([{ views: [] }, views]);
  expect(pieces).toBeGreaterThan(3);
});

it('knows documents without the list, with an empty one, and with something else of its name', () => {
  expect(read('{"a":1}')).toEqual({ rest: { a: 1 }, members: [], pieces: 0 });
  expect(read('{"views":[ ]}')).toMatchObject({ rest: { views: [] }, members: [] });
  expect(read('{"views":"[1]"}')).toMatchObject({ rest: { views: '[1]' }, members: [] });
  expect(read('[{"views":[1]}]')).toMatchObject({ rest: [{ views: [1] }], members: [] });
  expect(read('7')).toMatchObject({ rest: 7 });
});

const long = `"${'x'.repeat(300_000)}"`;
it.each([
  ['nothing', ''],
  ['a list without an end', '{"views":[1,2'],
  ['a string without an end', '{"views":["a'],
  ['a string without an end outside of the list', '{"views":[1],"a'],
  ['brackets that do not belong together', '{"views":[1}]'],
  ['brackets of another kind', '{"views":[1}}'],
  ['a comma too many', '{"views":[1,]}'],
  ['a comma too many where a piece ends', `{"views":[${long},]}`],
  ['a gap where a piece ends', `{"views":[${long},,1]}`],
  ['nothing before a comma but spaces', `{"views":[${' '.repeat(300_000)},1]}`],
  ['a list that is there twice', '{"views":[1],"views":[2]}'],
  ['a bracket too many', '{"views":[1]}]'],
])('refuses %s', (_, text) => {
  expect(() => read(text)).toThrow(SyntaxError);
});
