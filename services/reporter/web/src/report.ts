// The report: one page, from the data that it carries.

import "uplot/dist/uPlot.min.css";
import "./report.css";
import { TimeAxis } from "./axis";
import { drawLines, swatch, type Drawn, type LineChart } from "./chart";
import { describeComparison, DifferenceTable, drawComparison } from "./compare";
import { rowsOf, type Actuation, type Data, type Deployment } from "./data";
import { h } from "./dom";
import { brief, duration, instant, number, range, words } from "./format";
import { drawLanes, type LaneChart } from "./lanes";
import { merge } from "./merge";
import { drawCalibration, drawFacts, drawHeader, drawSwitcher, drawTiles, drawVerdict } from "./overview";
import { describeSections, evidenceColour, outcomeColour, type Section } from "./sections";
import { DecisionTable } from "./table";
import { borrowTheme, isDark, setTheme, startTheme } from "./theme";

type Figure = Drawn<LineChart> | Drawn<LaneChart>;

/** Page shows one deployment of the data at a time. */
class Page {
  private shown = "";
  private axis: TimeAxis | undefined;
  private table: DecisionTable | DifferenceTable | undefined;
  private figures = new Map<string, Figure>();
  private sections = "";
  private slots: [HTMLElement, (d: Deployment) => (HTMLElement | null)[]][] = [];
  private readonly state = h("span", { class: "state", role: "status" });

  constructor(private readonly root: HTMLElement, private data: Data) {}

  show(d: Deployment): void {
    // What is shown already stays as its reader left it: zoom, search, hidden lines.
    const again = this.shown === d.name;
    const old = this.figures;
    if (!again) for (const figure of old.values()) figure.destroy();
    const kept = again ? old : new Map<string, Figure>();
    this.shown = d.name;
    this.slots = [];
    this.figures = new Map();
    if (!again || !this.axis) this.axis = new TimeAxis(`tidemark/${this.data.deployments.indexOf(d)}`, d.from_ms, d.to_ms);
    if (!again || !this.table) this.table = d.what_if ? new DifferenceTable(d, d.what_if) : new DecisionTable(d);
    const axis = this.axis;
    const sections = describe(this.data, d);
    this.sections = titles(sections);
    const fresh: Figure[] = [];
    const draw = (f: LineChart | LaneChart): HTMLElement => {
      let figure = kept.get(f.title);
      if (figure) (figure as Drawn<LineChart | LaneChart>).update(f);
      else fresh.push((figure = "lanes" in f ? drawLanes(axis, f) : drawLines(axis, f)));
      this.figures.set(f.title, figure);
      return figure.element;
    };
    this.root.replaceChildren(
      this.bar(d, axis),
      h("main", {},
        this.slot(d, (d) => [drawSwitcher(this.data.deployments, d, (other) => this.show(other)), ...drawTop(d)]),
        h("p", { class: "how" }, "All charts share one time axis in UTC: drag to zoom in, double click to zoom out. Where a pixel stands for several instants, lines keep the lowest and the highest. A broken line " + (d.what_if ? "means" : "and shading mean") + " that nothing is known; nothing missing is drawn as zero."),
        ...sections.map((s) => h("section", {}, h("h2", {}, s.title), ...s.figures.map(draw))),
        d.what_if ? null : this.slot(d, (d) => [drawScatters(d), drawComplaints(this.data, d), drawActuations(d)]),
        this.table.element),
      this.slot(d, () => [h("footer", {}, `Generated ${instant(Date.parse(this.data.generated_at))} UTC by Tidemark. This page is a projection of the log${this.data.live ? ", and follows it." : "; it holds all of its data and makes no network request."}`)]),
    );
    for (const figure of fresh) figure.mount();
    for (const [title, figure] of kept) if (!this.figures.has(title)) figure.destroy();
    axis.extend(d.from_ms, d.to_ms);
    this.table.update(d);
  }

  /** slot is a place whose content is drawn anew with the data. */
  private slot(d: Deployment, draw: (d: Deployment) => (HTMLElement | null)[]): HTMLElement {
    const place = h("div", {}, ...draw(d));
    this.slots.push([place, draw]);
    return place;
  }

  /** update shows what the stream brought. */
  private update(data: Data): void {
    this.data = data;
    const d = data.deployments.find((one) => one.name === this.shown) ?? data.deployments[0];
    if (!d) return;
    const sections = describe(data, d);
    if (d.name !== this.shown || titles(sections) !== this.sections) return this.show(d);
    for (const [place, draw] of this.slots) {
      if (!place.matches(":focus-within")) place.replaceChildren(...draw(d).filter((e) => e !== null));
    }
    for (const f of sections.flatMap((s) => s.figures)) (this.figures.get(f.title) as Drawn<LineChart | LaneChart>).update(f);
    this.axis?.extend(d.from_ms, d.to_ms);
    this.table?.update(d);
  }

  /** listen goes on by the stream of a live page. The browser connects again. */
  private listen(address: string): void {
    const resume = new URLSearchParams(this.data.deployments.map((d) => [d.name, String(d.resume_ms ?? 0)]));
    const stream = new EventSource(`${address}?${resume}`);
    stream.addEventListener("message", (e: MessageEvent<string>) => {
      this.update(merge(this.data, carried(e.data)));
      this.state.textContent = "live";
      this.state.className = "state on";
    });
    stream.addEventListener("error", () => {
      this.state.textContent = "not connected";
      this.state.className = "state off";
    });
  }

