import { expect, test } from 'vitest';
import { escapeHtml, Html, html } from './html.ts';

test('interpolated text is escaped, Html is not, lists are joined', () => {
  const items = ['a<b', 'c&d'].map((item) => html`<li>${item}</li>`);
  expect(html`<ul title="${'"quoted"'}">${items}${null}</ul>`.text).toBe(
    '<ul title="&quot;quoted&quot;"><li>a&lt;b</li><li>c&amp;d</li></ul>',
  );
  expect(html`${new Html('<b>')}${3}`.text).toBe('<b>3');
  expect(escapeHtml("it's")).toBe('it&#39;s');
});
