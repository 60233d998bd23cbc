import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './paths.mjs';
import { ask } from './shell.mjs';

/** What set-up cannot do without, and how to get it. Exit code 3: this machine. */
export class RequirementError extends Error {
  exitCode = 3;
}

/** Checks Node, Rust and the C compiler, before anything takes long. */
export function checkRequirements() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (!((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22)) {
    throw new RequirementError(
      `Node ${process.versions.node} is too old: 20.19 or 22.12 or newer is needed (https://nodejs.org).`,
    );
  }
  const rustc = ask('rustc', ['--version'])?.match(/^rustc (\d+)\.(\d+)/);
  if (rustc == null) {
    throw new RequirementError(
      'Rust was not found (`rustc --version` fails). Install it from https://rustup.rs and run `rustup default stable`.',
    );
  }
  const wanted = readFileSync(join(ROOT, 'Cargo.toml'), 'utf8').match(/^rust-version = "(\d+)\.(\d+)/m);
  if (wanted !== null && (Number(rustc[1]) < Number(wanted[1]) || Number(rustc[2]) < Number(wanted[2]))) {
    throw new RequirementError(
      `${rustc[0]} is too old: ${wanted[1]}.${wanted[2]} or newer is needed. Run \`rustup update stable\`.`,
    );
  }
  if (process.platform === 'linux' && ask('cc', ['--version']) === undefined) {
    throw new RequirementError(
      'No C compiler was found (`cc --version` fails), which Rust links with. On Debian and Ubuntu: `apt install build-essential`.',
    );
  }
}
