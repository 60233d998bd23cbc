import { inputError } from '../../errors.ts';

/** What of a repository is wanted. */
export interface FileChoice {
  /** One file, by its path: a single-file checkpoint among several. */
  readonly file?: string | undefined;
  /** `fp16` or `bf16`: the smaller weights where there are such. */
  readonly variant?: string | undefined;
}

/** Components of a diffusers model that potstill reads. */
const COMPONENTS = ['unet', 'vae', 'text_encoder', 'text_encoder_2'];
/** Folders of a diffusers model without weights. */
const SMALL = ['scheduler', 'tokenizer', 'tokenizer_2'];
/** Stems of weight files, and the endings of their indices. */
const WEIGHTS = /^(diffusion_pytorch_model|model)((?:-\d+-of-\d+)?)((?:\.[a-z0-9]+)?)((?:-\d+-of-\d+)?)\.safetensors$/;
const INDEX = /^(diffusion_pytorch_model|model)\.safetensors\.index((?:\.[a-z0-9]+)?)\.json$/;

/**
 * Which files of a repository to download: of a diffusers folder the small files and one set of weights per component
 * (safetensors only), else the single file.
 *
 * @throws PotstillError when there is nothing to read, or several single files and none is named
 */
export function chooseFiles(paths: readonly string[], { file, variant }: FileChoice, where: string): readonly string[] {
  if (file !== undefined) {
    if (paths.includes(file)) return [file];
    throw inputError('ERR_HUB_NOT_FOUND', `has no file ${file}`, { where, remedy: listed(singleFiles(paths)) });
  }
  if (paths.includes('model_index.json')) return ofFolder(paths, variant, where);
  const files = singleFiles(paths);
  const [only] = files;
  if (only !== undefined && files.length === 1) return [only];
  const what = only === undefined ? 'has neither a diffusers model nor safetensors files' : 'has several checkpoints';
  throw inputError('ERR_HUB_NOT_A_MODEL', what, {
    where,
    remedy: only === undefined ? 'Weights in pickle (.bin, .ckpt) are not read.' : listed(files),
  });
}

function singleFiles(paths: readonly string[]): readonly string[] {
  return paths.filter((path) => path.endsWith('.safetensors') && !path.includes('/'));
}

function listed(files: readonly string[]): string {
  return files.length === 0 ? 'It has no safetensors file.' : `Choose one with --file: ${files.join(', ')}.`;
}

function ofFolder(paths: readonly string[], variant: string | undefined, where: string): readonly string[] {
  const within = (folder: string): readonly string[] =>
    paths.filter((path) => path.startsWith(`${folder}/`) && !path.slice(folder.length + 1).includes('/'));
  const chosen = ['model_index.json', ...SMALL.flatMap((folder) => within(folder).filter(isSmall))];
  for (const component of COMPONENTS) {
    const files = within(component);
    if (files.length === 0) continue;
    const weights = weightSet(files, component, variant);
    if (weights.length === 0) {
      throw inputError('ERR_HUB_NOT_A_MODEL', `${component} has no safetensors weights`, {
        where,
        remedy: 'Weights in pickle (.bin) are not read: look for another revision or repository of the model.',
      });
    }
    chosen.push(...files.filter((path) => path.endsWith('/config.json')), ...weights);
  }
  return chosen;
}

/** Tokenizers and schedulers: text files only. */
function isSmall(path: string): boolean {
  return path.endsWith('.json') || path.endsWith('.txt');
}

/** The wanted variant of a component's weights when there is one, else the plain ones, else any. */
function weightSet(files: readonly string[], component: string, variant: string | undefined): readonly string[] {
  const sets = new Map<string, string[]>();
  for (const path of files) {
    const name = path.slice(component.length + 1);
    const kind = WEIGHTS.exec(name)?.[3] ?? INDEX.exec(name)?.[2];
    if (kind !== undefined) sets.set(kind, [...(sets.get(kind) ?? []), path]);
  }
  const wanted = variant === undefined ? undefined : sets.get(`.${variant}`);
  return wanted ?? sets.get('') ?? [...sets.values()][0] ?? [];
}
