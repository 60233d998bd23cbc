/** The page's style: readable in light and dark, prints well, needs no network. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1d2129; --soft: #5c6673; --paper: #fcfbf8; --card: #fff; --rule: #e3dfd6; --copper: #b4552d;
  --s0: #b4552d; --s1: #2a6f97; --s2: #4f772d; --s3: #7b4b94; --s4: #a07c1c; --s5: #5c6673; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e4dc; --soft: #9aa3ad; --paper: #16181c; --card: #1f2227; --rule: #343840; --copper: #e08a5b;
  --s0: #e08a5b; --s1: #7fb8dc; --s2: #9cc476; --s3: #c39bdc; --s4: #d9b95a; --s5: #9aa3ad; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.2rem; }
p { margin: .4rem 0; } .lead, figcaption, .note, .empty { color: var(--soft); }
a { color: var(--copper); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; } .tile.key b { color: var(--copper); }
.tile span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem .4rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; }
.gallery { display: grid; grid-template-columns: minmax(6rem, 11rem) repeat(3, minmax(4rem, 1fr)); gap: .5rem 1rem; align-items: center; }
.gallery .head { position: sticky; top: 0; background: var(--paper); padding: .5rem 0; font-size: .85rem; color: var(--soft); z-index: 1; }
.gallery .head b { display: block; color: var(--ink); font-size: .95rem; }
.gallery img { width: 100%; aspect-ratio: 1; border-radius: .5rem; border: 1px solid var(--rule); background: #fff; display: block; }
.gallery p { font-size: .9rem; } .gallery small { color: var(--soft); display: block; }
.strip { display: flex; flex-wrap: wrap; gap: .75rem; } .strip figure { margin: 0; width: 6.5rem; } .strip img { width: 100%; border-radius: .4rem; border: 1px solid var(--rule); display: block; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--copper); outline-offset: 2px; }
figure.chart { margin: 1rem 0; } figure.chart svg { width: 100%; min-width: 30rem; height: auto; display: block; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font-size: 12px; } .axis { fill: var(--soft); font-size: 13px; } .cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
path.raw { fill: none; stroke-width: 1; opacity: .25; } path.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .88rem; color: var(--soft); } .legend b { color: var(--ink); font-weight: 500; }
.legend i { display: inline-block; width: 1.1rem; height: .2rem; margin-right: .4rem; vertical-align: middle; }
i.s0 { background: var(--s0); } i.s1 { background: var(--s1); } i.s2 { background: var(--s2); } i.s3 { background: var(--s3); } i.s4 { background: var(--s4); } i.s5 { background: var(--s5); }
.good { color: var(--s2); font-weight: 600; } .bad { color: var(--copper); font-weight: 600; }
code, pre { font: .86rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; padding: 1rem; }
details summary { cursor: pointer; color: var(--copper); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 40rem) { body { padding-top: 1.25rem; }
  .gallery { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .35rem .6rem; } .gallery .corner { display: none; } .gallery .head { font-size: .78rem; overflow-wrap: anywhere; }
  .gallery > p { grid-column: 1 / -1; margin: .7rem 0 0; } .gallery > p small { display: inline; margin-left: .5rem; } }
@media print { .gallery .head { position: static; } details:not([open]) > pre { display: none; } }
`;
