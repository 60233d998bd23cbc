import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { execute } from './support/execute.ts';

const FOLDER = join(import.meta.dirname, '../configs/cluster');

/** Runs a script with a command in potstill's place that prints its words. */
const run = (name: string, ...words: readonly string[]) =>
  execute('env', ['POTSTILL=echo potstill', 'bash', join(FOLDER, name), ...words], process.cwd());

describe('scripts for Slurm', () => {
  it('build with the words given', async () => {
    const outcome = await run('slurm-build.sh', 'a recipe.json', '--set', 'cache.dir=x y');
    expect(outcome).toMatchObject({ code: 0, stdout: 'potstill cache build a recipe.json --set cache.dir=x y\n' });
  });

  it('join, then verify', async () => {
    const { stdout } = await run('slurm-seal.sh', 'cache');
    expect(stdout).toBe('potstill cache seal cache\npotstill cache verify cache\n');
  });

  it('do not verify what could not be joined', async () => {
    const words = ['POTSTILL=false', 'bash', join(FOLDER, 'slurm-seal.sh'), 'cache'];
    expect((await execute('env', words, process.cwd())).code).toBe(1);
  });

  it('say what they are told to Slurm before their first command', () => {
    for (const name of readdirSync(FOLDER).filter((file) => file.endsWith('.sh'))) {
      const lines = readFileSync(join(FOLDER, name), 'utf8').split('\n');
      const command = lines.findIndex((line) => line !== '' && !line.startsWith('#'));
      expect(lines[0]).toBe('#!/bin/bash');
      expect(lines.findLastIndex((line) => line.startsWith('#SBATCH'))).toBeLessThan(command);
    }
  });
});

describe('jobs for Kubernetes', () => {
  const build = readFileSync(join(FOLDER, 'kubernetes-build.yaml'), 'utf8');

  it('tell their pods of how many they are', () => {
    const [completions] = /^ {2}completions: (\d+)$/m.exec(build)?.slice(1) ?? [];
    const [told] = /- name: JOB_COMPLETIONS\n +value: "(\d+)"/.exec(build)?.slice(1) ?? [];
    expect(completions).toBeDefined();
    expect(told).toBe(completions);
    expect(build).toContain('completionMode: Indexed');
  });

  it('have no tabs, which YAML does not know, and use the same volume', () => {
    const seal = readFileSync(join(FOLDER, 'kubernetes-seal.yaml'), 'utf8');
    for (const text of [build, seal]) {
      expect(text).not.toContain('\t');
      expect(text).toContain('claimName: potstill-data');
    }
  });
});
