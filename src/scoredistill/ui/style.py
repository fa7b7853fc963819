"""How the page looks: system fonts, light and dark, one column on a phone."""

CSS = """
.gradio-container > main, .gradio-container > .main { max-width: 1400px; width: 100%; margin: 0 auto; }
button[role=tab] { padding: .5rem .75rem !important; }
:root { --sd-quiet: #4b5563; }
.dark { --sd-quiet: #a8b0bd; }
.sd-title h1 { font-size: 1.4rem; margin: 0; }
.sd-title p { margin: 0.1rem 0 0; color: var(--sd-quiet); }
#sd-run { position: sticky; top: 0; align-self: flex-start; }
#sd-run h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .4rem; overflow-wrap: anywhere; }
#sd-run p { margin: .2rem 0; }
.sd-badge { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-weight: 600; font-size: .85em;
  background: #e5e7eb; color: #1f2937; }
.sd-badge.sd-running { background: #dbeafe; color: #1e3a8a; }
.sd-badge.sd-finished { background: #d1fae5; color: #065f46; }
.sd-badge.sd-failed { background: #fee2e2; color: #991b1b; }
.sd-badge.sd-stopped, .sd-badge.sd-interrupted { background: #fef3c7; color: #92400e; }
.sd-note { border-left: 3px solid #d97706; padding-left: .6rem; }
.sd-error { border-left: 3px solid #dc2626; padding-left: .6rem; font-weight: 600; }
.sd-empty { color: var(--sd-quiet); padding: 3rem 1rem; text-align: center;
  border: 1px dashed var(--border-color-primary); border-radius: var(--radius-lg); }
.sd-hint { text-align: center; color: var(--sd-quiet); }
.sd-step { color: var(--sd-quiet); font-variant-numeric: tabular-nums; }
.sd-bar { height: .6rem; border-radius: .3rem; overflow: hidden; background: var(--border-color-primary); }
.sd-bar > div { height: 100%; background: var(--color-accent); transition: width .4s; }
.sd-bar.sd-unknown > div { width: 30% !important; animation: sd-wait 1.4s infinite alternate ease-in-out; }
@keyframes sd-wait { from { margin-left: 0; } to { margin-left: 70%; } }
@media (prefers-reduced-motion: reduce) { .sd-bar > div { animation: none !important; transition: none; } }
.sd-images { display: flex; flex-wrap: wrap; gap: .8rem; justify-content: center; }
.sd-images figure { margin: 0; flex: 1 1 240px; max-width: 100%; text-align: center; }
.sd-images figure img, .sd-images figure video { width: 100%; max-height: 70vh; object-fit: contain;
  border-radius: var(--radius-lg); background: var(--background-fill-secondary); margin: 0; }
.sd-images figcaption { font-size: .9em; color: var(--sd-quiet); margin-top: .2rem; }
.sd-many { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); }
.sd-many figure { max-width: 340px; margin: 0 auto; width: 100%; }
.sd-blank { aspect-ratio: 1; border: 1px dashed var(--border-color-primary); border-radius: var(--radius-lg); }
.sd-files { columns: 2; padding-left: 1.2rem; overflow-wrap: anywhere; }
#sd-run details { margin-top: .6rem; }
#sd-run summary { cursor: pointer; }
#sd-run details img { max-width: 100%; }
#sd-history .grid-wrap { min-height: 0; height: auto; max-height: none; }
#sd-history .grid-container { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)) !important; }
#sd-history .caption-label { max-width: 100%; white-space: normal; font-size: .85em; line-height: 1.25; }
footer { display: none !important; }
@media (max-width: 700px) {
  #sd-run { position: static; }
  .sd-files { columns: 1; }
  .gradio-container > main { padding: .5rem !important; }
}
"""
SHOW_RUN = "() => { document.getElementById('sd-run').scrollIntoView({behavior: 'smooth', block: 'start'}); }"
