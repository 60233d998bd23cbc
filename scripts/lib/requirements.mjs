import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './paths.mjs';
import { ask } from './shell.mjs';

/** What set-up cannot do without, and how to get it. Exit code 3: this machine. */
export class RequirementError extends Error {
  exitCode = 3;
}

/** The Rust that potstill is developed with: what set-up installs where rustup has none, and whose lints are binding. */
export const TESTED_RUST = '1.95.0';

/** Version of the Rust compiler in use, or undefined when there is none. */
export function rustVersion() {
  return ask('rustc', ['--version'])?.match(/^rustc (\d+\.\d+\.\d+)/)?.[1];
}

/** Checks Node, Rust and the C compiler, before anything takes long. */
export function checkRequirements() {
  const { node } = process.versions;
  if (isBelow(node, '20.19.0') || ((node.startsWith('21.') || node.startsWith('22.')) && isBelow(node, '22.12.0'))) {
    throw new RequirementError(`Node ${node} is too old: 20.19 or 22.12 or newer is needed (https://nodejs.org).`);
  }
  const rust = rustVersion();
  if (rust === undefined && ask('rustup', ['--version']) === undefined) {
    throw new RequirementError('Rust was not found (neither `rustc` nor `rustup`). Install it from https://rustup.rs.');
  }
  const wanted = readFileSync(join(ROOT, 'Cargo.toml'), 'utf8').match(/^rust-version = "(.*)"/m)?.[1];
  if (rust !== undefined && wanted !== undefined && isBelow(rust, wanted)) {
    throw new RequirementError(`Rust ${rust} is too old: ${wanted} or newer is needed. Run \`rustup update stable\`.`);
  }
  if (process.platform === 'linux' && ask('cc', ['--version']) === undefined) {
    throw new RequirementError(
      'No C compiler was found (`cc --version` fails), which Rust links with. On Debian and Ubuntu: `apt install build-essential`.',
    );
  }
}

function isBelow(version, floor) {
  const [own, wanted] = [version, floor].map((text) => text.split('.').map(Number));
  for (let part = 0; part < wanted.length; part += 1) {
    if (own[part] !== wanted[part]) return own[part] < wanted[part];
  }
  return false;
}