  start(): void {
    const first = this.data.deployments[0];
    document.title = this.data.title;
    if (first) this.show(first);
    else this.root.replaceChildren(h("main", {}, h("h1", {}, this.data.title), h("p", {}, `The log holds nothing about ${this.data.live ? "any deployment yet. This page goes on when it does." : "the deployments asked for."}`)));
    if (this.data.live) this.listen(this.data.live);
    if (first) this.follow();
    addEventListener("hashchange", () => this.follow());
    let restore: (() => void) | undefined;
    addEventListener("beforeprint", () => {
      restore = borrowTheme("light");
      this.axis?.each((chart) => chart.setSize({ width: Math.min(chart.width, 680), height: chart.height }));
    });
    addEventListener("afterprint", () => {
      restore?.();
      this.axis?.each((chart) => chart.setSize({ width: chart.root.parentElement!.clientWidth, height: chart.height }));
    });
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
    const other = this.data.deployments.find((d) => d.what_if?.was.ids?.includes(id) || rowsOf(d).some((r) => r.id === id));
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
    return h("div", { class: "bar" }, h("span", { class: "mark" }, "tidemark"), h("b", {}, d.name), shown, this.state, h("span", { class: "spring" }), reset, theme);
  }
}

const describe = (data: Data, d: Deployment): Section[] => (d.what_if ? describeComparison(data, d, d.what_if) : describeSections(data, d));

/** drawTop is what stands above the charts. */
const drawTop = (d: Deployment): (HTMLElement | null)[] => (d.what_if ? drawComparison(d, d.what_if) : [drawHeader(d), drawVerdict(d), drawTiles(d), drawFacts(d)]);

const titles = (sections: Section[]) => JSON.stringify(sections.map((s) => [s.title, s.figures.map((f) => f.title)]));

function drawScatters(d: Deployment): HTMLElement | null {
  const setting = d.settings.at(-1);
  const scatters = [drawCalibration("TTFT", d.score.ttft, setting?.ttft_ms), drawCalibration("ITL", d.score.itl, setting?.itl_ms)].filter((s) => s !== null);
  return scatters.length ? h("section", {}, h("h2", {}, "Calibration"), h("div", { class: "side" }, ...scatters)) : null;
}

/** shownActuations is how many changes are listed before the button that shows all. */
const shownActuations = 12;

/** drawComplaints lists what sources said when they could not say what they were asked. */
function drawComplaints(data: Data, d: Deployment): HTMLElement | null {
  if (!d.complaints?.length) return null;
  return h("section", { class: "listing complaints" },
    h("h2", {}, "What sources lacked"),
    h("p", { class: "caption" }, "What a source said when it could not say what it was asked, the latest first. Texts that differ in figures alone are counted as one."),
    h("div", { class: "table" }, h("table", {},
      h("thead", {}, h("tr", {}, ...["Last, UTC", "Source", "What it said", "Times", "First, UTC"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, ...d.complaints.map((c) => h("tr", {},
        h("td", { class: "time" }, instant(c.last_ms)),
        h("td", { "data-label": "Source" }, h("span", { class: "action" }, swatch({ colour: evidenceColour(data, c.class) }), c.source), h("small", {}, c.class)),
        h("td", { "data-label": "What it said" }, c.error),
        h("td", { "data-label": "Times" }, number(c.count)),
        h("td", { class: "time", "data-label": "First" }, instant(c.first_ms))))))));
}

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
      h("td", { "data-label": "Detail" }, end?.settle_s !== undefined ? `settled in ${duration(end.settle_s)}` : brief(a.detail ?? ""), a.attempt ? h("small", {}, `attempt ${a.attempt}`) : null, a.approved_by ? h("small", {}, `approved by ${brief(a.approved_by)}`) : null),
      h("td", { "data-label": "Decision" }, h("a", { href: "#" + encodeURIComponent(a.decision_id) }, a.decision_id.slice(0, 8))));
  };
  const body = h("tbody", {}, ...attempts.slice(0, shownActuations).map(row));
  const rest = attempts.slice(shownActuations);
  const all = h("button", { type: "button", click: () => {
    body.append(...rest.map(row));
    all.remove();
  } }, `Show all ${number(attempts.length)}`);
  const older = d.actuations_left_out ?? 0;
  return h("section", { class: "listing actuations" },
    h("h2", {}, "Actuations"),
    h("p", { class: "caption" }, "What was done about decisions, newest first.", older > 0 ? ` ${number(older)} older events are not listed.` : null),
    h("div", { class: "table" }, h("table", {},
      h("thead", {}, h("tr", {}, ...["Time, UTC", "Outcome", "Change", "Detail", "Decision"].map((t) => h("th", { scope: "col" }, t)))),
      body)),
    rest.length ? h("div", { class: "pager" }, all) : null);
}

/**
 * carried reads the data of a page. Characters that turn the direction of
 * writing could make text beside them read otherwise than it is; they are shown
 * as what does not belong there.
 */
function carried(json: string): Data {
  return JSON.parse(json.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd")) as Data;
}

startTheme();
new Page(document.getElementById("report")!, carried(document.getElementById("data")!.textContent!)).start();
