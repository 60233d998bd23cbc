import { spawn, spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { ROOT, TOOLS } from './paths.mjs';

/** The environment of every command: the tools that set-up installs, then node_modules', then the user's. */
export function environment() {
  const own = [join(TOOLS, 'bin'), join(ROOT, 'node_modules', '.bin')];
  return { ...process.env, PATH: [...own, process.env.PATH ?? ''].join(delimiter) };
}

/** Lines of a failed command's output that are shown. */
const SHOWN_LINES = 60;

/**
 * Runs a command in the repository's root and keeps its output for the case that it fails.
 *
 * @param {string} command
 * @param {readonly string[]} words
 * @param {(line: string) => void} [onLine] sees each line as it comes
 * @returns {Promise<string>} what it printed on stdout and stderr
 * @throws {CommandError} when it does not exit with 0
 */
export function execute(command, words, onLine = () => {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, words, { cwd: ROOT, env: environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let rest = '';
    const take = (chunk) => {
      output += chunk;
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(line);
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', (cause) => reject(new CommandError(command, words, String(cause.message))));
    child.on('close', (code, signal) => {
      if (rest !== '') onLine(rest);
      if (code === 0) return resolve(output);
      const tail = output.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
      reject(new CommandError(command, words, `${tail}\n(${signal ?? `exit code ${code}`})`));
    });
  });
}

/** A command that failed, with the end of its output. */
export class CommandError extends Error {
  constructor(command, words, detail) {
    super(`\`${[command, ...words].join(' ')}\` failed:\n${detail}`);
  }
}

/** What a command prints on stdout, or undefined when it cannot be run or fails. For questions such as `--version`. */
export function ask(command, words) {
  const { status, stdout } = spawnSync(command, words, { cwd: ROOT, env: environment(), encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}
