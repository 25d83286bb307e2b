"""How the report page looks: on a screen, light or dark, wide or narrow, and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1c1e21; --faint: #5b6168; --line: #d9dce0; --band: #f5f6f8;
  --link: #0b57b0; --good: #1a6e3c; --bad: #ab2318; --mark: #fff3d6; --mark-ink: #6b4700;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --ink: #e4e6e9; --faint: #a3a9b1; --line: #383c42; --band: #1f2226;
    --link: #8ab8ff; --good: #7fd19b; --bad: #ff9d91; --mark: #40330f; --mark-ink: #ffd98a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 68rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: 1.9rem; letter-spacing: -.01em; margin: 0 0 .75rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, li, dd { max-width: 46rem; }
p { margin: .5rem 0; }
ul { padding-left: 1.2rem; }
li { margin: .3rem 0; }
a { color: var(--link); text-underline-offset: .15em; }
.note { color: var(--faint); font-size: .875rem; }
.warn {
  background: var(--mark); color: var(--mark-ink); font-weight: 600;
  padding: .05em .35em; border-radius: .25em; -webkit-box-decoration-break: clone; box-decoration-break: clone;
}
code, pre { font: .85em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: 0; padding: .75rem 1rem; background: var(--band); overflow-x: auto; overflow-wrap: normal; }

nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: 1.5rem 0 0; }
nav li { margin: 0; }

.counts { display: grid; grid-template-columns: repeat(6, 1fr); gap: .5rem; margin: 1.25rem 0; padding: 0; }
.counts div {
  display: flex; flex-direction: column-reverse; justify-content: flex-end;
  border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .75rem;
}
.counts dt { color: var(--faint); font-size: .8rem; }
.counts dd { margin: 0; font-size: 1.5rem; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.counts .zero dd { color: var(--faint); font-weight: 400; }
.counts .good dd { color: var(--good); }
.counts .bad dd { color: var(--bad); }

.facts { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; margin: 1.25rem 0; }
.facts dt { color: var(--faint); }
.facts dd { margin: 0; }

.scroll { overflow-x: auto; margin: .75rem 0; }
table {
  border-collapse: separate; border-spacing: 0; font-size: .875rem; line-height: 1.25rem;
  font-variant-numeric: tabular-nums; overflow-wrap: normal;
}
/* Whole pixels: rows at fractions of one hide the lines between their fixed first cells. */
th, td {
  padding: .375rem .875rem .375rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
}
th:last-child, td:last-child { padding-right: .25rem; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; color: var(--faint); font-weight: 600; }
tbody th { font-weight: 600; min-width: 9rem; }
tr > th:first-child { position: sticky; left: 0; background: var(--paper) padding-box; }
.number { text-align: right; white-space: nowrap; }
.kept { white-space: nowrap; }
.settings { min-width: 16rem; }
tr:has(+ .detail) > * { border-bottom: 0; }
.detail > td { padding-top: 0; }
.detail pre { margin-top: .4rem; max-height: 26rem; overflow: auto; }
summary { cursor: pointer; color: var(--link); font-size: .875rem; width: fit-content; }
li details { margin-top: .15rem; }
li pre { max-height: 26rem; overflow: auto; }

figure { margin: 0 0 2.25rem; }
figcaption { color: var(--faint); font-size: .875rem; margin-top: .4rem; max-width: 46rem; }
figure .picture {
  overflow: auto; background: #fff; border: 1px solid var(--line); border-radius: .4rem; padding: .5rem;
}
figure .picture:has(:checked) { max-height: 95vh; }
figure label { display: block; cursor: zoom-in; }
figure input { position: absolute; opacity: 0; }
figure .picture:has(input:focus-visible) { outline: 2px solid var(--link); outline-offset: 2px; }
/* 1.6 pixels of the file per pixel of the page: figures share one scale, and are sharp where a page's pixel is two. */
img { display: block; width: calc(var(--width) / 1.6 * 1px); max-width: 100%; height: auto; margin: 0 auto; }
input:checked + img { width: auto; max-width: none; cursor: zoom-out; }

@media (max-width: 40rem) {
  body { padding-top: 1.5rem; }
  h1 { font-size: 1.5rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .75rem; }
  .counts { grid-template-columns: repeat(3, 1fr); }
  tbody th { min-width: 11rem; overflow-wrap: anywhere; }
}
@media print {
  :root { color-scheme: light; }
  @page { margin: 16mm; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  nav, summary, .detail:not(:has([open])) { display: none; }
  tr:has(+ .detail) > * { border-bottom: 1px solid var(--line); }
  h2, h3 { break-after: avoid; }
  figure, tr, .counts, .facts { break-inside: avoid; }
  figure .picture { border: 0; padding: 0; max-height: none; overflow: visible; }
  img, input:checked + img { width: auto; max-width: 100%; max-height: 20cm; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  thead { display: table-header-group; }
  .number { white-space: normal; }
}
"""
