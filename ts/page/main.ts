import type { VerificationReport } from '../cache/report.ts';
import { formatBytes } from '../cli/format.ts';
import { inputError, interruptedError, type PotstillError, toPotstillError } from '../errors.ts';
import { chooseFile, chooseFolder } from './files/choose.ts';
import { takeDrops } from './files/drop.ts';
import { bytesOf, type PickedFolder } from './files/picked.ts';
import { type WalkOptions, walkEntries } from './files/walk.ts';
import type { CacheInput } from './messages.ts';
import { pageRequest } from './request.ts';
import { verifyInWorker } from './run.ts';
import { offeredCache } from './served.ts';
import { byId, foreign, h } from './view/dom.ts';
import { ProgressView } from './view/progress.ts';
import { resultView } from './view/result.ts';

const folderInput = byId<HTMLInputElement>('folder-input');
const progress = new ProgressView();

/** What the user chose so far. */
let cache: CacheInput | undefined;
let images: PickedFolder | undefined;
let models: readonly PickedFolder[] = [];
/** Ends what is under way. */
let current = new AbortController();

/** Does something that takes a while, one thing at a time: what was under way is ended first. */
async function during(label: string, work: (options: WalkOptions) => Promise<void>): Promise<void> {
  current.abort(interruptedError());
  const own = new AbortController();
  current = own;
  byId('failure').hidden = true;
  announce('');
  progress.begin(label);
  try {
    await work({ found: (files) => progress.found(files), signal: own.signal });
    own.signal.throwIfAborted();
  } catch (thrown) {
    const error = toPotstillError(own.signal.aborted ? own.signal.reason : thrown);
    if (error.kind === 'interrupted') announce(`${label}: cancelled`, true);
    else if (current === own) showFailure(error);
  } finally {
    if (current === own) progress.end();
  }
}

/** Lists a folder that was chosen or dropped, and verifies it. */
async function verifyFolder(list: (options: WalkOptions) => Promise<PickedFolder | undefined>): Promise<void> {
  let picked: PickedFolder | undefined;
  await during('Listing files', async (options) => {
    picked = await list(options);
    if (picked?.files.length === 0) {
      throw inputError('ERR_CACHE_MISSING', 'the folder is empty', {
        where: picked.name,
        remedy: "Choose the cache's folder.",
      });
    }
  });
  if (picked === undefined || picked.files.length === 0) return;
  choose(picked, `${picked.files.length} files, ${formatBytes(bytesOf(picked))}`);
  await verify();
}

function choose(chosen: CacheInput, size: string): void {
  cache = chosen;
  byId('chosen').replaceChildren(foreign(chosen.name), size === '' ? '' : `: ${size}`);
  byId('chosen').hidden = size === '';
  byId('drop').classList.add('small');
  byId<HTMLButtonElement>('verify').disabled = false;
}

async function verify(): Promise<void> {
  const chosen = cache;
  if (chosen === undefined) return;
  byId('result').hidden = true;
  await during(`Verifying ${chosen.name}`, async ({ signal }) => {
    const request = pageRequest({ cache: chosen, images, models, ...numbers() });
    const json = await verifyInWorker(request, {
      bytes: (done, total) => progress.set('Verifying', done, total, 'bytes'),
      entries: (done, total) => progress.set('Computing again', done, total, 'entries'),
      signal,
    });
    showReport(chosen.name, JSON.parse(json) as VerificationReport);
  });
}

/** The fields of the options. */
function numbers(): { naming: { version: string; baseSeed: number }; entries: number; nonce: string | undefined } {
  const field = (id: string): string => byId<HTMLInputElement>(id).value.trim();
  const whole = (id: string, what: string): number => {
    const value = Number(field(id));
    if (field(id) !== '' && Number.isSafeInteger(value)) return value;
    throw inputError('ERR_USAGE', `${what} is no whole number`, { remedy: 'Correct it above.' });
  };
  const entries = whole('entries', 'the number of entries');
  if (entries < 1) throw inputError('ERR_USAGE', 'no entry is to be computed again', { remedy: 'Give 1 or more.' });
  const naming = { version: field('name-version'), baseSeed: whole('base-seed', 'the base seed') };
  return { naming, entries, nonce: field('nonce') || undefined };
}

function showReport(name: string, report: VerificationReport): void {
  const result = byId('result');
  result.replaceChildren(...resultView(name, report));
  result.hidden = false;
  announce(`${name}: ${report.verdict}`);
  byId('verdict').focus();
}

function showFailure({ what, where, remedy, code }: PotstillError): void {
  const failure = byId('failure');
  failure.replaceChildren(
    h('p', {}, h('strong', { class: 'bad' }, 'error'), ': ', foreign(what), ' ', h('code', {}, code)),
    where === undefined ? '' : h('p', { class: 'soft' }, 'Where: ', foreign(where)),
    remedy === undefined ? '' : h('p', { class: 'soft' }, 'Do: ', foreign(remedy)),
  );
  failure.hidden = false;
}

/** Tells people who do not see the page; and, of what nothing else shows, everybody. */
function announce(text: string, visible = false): void {
  const status = byId('status');
  status.classList.toggle('unseen', !visible);
  status.textContent = text;
}

/** Lists what was picked, each with a button that removes it. */
function showPicked(list: string, folders: readonly PickedFolder[], remove: (folder: PickedFolder) => void): void {
  const items = folders.map((folder) => {
    const size = folder.files.length === 1 ? formatBytes(bytesOf(folder)) : `${folder.files.length} files`;
    const button = h('button', { type: 'button', class: 'link', click: () => remove(folder) }, 'Remove');
    button.setAttribute('aria-label', `Remove ${folder.name}`);
    return h('li', {}, foreign(folder.name), `: ${size} `, button);
  });
  byId(list).replaceChildren(...items);
}

function setImages(folder: PickedFolder | undefined): void {
  images = folder;
  showPicked('images', folder === undefined ? [] : [folder], () => setImages(undefined));
}

function setModels(folders: readonly PickedFolder[]): void {
  models = folders;
  showPicked('models', folders, (folder) => setModels(models.filter((model) => model !== folder)));
}

/** A button that takes a folder or file. */
function onPick(
  id: string,
  pick: (options: WalkOptions) => Promise<PickedFolder | undefined>,
  take: (folder: PickedFolder) => void,
): void {
  byId(id).addEventListener('click', () =>
    during('Listing files', async (options) => {
      const folder = await pick(options);
      if (folder !== undefined) take(folder);
    }),
  );
}

byId('choose').addEventListener('click', () => verifyFolder((options) => chooseFolder(folderInput, options)));
takeDrops(byId('drop'), { dropped: (entries) => verifyFolder((options) => walkEntries(entries, options)) });
onPick('choose-images', (options) => chooseFolder(folderInput, options), setImages);
onPick(
  'choose-model',
  (options) => chooseFolder(folderInput, options),
  (folder) => setModels([...models, folder]),
);
onPick(
  'choose-model-file',
  () => chooseFile(byId<HTMLInputElement>('file-input')),
  (folder) => setModels([...models, folder]),
);
byId('verify').addEventListener('click', () => verify());
byId('cancel').addEventListener('click', () => current.abort(interruptedError()));

const offered = await offeredCache();
if (offered !== undefined) {
  byId('served').hidden = false;
  byId('served-name').textContent = offered.name;
  byId('verify-served').addEventListener('click', () => {
    choose(offered, '');
    return verify();
  });
}
byId('dead').remove();
byId('app').hidden = false;
