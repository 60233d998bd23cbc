import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

interface LockedPackage {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly hasInstallScript?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
  packages: Readonly<Record<string, LockedPackage>>;
};
const locked = Object.entries(packages).filter(([path]) => path !== '');

test('npm packages come from the public registry, each with its digest', () => {
  for (const [path, { resolved, integrity }] of locked) {
    expect(resolved, path).toMatch(/^https:\/\/registry\.npmjs\.org\//);
    expect(integrity, path).toMatch(/^sha512-/);
  }
});

test('every optional package of every platform is locked: `npm ci` refuses a lock that lacks one', () => {
  for (const [path, { optionalDependencies = {} }] of locked) {
    for (const name of Object.keys(optionalDependencies)) {
      const places = [`node_modules/${name}`, `${path}/node_modules/${name}`];
      expect(
        places.some((place) => place in packages),
        `${path} wants ${name}`,
      ).toBe(true);
    }
  }
});

test('nothing that users install runs an install script', () => {
  const scripted = locked.filter(
    ([, { dev, devOptional, hasInstallScript }]) => hasInstallScript && !dev && !devOptional,
  );
  expect(scripted.map(([path]) => path)).toEqual([]);
});

test('crates come from crates.io', () => {
  const sources = readFileSync(join(ROOT, 'Cargo.lock'), 'utf8').matchAll(/^source = "(.*)"$/gm);
  for (const [, source] of sources) expect(source).toBe('registry+https://github.com/rust-lang/crates.io-index');
});
