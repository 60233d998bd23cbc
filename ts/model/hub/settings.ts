import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../../errors.ts';
import { userCache } from '../user-cache.ts';

/** A model's repository on the Hub. */
export interface Repository {
  /** `OWNER/NAME`. */
  readonly name: string;
  /** A branch, tag or commit. */
  readonly revision: string;
}

/** Where the Hub is and who asks. */
export interface HubSettings {
  /** Without a final slash. */
  readonly url: string;
  /** The cache that all programs of this machine share. */
  readonly cacheDir: string;
  /** None: only what is public. */
  readonly token: string | undefined;
}

const DEFAULT_URL = 'https://huggingface.co';
const PART = '[A-Za-z0-9][A-Za-z0-9._-]{0,95}';
const REPOSITORY = new RegExp(`^(${PART}/${PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{0,254}))?$`);

/**
 * `OWNER/NAME` or `OWNER/NAME@REVISION`; the revision is `main` when it is left out.
 *
 * @throws PotstillError for anything else
 */
export function parseRepository(text: string): Repository {
  const [, name, revision = 'main'] = REPOSITORY.exec(text) ?? [];
  if (name === undefined || text.includes('..')) {
    throw inputError('ERR_HUB_NAME', `${JSON.stringify(text)} is no repository`, {
      remedy: 'Give OWNER/NAME, or OWNER/NAME@REVISION with a branch, tag or commit.',
    });
  }
  return { name, revision };
}

/**
 * What the environment says, by the names that every Hugging Face program reads: `HF_ENDPOINT`, `HF_HUB_CACHE`
 * (`HUGGINGFACE_HUB_CACHE`), `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN` (`HUGGING_FACE_HUB_TOKEN`), else the token that
 * `hf auth login` has left.
 *
 * @throws PotstillError for what is no token
 */
export async function hubSettings(environment: NodeJS.ProcessEnv = process.env): Promise<HubSettings> {
  // Folders and addresses that are set to nothing are none.
  const home = environment['HF_HOME'] || join(userCache(environment), 'huggingface');
  const tokenFile = environment['HF_TOKEN_PATH'] || join(home, 'token');
  const stored = await readFile(tokenFile, 'utf8').catch(() => '');
  const token = (environment['HF_TOKEN'] ?? environment['HUGGING_FACE_HUB_TOKEN'] ?? stored).trim();
  if (token !== '' && !token.startsWith('hf_')) {
    throw inputError('ERR_HUB_REFUSED', 'the token is none of the Hub: those begin with hf_', {
      where: environment['HF_TOKEN'] === undefined ? tokenFile : 'HF_TOKEN',
      remedy: 'Take one from the settings of your account there.',
    });
  }
  return {
    url: (environment['HF_ENDPOINT'] || DEFAULT_URL).replace(/\/+$/, ''),
    cacheDir: environment['HF_HUB_CACHE'] || environment['HUGGINGFACE_HUB_CACHE'] || join(home, 'hub'),
    token: token === '' ? undefined : token,
  };
}
