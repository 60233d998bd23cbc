import { basename } from 'node:path';

/**
 * A name for each data entry, by which its losses are logged: its folder's, with its place in the recipe where two
 * folders are called the same. No two names are alike.
 *
 * @param folders the folders of the entries, in the recipe's order
 */
export function setNames(folders: readonly string[]): readonly string[] {
  const names = folders.map((folder) => basename(folder));
  const taken = new Set(names);
  return names.map((name, index) => {
    if (names.indexOf(name) === names.lastIndexOf(name)) return name;
    let unique = name;
    while (taken.has(unique)) unique += `-${index}`; // another folder may be called x-0 in truth
    taken.add(unique);
    return unique;
  });
}
