"""The style sheet of report.html: sober, for screens light and dark, and for paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d2329; --soft: #5b6670; --paper: #ffffff; --panel: #f5f6f7; --line: #d8dcdf; --accent: #0b5394;
  --bad: #a3320b; --bad-paper: #fdf1ec;
  --c0: #0072b2; --c1: #e08e00; --c2: #009e73; --c3: #b8578f; --c4: #46a3dd; --c5: #c9540a; --c6: #8a8f00;
  --c7: #6b6f76;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7ea; --soft: #9aa5ae; --paper: #15181b; --panel: #1e2226; --line: #363d43; --accent: #7db7e8;
    --bad: #ff9a73; --bad-paper: #33201a;
    --c0: #3d9fdb; --c1: #f0ab35; --c2: #2fc398; --c3: #dd86b6; --c4: #8cc9f2; --c5: #f08446; --c6: #c3c845;
    --c7: #a5aab1;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 2rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 .2rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .3rem; padding-top: .7rem; border-top: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: .35rem 0 .7rem; max-width: 60rem; }
a { color: var(--accent); }
.soft, small { color: var(--soft); }
nav a { margin-right: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } thead th { color: var(--soft); border-bottom: 1.5px solid var(--soft); white-space: nowrap; }
th.text, td.text { text-align: left; } tbody th { text-align: left; font-weight: 400; }
tbody th.wide { font-weight: 600; padding-top: .9rem; } th.wide small { font-weight: 400; }
td.first, th.first { border-left: 1px solid var(--line); }
td.trivial, th.trivial { color: var(--soft); } td.beaten { color: var(--bad); }
td code { display: inline-block; min-width: 13rem; }
.prose td { overflow-wrap: anywhere; min-width: 11rem; } .prose td:nth-child(2) { width: 50%; }
.dense th, .dense td { padding: .2rem .42rem; }
tr.total > * { border-top: 1.5px solid var(--soft); }
b { font-weight: 700; }
code { font: .86em ui-monospace, "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere; }
.note { background: var(--bad-paper); color: var(--bad); border-left: 3px solid currentColor; padding: .35rem .7rem;
  margin: .4rem 0; max-width: 60rem; }
.chart { display: block; width: 100%; max-width: 48rem; height: auto; margin: .4rem 0 .2rem; }
.chart text { font-size: 11.5px; fill: var(--ink); } .chart .axis { stroke: var(--soft); }
.chart .mark { stroke: var(--ink); stroke-width: 1.6; stroke-dasharray: 3 2; }
.key { margin-right: 1.2rem; white-space: nowrap; }
.swatch { display: inline-block; width: .85rem; height: .85rem; margin-right: .4rem; vertical-align: -.1rem; }
.swatch.mark { width: 0; margin-left: .4rem; border-left: 2px dashed var(--ink); }
.series0 { fill: var(--c0); background: var(--c0); } .series1 { fill: var(--c1); background: var(--c1); }
.series2 { fill: var(--c2); background: var(--c2); } .series3 { fill: var(--c3); background: var(--c3); }
.series4 { fill: var(--c4); background: var(--c4); } .series5 { fill: var(--c5); background: var(--c5); }
.series6 { fill: var(--c6); background: var(--c6); } .series7 { fill: var(--c7); background: var(--c7); }
.pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: .9rem; margin: .3rem 0 1rem; }
figure { margin: 0; break-inside: avoid; } figure img { width: 100%; display: block; background: var(--panel); }
figcaption { font-size: .82rem; color: var(--soft); overflow-wrap: anywhere; line-height: 1.35; margin-top: .2rem; }
.ramp { display: inline-block; width: 9rem; height: .7rem; margin: 0 .4rem; vertical-align: -.05rem; }
@media (max-width: 44rem) { body { padding: 1rem; } .pictures { grid-template-columns: 1fr; } }
@media print {
  @page { margin: 14mm; }
  :root { --ink: #000; --soft: #444; --paper: #fff; --panel: #fff; --line: #bbb; --bad-paper: #fff; --bad: #8a2500; }
  html { font-size: 11px; } body { font-size: 11px; padding: 0; max-width: none; } nav { display: none; }
  tr, .note, h2, h3, svg, .frames { break-inside: avoid; } h2, h3 { break-after: avoid; } .scroll { overflow: visible; }
  th, td { padding: .15rem .4rem; } .swatch, .ramp, figure img { print-color-adjust: exact; }
}
"""
