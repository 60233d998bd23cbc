import { PotstillError } from '../errors.ts';
import { formatPath, type Problem } from './problems.ts';

/** A problem with the place where it stands: `recipe.json:12:5`, or the override it came with. */
export interface PlacedProblem extends Problem {
  readonly where: string;
}

/** A recipe that cannot be used, with everything that is wrong with it. */
export class RecipeError extends PotstillError {
  readonly problems: readonly PlacedProblem[];

  /** @param problems at least one, the first being the one that the error is named after */
  constructor(problems: readonly [PlacedProblem, ...PlacedProblem[]]) {
    const [first, ...others] = problems;
    const more = others.map((problem) => `\n    ${describePlace(problem)}: ${problem.what}. ${problem.remedy}`);
    super({
      code: first.code,
      kind: 'input',
      what: first.what,
      where: describePlace(first),
      remedy: more.length === 0 ? first.remedy : `${first.remedy}\n  also:${more.join('')}`,
    });
    this.problems = problems;
  }

  override toJSON(): ReturnType<PotstillError['toJSON']> & { problems: object[] } {
    const problems = this.problems.map(({ code, path, key, what, where, remedy }) => ({
      code,
      path: formatPath(key === undefined ? path : [...path, key]),
      what,
      where,
      remedy,
    }));
    return { ...super.toJSON(), problems };
  }
}

function describePlace({ where, path, key }: PlacedProblem): string {
  const full = formatPath(key === undefined ? path : [...path, key]);
  return full === '' ? where : `${where} (${full})`;
}
