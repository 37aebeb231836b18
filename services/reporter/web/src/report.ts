// The report: one page, from the data that it carries.

import "uplot/dist/uPlot.min.css";
import "./report.css";
import { TimeAxis } from "./axis";
import { swatch, mountCharts } from "./chart";
import { rowsOf, type Actuation, type Data, type Deployment } from "./data";
import { h } from "./dom";
import { brief, duration, instant, number, range, words } from "./format";
import { drawCalibration, drawFacts, drawHeader, drawSwitcher, drawTiles, drawVerdict } from "./overview";
import { drawSections, outcomeColour } from "./sections";
import { DecisionTable } from "./table";
import { borrowTheme, isDark, setTheme, startTheme } from "./theme";

/** Page shows one deployment of the data at a time. */
class Page {
  private axis: TimeAxis | undefined;
  private table: DecisionTable | undefined;

  constructor(private readonly root: HTMLElement, private readonly data: Data) {}

  show(d: Deployment): void {
    this.axis?.each((chart) => chart.destroy());
    const rows = rowsOf(d.decisions);
    const axis = (this.axis = new TimeAxis(`tidemark/${this.data.deployments.indexOf(d)}`, d.from_ms, d.to_ms));
    const table = (this.table = new DecisionTable(d, rows));
    const setting = d.settings.at(-1);
    const scatters = [drawCalibration("TTFT", d.score.ttft, setting?.ttft_ms), drawCalibration("ITL", d.score.itl, setting?.itl_ms)].filter((s) => s !== null);
    this.root.replaceChildren(
      this.bar(d, axis),
      h("main", {},
        drawSwitcher(this.data.deployments, d, (other) => this.show(other)),
        drawHeader(d),
        drawVerdict(d),
        drawTiles(d),
        drawFacts(d),
        h("p", { class: "how" }, "All charts share one time axis in UTC: drag to zoom in, double click to zoom out. Where a pixel stands for several instants, lines keep the lowest and the highest. A broken line and shading mean that nothing is known; nothing missing is drawn as zero."),
        ...drawSections(axis, this.data, d, rows),
        scatters.length ? h("section", {}, h("h2", {}, "Calibration"), h("div", { class: "side" }, ...scatters)) : null,
        drawActuations(d),
        table.element),
      h("footer", {}, `Generated ${instant(Date.parse(this.data.generated_at))} UTC by Tidemark. This page is a projection of the log; it holds all of its data and makes no network request.`),
    );
    mountCharts();
  }

  start(): void {
    const first = this.data.deployments[0];
    document.title = this.data.title;
    if (!first) {
      this.root.replaceChildren(h("main", {}, h("h1", {}, this.data.title), h("p", {}, "The log holds nothing about the deployments asked for.")));
      return;
    }
    this.show(first);
    this.follow();
    addEventListener("hashchange", () => this.follow());
    let restore: (() => void) | undefined;
    addEventListener("beforeprint", () => {
      restore = borrowTheme("light");
      this.axis?.each((chart) => chart.setSize({ width: Math.min(chart.width, 680), height: chart.height }));
    });
    addEventListener("afterprint", () => restore?.());
  }

  /** follow opens the decision that the address names, in any deployment. */
  private follow(): void {
    let id = "";
    try {
      id = decodeURIComponent(location.hash.slice(1));
    } catch {
      return; // An address that is not well formed names no decision.
    }
    if (!id || this.table?.reveal(id)) return;
    const other = this.data.deployments.find((d) => d.decisions.ids?.includes(id));
    if (!other) return;
    this.show(other);
    this.table?.reveal(id);
  }

  private bar(d: Deployment, axis: TimeAxis): HTMLElement {
    const shown = h("span", { class: "range" });
    const reset = h("button", { type: "button", click: () => axis.reset() }, "Reset zoom");
    const update = () => {
      shown.textContent = axis.zoomed ? `${range(axis.min, axis.max)} UTC` : this.data.title;
      reset.hidden = !axis.zoomed;
    };
    axis.onChange(update);
    update();
    const theme = h("button", { type: "button", class: "theme", "aria-label": "Light or dark", click: () => {
      setTheme(isDark() ? "light" : "dark");
      theme.textContent = isDark() ? "Light" : "Dark";
    } }, isDark() ? "Light" : "Dark");
    return h("div", { class: "bar" }, h("span", { class: "mark" }, "tidemark"), h("b", {}, d.name), shown, h("span", { class: "spring" }), reset, theme);
  }
}

/** shownActuations is how many changes are listed before the button that shows all. */
const shownActuations = 12;

/** drawActuations lists the attempts to act, each with what became of it. */
function drawActuations(d: Deployment): HTMLElement | null {
  if (d.actuations.length === 0) return null;
  const settled = new Map(d.actuations.filter((a) => a.outcome === "settled").map((a) => [a.decision_id, a]));
  const applied = new Set(d.actuations.filter((a) => a.outcome === "applied").map((a) => a.decision_id));
  const attempts = d.actuations.filter((a) => a.outcome !== "settled" || !applied.has(a.decision_id)).reverse();
  const row = (a: Actuation) => {
    const end = a.outcome === "applied" ? settled.get(a.decision_id) : a;
    return h("tr", {},
      h("td", { class: "time" }, instant(a.at_ms)),
      h("td", { "data-label": "Outcome" }, h("span", { class: "action" }, swatch({ colour: outcomeColour(a.outcome) }), a.outcome), a.reason ? h("small", {}, brief(words(a.reason))) : null),
      h("td", { "data-label": "Change", class: "move" }, ...d.roles.flatMap((r) => (a.roles?.[r] ? [h("span", {}, h("i", {}, r), `${a.roles[r].from} \u2192 ${a.roles[r].to}`)] : []))),
      h("td", { "data-label": "Detail" }, end?.settle_s !== undefined ? `settled in ${duration(end.settle_s)}` : brief(a.detail ?? ""), a.attempt ? h("small", {}, `attempt ${a.attempt}`) : null),
      h("td", { "data-label": "Decision" }, h("a", { href: "#" + encodeURIComponent(a.decision_id) }, a.decision_id.slice(0, 8))));
  };
  const body = h("tbody", {}, ...attempts.slice(0, shownActuations).map(row));
  const rest = attempts.slice(shownActuations);
  const all = h("button", { type: "button", click: () => {
    body.append(...rest.map(row));
    all.remove();
  } }, `Show all ${number(attempts.length)}`);
  const older = d.actuations_left_out ?? 0;
  return h("section", { class: "decisions actuations" },
    h("h2", {}, "Actuations"),
    h("p", { class: "caption" }, "What was done about decisions, newest first.", older > 0 ? ` ${number(older)} older events are not listed.` : null),
    h("div", { class: "table" }, h("table", {},
      h("thead", {}, h("tr", {}, ...["Time, UTC", "Outcome", "Change", "Detail", "Decision"].map((t) => h("th", { scope: "col" }, t)))),
      body)),
    rest.length ? h("div", { class: "pager" }, all) : null);
}

/**
 * carried reads the data of the page. Characters that turn the direction of
 * writing could make text beside them read otherwise than it is; they are shown
 * as what does not belong there.
 */
function carried(): Data {
  return JSON.parse(document.getElementById("data")!.textContent!.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd")) as Data;
}

startTheme();
new Page(document.getElementById("report")!, carried()).start();
