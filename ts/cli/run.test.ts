import { describe, expect, test } from 'vitest';
import { missingCommand } from './missing.ts';
import { COMMANDS, NOT_BUILT } from './registry.ts';
import { run } from './run.ts';

class Text {
  text = '';
  write(text: string): boolean {
    this.text += text;
    return true;
  }
}

async function potstill(...words: string[]) {
  const [out, err] = [new Text(), new Text()];
  const code = await run(words, out, err);
  return { code, out: out.text, err: err.text };
}

describe('usage', () => {
  test('help goes to stdout and names every command', async () => {
    const { code, out, err } = await potstill('--help');
    expect(code).toBe(0);
    expect(err).toBe('');
    for (const { name } of COMMANDS) expect(out).toMatch(new RegExp(`^ {2}${name}`, 'm'));
  });

  test('every command explains itself', async () => {
    for (const { name } of COMMANDS) {
      const { code, out } = await potstill(name, '--help');
      expect(code, name).toBe(0);
      expect(out, name).toContain(`potstill ${name}`);
    }
  });

  test('the version is that of the package', async () => {
    expect(await potstill('--version')).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });

  test.each([
    ['no command', [], 'a command is missing'],
    ['an unknown command', ['recipes'], "unknown command 'recipes'"],
    ['an unknown option', ['recipe', 'check', '--nope'], "unknown option '--nope'"],
    ['a missing argument', ['recipe', 'check'], "missing required argument 'file'"],
  ])('%s exits with 2', async (_, words, message) => {
    const { code, out, err } = await potstill(...words);
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toContain(message);
  });

  test('an error names the help of the command, of every group the second word too', async () => {
    const subcommands: string[] = [];
    for (const { name } of COMMANDS) {
      const { out } = await potstill(name, '--help');
      const listed = /^Commands:\n((?: {2}.*\n)*)/m.exec(out)?.[1] ?? '';
      const seconds = [...listed.matchAll(/^ {2}([a-z-]+)/gm)].flatMap(([, second]) => second ?? []);
      for (const words of seconds.filter((second) => second !== 'help').map((second) => [name, second])) {
        const { err } = await potstill(...words, '--qqqqqqqq');
        expect(err).toContain(`See \`potstill ${words.join(' ')} --help\`.`);
        subcommands.push(words.join(' '));
      }
    }
    expect(subcommands).toEqual(expect.arrayContaining(['model inspect', 'bench noise', 'cache ls', 'probe unet']));
    expect((await potstill('train', 'recipe.json', '--qqqqqqqq')).err).toContain('See `potstill train --help`.');
  });

  test('with --json an error is a document on stdout', async () => {
    const { code, out } = await potstill('recipe', 'check', '/nowhere/recipe.json', '--json');
    expect(code).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ error: { code: 'ERR_RECIPE_FILE', where: '/nowhere/recipe.json' } });
  });
});

describe('what is not built', () => {
  test('exits with 2 and says so by name', async () => {
    const { code, err } = await potstill('recipe', 'migrate', 'file');
    expect(code).toBe(2);
    expect(err).toContain('potstill recipe migrate is not built yet');
  });

  test('is found by one word, by two, and by its group', () => {
    const built = [{ name: 'cache' }];
    const missing = ['watch', 'cache gc', 'lora merge', 'lora scale'];
    const name = (...words: string[]) => missingCommand(words, built, missing)?.what;
    expect(name('watch', 'run')).toBe('potstill watch is not built yet');
    expect(name('cache', 'gc')).toBe('potstill cache gc is not built yet');
    expect(name('lora')).toBe('potstill lora is not built yet');
    expect(name('cache', 'build')).toBeUndefined();
    expect(name('--help')).toBeUndefined();
    expect(name()).toBeUndefined();
  });

  test('is not in the list of commands at the same time', () => {
    for (const { name } of COMMANDS) expect(NOT_BUILT).not.toContain(name);
  });
});
