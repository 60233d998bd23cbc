// `npm test`: set-up, then every check and test of the repository. `npm test -- rust` or `-- ts` runs half of it.
import { spawn } from 'node:child_process';
import { ROOT } from './lib/paths.mjs';
import { RequirementError, rustVersion, TESTED_RUST } from './lib/requirements.mjs';
import { ask, environment } from './lib/shell.mjs';
import { clock } from './lib/ticker.mjs';
import { reportFailure, setUp } from './setup.mjs';

/**
 * The compiler's own platform, named: the addon is built for it by name too, so that tests and addon share what they
 * compile. Unnamed, cargo would compile everything a second time.
 */
function platform() {
  const [, host] = /^host: (.+)$/m.exec(ask('rustc', ['-vV']) ?? '') ?? [];
  return host === undefined ? [] : ['--target', host];
}

/** Checks have one outcome; test runners print how many passed and failed, which `count` reads. */
const checks = () => [
  { half: 'rust', label: 'rustfmt', command: ['cargo', 'fmt', '--all', '--check'] },
  {
    half: 'rust',
    label: 'clippy',
    command: [
      'cargo',
      'clippy',
      '--release',
      '--workspace',
      '--all-targets',
      '--locked',
      ...platform(),
      '--',
      ...lintLevel(),
    ],
  },
  {
    half: 'rust',
    label: 'cargo test',
    command: ['cargo', 'test', '--release', '--workspace', '--locked', ...platform()],
    count: countCargo,
  },
  { half: 'ts', label: 'biome', command: ['biome', 'check', '--error-on-warnings'] },
  { half: 'ts', label: 'tsc', command: ['tsc', '-p', 'tsconfig.check.json'] },
  { half: 'ts', label: 'tsc, page', command: ['tsc', '-p', 'ts/page', '--noEmit'] },
  { half: 'ts', label: 'vitest', command: ['vitest', 'run'], count: countVitest },
];

async function main(words) {
  const chosen = checks().filter(({ half }) => words.length === 0 || words.includes(half));
  const rust = chosen.some(({ half }) => half === 'rust');
  if (rust) requireCxx(); // before the set-up, which takes minutes
  await setUp();
  if (rust) addComponents();
  const started = performance.now();
  const total = { passed: 0, failed: 0 };
  const summary = [];
  for (const { label, command, count } of chosen) {
    const begun = performance.now();
    process.stdout.write(`\n== ${label}: ${command.join(' ')}\n`);
    const { code, output } = await tee(command);
    const seconds = (performance.now() - begun) / 1000;
    const counted = count?.(output) ?? { passed: 0, failed: 0 };
    // A check counts as one test; so does a runner that failed without saying which test did.
    if (code === 0 && count === undefined) counted.passed += 1;
    if (code !== 0 && counted.failed === 0) counted.failed += 1;
    total.passed += counted.passed;
    total.failed += counted.failed;
    summary.push(
      `${label.padEnd(12)} ${clock(seconds).padStart(7)}  ${counted.passed} passed, ${counted.failed} failed`,
    );
  }
  process.stdout.write(`\n${summary.join('\n')}\n`);
  process.stdout.write(
    `${total.passed} passed, ${total.failed} failed in ${clock((performance.now() - started) / 1000)}\n`,
  );
  return total.failed === 0 ? 0 : 1;
}

/** Newer versions bring new lints: they are shown, but only those of the version developed with fail the test. */
function lintLevel() {
  return rustVersion() === TESTED_RUST ? ['-D', 'warnings'] : [];
}

/** The tests run the kernels of NVIDIA's cards on the host, compiled as C++. */
function requireCxx() {
  if (process.platform !== 'linux' || ask(process.env.CXX ?? 'c++', ['--version']) !== undefined) return;
  throw new RequirementError(
    'No C++ compiler was found (`c++ --version` fails), which tests need. On Debian and Ubuntu: `apt install build-essential`.',
  );
}

/** Rust's minimal profile lacks the formatter and the linter. */
function addComponents() {
  for (const [component, binary] of [
    ['rustfmt', 'fmt'],
    ['clippy', 'clippy'],
  ]) {
    if (ask('cargo', [binary, '--version']) !== undefined) continue;
    if (ask('rustup', ['component', 'add', component]) === undefined) {
      throw new RequirementError(`Rust's ${component} is missing. Run \`rustup component add ${component}\`.`);
    }
  }
}

/** Runs a command, showing its output as it comes and keeping it. */
function tee([command, ...words]) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, words, { cwd: ROOT, env: environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
      process.stdout.write(text);
    });
    child.stderr.on('data', (bytes) => process.stderr.write(bytes));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

function countCargo(output) {
  const counts = { passed: 0, failed: 0 };
  for (const [, passed, failed] of output.matchAll(/^test result: .*?(\d+) passed; (\d+) failed/gm)) {
    counts.passed += Number(passed);
    counts.failed += Number(failed);
  }
  return counts;
}

function countVitest(output) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours start with the escape character
  const line = output.replace(/\u001b\[[\d;]*m/g, '').match(/^\s*Tests\s+.*$/m)?.[0] ?? '';
  const number = (word) => Number(line.match(new RegExp(`(\\d+) ${word}`))?.[1] ?? 0);
  return { passed: number('passed'), failed: number('failed') };
}

process.exitCode = await main(process.argv.slice(2)).catch(reportFailure);
