import { type FilesSummary, summariseFiles } from './files-summary.ts';
import { type ComponentSummary, hasComponents, summariseCache } from './summary.ts';

/** What is in a cache of either layout. */
export type CacheSurvey =
  | { readonly layout: 'shards'; readonly components: readonly ComponentSummary[] }
  | { readonly layout: 'files'; readonly folders: readonly FilesSummary[] };

/**
 * Summarises a cache in shards or, as verification does, one in the files layout where there are no components: a cache may
 * have been exported into a folder of its own.
 *
 * @throws PotstillError as `summariseCache`
 */
export async function surveyCache(dir: string): Promise<CacheSurvey> {
  const folders = (await hasComponents(dir)) ? [] : await summariseFiles(dir);
  if (folders.length > 0) return { layout: 'files', folders };
  return { layout: 'shards', components: await summariseCache(dir) };
}
