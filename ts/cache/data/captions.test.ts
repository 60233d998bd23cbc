import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readCaptions } from './captions.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-captions-'));
});
afterEach(() => rm(folder, { recursive: true }));

const write = (name: string, text: string | Uint8Array): Promise<void> => writeFile(join(folder, name), text);

describe('captions beside the images', () => {
  it('are read without a byte order mark and surrounding space', async () => {
    await mkdir(join(folder, 'sub'));
    await write('a.png', '');
    await write('a.txt', '\ufeffa red  fox\r\n');
    await write('sub/b.c.jpg', '');
    await write('sub/b.c.txt', 'ein Fuß');
    expect(await readCaptions(folder, ['a.png', 'sub/b.c.jpg'], 'txt')).toEqual(['a red  fox', 'ein Fuß']);
  });

  it('are missed by the name of the image', async () => {
    await write('a.txt', ' \n');
    await expect(readCaptions(folder, ['a.png'], 'txt')).rejects.toMatchObject({
      code: 'ERR_DATA_NO_CAPTION',
      kind: 'input',
      where: join(folder, 'a.png'),
    });
    await expect(readCaptions(folder, ['b.png'], 'txt')).rejects.toMatchObject({ where: join(folder, 'b.png') });
  });

  it('must be text of a sane length', async () => {
    await write('a.txt', Uint8Array.of(0xff, 0xfe, 0x41));
    await expect(readCaptions(folder, ['a.png'], 'txt')).rejects.toMatchObject({ code: 'ERR_DATA_NOT_UTF8' });
    await write('b.txt', 'x'.repeat(1 << 17));
    await expect(readCaptions(folder, ['b.png'], 'txt')).rejects.toMatchObject({ code: 'ERR_DATA_TEXT_TOO_LARGE' });
  });
});

describe('captions in one jsonl', () => {
  it('are read in our words and in those of the Hub', async () => {
    await write('captions.jsonl', '{"file":"./a.png","caption":" a fox "}\n\n{"file_name":"b/c.png","text":"a cat"}');
    expect(await readCaptions(folder, ['b/c.png', 'a.png'], 'jsonl')).toEqual(['a cat', 'a fox']);
  });

  it.each([
    ['not JSON', '{"file":', 'ERR_DATA_JSONL', 'captions.jsonl:1'],
    ['a number for a caption', '{"file":"a.png","caption":1}', 'ERR_DATA_JSONL', 'captions.jsonl:1'],
    ['half of a character', '{"file":"a.png","caption":"\\ud83d"}', 'ERR_DATA_JSONL', 'captions.jsonl:1'],
    ['null', 'null', 'ERR_DATA_JSONL', 'captions.jsonl:1'],
    ['a way out of the folder', '{"file":"../a.png","caption":"x"}', 'ERR_DATA_JSONL', 'captions.jsonl:1'],
    [
      'two captions',
      '{"file":"a.png","caption":"x"}\n{"file":"a.png","caption":"y"}',
      'ERR_DATA_JSONL',
      'captions.jsonl:2',
    ],
    ['no line for an image', '\n', 'ERR_DATA_NO_CAPTION', 'a.png'],
  ])('are refused for %s', async (_, text, code, where) => {
    await write('captions.jsonl', text);
    await expect(readCaptions(folder, ['a.png'], 'jsonl')).rejects.toMatchObject({ code, where: join(folder, where) });
  });

  it('need the jsonl', async () => {
    await expect(readCaptions(folder, ['a.png'], 'jsonl')).rejects.toMatchObject({ code: 'ERR_DATA_NO_JSONL' });
  });
});
