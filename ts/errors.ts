/**
 * What went wrong, as far as the caller's next move depends on it. The command line turns the kind into the exit code:
 * `check` 1, `input` 2, `machine` 3, `interrupted` 130; a `bug` is potstill's own fault and exits 1, for nothing was
 * shown to be right.
 */
export type ErrorKind = 'check' | 'input' | 'machine' | 'interrupted' | 'bug';

/** A stable name of one kind of failure, such as `ERR_RECIPE_UNKNOWN_KEY`. Programs compare it; it never changes. */
export type ErrorCode = `ERR_${string}`;

/** The parts of a {@link PotstillError}. */
export interface ErrorParts {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  /** One sentence without a final full stop: what is wrong. */
  readonly what: string;
  /** File with line and column, tensor, key or option at which it is wrong. */
  readonly where?: string | undefined;
  /** What the reader can do about it: one sentence or command. */
  readonly remedy?: string | undefined;
  /** The error underneath, for `--json` and bug reports. */
  readonly cause?: unknown;
}

/** The only error that potstill throws on purpose: it says what, where, and what to do. */
export class PotstillError extends Error {
  override readonly name = 'PotstillError';
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly what: string;
  readonly where: string | undefined;
  readonly remedy: string | undefined;

  constructor(parts: ErrorParts) {
    super(
      parts.where === undefined ? parts.what : `${parts.where}: ${parts.what}`,
      parts.cause === undefined ? undefined : { cause: parts.cause },
    );
    this.code = parts.code;
    this.kind = parts.kind;
    this.what = parts.what;
    this.where = parts.where;
    this.remedy = parts.remedy;
  }

  toJSON(): { code: ErrorCode; kind: ErrorKind; what: string; where?: string; remedy?: string } {
    return {
      code: this.code,
      kind: this.kind,
      what: this.what,
      ...(this.where === undefined ? {} : { where: this.where }),
      ...(this.remedy === undefined ? {} : { remedy: this.remedy }),
    };
  }
}

/** Something the user gave cannot be used: exit code 2. */
export function inputError(
  code: ErrorCode,
  what: string,
  details: { where?: string; remedy?: string; cause?: unknown } = {},
): PotstillError {
  return new PotstillError({ code, kind: 'input', what, ...details });
}

/** This machine cannot do it (memory, disk, a missing library): exit code 3. */
export function machineError(
  code: ErrorCode,
  what: string,
  details: { where?: string; remedy?: string; cause?: unknown } = {},
): PotstillError {
  return new PotstillError({ code, kind: 'machine', what, ...details });
}

/** What an AbortSignal of potstill carries as its reason after Ctrl-C: exit code 130. */
export function interruptedError(): PotstillError {
  return new PotstillError({
    code: 'ERR_INTERRUPTED',
    kind: 'interrupted',
    what: 'interrupted',
    remedy: 'Run the same command again (with --resume for train): it goes on where it stopped.',
  });
}

/** A failure of the operating system, by Node's errno name, in words. */
const SYSTEM_ERRORS: Readonly<Record<string, readonly [kind: ErrorKind, what: string, remedy: string]>> = {
  ENOENT: ['input', 'no such file or folder', 'Check the path; relative paths in a recipe start at the recipe file.'],
  ENOTDIR: ['input', 'a part of the path is a file, not a folder', 'Check the path.'],
  EISDIR: ['input', 'is a folder where a file is expected', 'Name the file.'],
  EEXIST: ['input', 'exists already', 'Remove it or choose another name.'],
  EACCES: ['machine', 'permission denied', 'Change the permissions or choose another place.'],
  EPERM: ['machine', 'operation not permitted', 'Change the permissions or choose another place.'],
  EROFS: ['machine', 'the file system is read-only', 'Choose another place.'],
  ENOSPC: ['machine', 'the disk is full', 'Free some space or choose another disk; what was written whole is kept.'],
  EDQUOT: [
    'machine',
    'the disk quota is used up',
    'Free some space or choose another disk; what was written whole is kept.',
  ],
  EMFILE: ['machine', 'too many open files', 'Raise the limit with `ulimit -n`.'],
  ENOMEM: ['machine', 'not enough memory', 'Close other programs or take a smaller batch.'],
};

/** Any thrown value as a {@link PotstillError}: system errors in words, everything else as a bug. */
export function toPotstillError(thrown: unknown): PotstillError {
  if (thrown instanceof PotstillError) return thrown;
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') {
    const known = SYSTEM_ERRORS[thrown.code];
    if (known !== undefined) {
      const [kind, what, remedy] = known;
      const where = 'path' in thrown && typeof thrown.path === 'string' ? thrown.path : undefined;
      return new PotstillError({ code: `ERR_SYSTEM_${thrown.code}`, kind, what, where, remedy, cause: thrown });
    }
  }
  if (thrown instanceof Error && thrown.name === 'AbortError') return interruptedError();
  const what = thrown instanceof Error ? thrown.message : String(thrown);
  return new PotstillError({
    code: 'ERR_INTERNAL',
    kind: 'bug',
    what: `unexpected failure: ${what}`,
    remedy: 'This is a bug in potstill: please report it with the output of `potstill doctor --json`.',
    cause: thrown,
  });
}
