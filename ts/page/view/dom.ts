type Child = Node | string | number | null | undefined | readonly Child[];

/** Properties of an element; `class`, `data-…` and `aria-…` by their names in HTML, the rest as properties. */
type Properties = Readonly<Record<string, string | number | boolean | ((event: Event) => void)>>;

/** Makes an element. Whatever text it is given stays text: what stands in a report is a stranger's. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(key, value);
    else if (typeof value === 'boolean') element.toggleAttribute(key, value);
    else element.setAttribute(key, String(value));
  }
  append(element, children);
  return element;
}

function append(element: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined) continue;
    if (typeof child === 'string' || typeof child === 'number' || child instanceof Node)
      element.append(child as string);
    else append(element, child);
  }
}

/** The element of index.html with an id. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element ${id}`);
  return element as E;
}

/** Text of a stranger: it keeps its direction to itself. */
export function foreign(text: string): HTMLElement {
  return h('bdi', {}, text);
}

/** What may be wider than a narrow page: reached and scrolled with the keyboard too. */
export function scrolling(label: string, content: HTMLElement): HTMLElement {
  return h('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: 0 }, content);
}

/** A table with a row of headings; numbers stand at the right. */
export function table(
  headings: readonly string[],
  rows: readonly (readonly Child[])[],
  numbers: readonly number[] = [],
): HTMLTableElement {
  const style = (column: number): Properties => (numbers.includes(column) ? { class: 'number' } : {});
  return h(
    'table',
    {},
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        headings.map((text, column) => h('th', { scope: 'col', ...style(column) }, text)),
      ),
    ),
    h(
      'tbody',
      {},
      rows.map((row) =>
        h(
          'tr',
          {},
          row.map((cell, column) => h('td', style(column), cell)),
        ),
      ),
    ),
  );
}
