// A what-if: what was decided, and what a candidate would have decided on the
// same observations, side by side.

import { line, swatch, type LineChart, type Mark } from "./chart";
import { takeApart, type Data, type Deployment, type Row, type Setting, type Shape, type Span, type Stretch, type WhatIf } from "./data";
import { h } from "./dom";
import { brief, clock, instant, number, percent, range, words } from "./format";
import type { Bar, LaneChart } from "./lanes";
import { actionColour, limit, marksOf, missing, type Section } from "./sections";
import { explain } from "./table";
import type { Colour } from "./theme";

/** actions are the values of spans of actions. */
const actions = ["hold", "scale_down", "rebalance", "scale_up"];

const minus = "\u2212";

/** drawComparison is what stands above the charts. */
export function drawComparison(d: Deployment, w: WhatIf): HTMLElement[] {
  const same = w.different === 0;
  const header = h("header", { class: "deployment" },
    h("h1", {}, brief(d.name), " ", h("span", { class: "badge advisory" }, "what if")),
    h("p", { class: "lead" }, `What was decided, and what the candidate would have decided on the same ${number(w.decisions)} observations. `,
      h("span", { class: "whole" }, `${range(d.from_ms, d.to_ms)} UTC`)));
  const verdict = h("section", { class: `verdict compared ${same ? "ready" : "in_operation"}`, "aria-label": "Comparison" },
    h("div", { class: "answer" },
      h("p", { class: "eyebrow" }, "Would it have decided otherwise?"),
      h("p", { class: "word" }, same ? "No" : `In ${percent(w.different / Math.max(w.decisions, 1))}`),
      h("p", {}, same ? "Every target is the same." : `${number(w.different)} of ${number(w.decisions)} targets differ, the first at ${instant(w.first_different_ms!)} UTC.`),
      drawLimits(w)),
    h("table", {},
      h("thead", {}, h("tr", {}, h("td", {}), ...["Decided", "Candidate", "Change"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, ...w.figures.map((f) => {
        const by = (f.candidate - f.decided).toFixed(f.decimals);
        const none = Number(by) === 0;
        return h("tr", {},
          h("th", { scope: "row" }, f.name),
          h("td", {}, f.decided.toFixed(f.decimals)),
          h("td", {}, f.candidate.toFixed(f.decimals)),
          h("td", { class: none ? "none" : "value" }, none ? "=" : by.startsWith("-") ? minus + by.slice(1) : "+" + by));
      }))));
  return [header, verdict];
}

/** drawLimits says what the comparison cannot show. */
function drawLimits(w: WhatIf): HTMLElement {
  const findings = w.findings
    ? [`${number(w.findings)} of the recorded decisions ${w.findings === 1 ? "is" : "are"} not what this build decides, or not what was written: \u201cdecided\u201d is what this build decides. tidemark replay names them.`]
    : [];
  return h("div", { class: "limits" },
    w.parted_ms === undefined
      ? h("p", {}, "The fleet stood where the candidate wanted it all the time: what it saw is what it would have seen.")
      : h("p", {}, h("b", { class: "c-red" }, "The recorded fleet did not follow the candidate."), " Where it stood elsewhere, charts are shaded."),
    h("ul", {}, ...[...findings, ...w.notes].map((n) => h("li", {}, sentence(brief(n, 400))))));
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll(" %", "\u202f%") + (text.endsWith(".") ? "" : ".");

function stretches(spans: Span[] | undefined): Stretch[] {
  return (spans ?? []).filter((s) => s.value > 0).map((s) => ({ from: s.from_ms, to: s.to_ms }));
}

function bars(spans: Span[] | undefined, colour: Colour, label: string): Bar[] {
  return stretches(spans).map((s) => ({ ...s, colour, label }));
}

function actionBars(spans: Span[] | undefined): Bar[] {
  return (spans ?? []).map((s) => {
    const action = actions[s.value] ?? "hold";
    return { from: s.from_ms, to: s.to_ms, colour: actionColour(action), label: words(action) };
  });
}

function bounds(settings: Setting[], role: "prefill" | "decode" | "aggregated"): string {
  const b = settings.at(-1)?.roles[role];
  return b ? `${b.min} to ${b.max}` : "unknown";
}

/** describeComparison says which figures a what-if has, under their headings. */
export function describeComparison(data: Data, d: Deployment, w: WhatIf): Section[] {
  const marks: Mark[] = marksOf(d);
  const apart = stretches(w.spans.candidate_apart);
  const lines = (c: Omit<LineChart, "marks" | "height">, height = 210): LineChart => ({ ...c, marks, height });
  const lanes = (c: Omit<LaneChart, "marks">): LaneChart => ({ ...c, marks });
  const shaded = apart.length ? " Shaded: the fleet was set to something else than the candidate wanted." : "";
  const candidate = { ...d, settings: w.settings };

  const replicas = d.roles.map((role) => {
    const was = bounds(d.settings, role);
    const would = bounds(w.settings, role);
    return lines({
      title: d.roles.length > 1 ? `Replicas: ${role}` : "Replicas",
      unit: "replicas",
      whole: true,
      caption: `What the fleet was set to, what was decided, and what the candidate would have decided. Bounds: ${was === would ? was : `${was} as configured, ${would} of the candidate`}.${shaded}`,
      lines: [
        ...line(d.fleet, `desired.${role}`, { label: "set", colour: "sky", width: 5.5, stepped: true }),
        ...line(d.decided, `target.${role}`, { label: "decided", colour: "orange", width: 3, stepped: true }),
        ...line(w.decided, `target.${role}`, { label: "candidate", colour: "purple", width: 1.5, stepped: true }),
      ],
      missing: apart,
    });
  });

  const gpus = lines({
    title: "GPUs",
    unit: "GPUs",
    whole: true,
    caption: "GPUs of what the fleet was set to and of both series, within the candidate's budget. The area between the two is what the candidate would have added or saved." + shaded,
    lines: [
      ...line(d.decided, "gpus_set", { label: "set", colour: "sky", width: 5.5, stepped: true }),
      ...line(d.decided, "gpus_recommended", { label: "decided", colour: "orange", width: 3, stepped: true }),
      ...line(w.decided, "gpus_recommended", { label: "candidate", colour: "purple", width: 1.5, stepped: true }),
      ...limit(candidate, "candidate's budget", (s) => s.max_gpus),
    ],
    missing: apart,
  }, 180);

  const noTraffic = missing(data, d.evidence["traffic"]);
  const forecasts = lines({
    title: "Request rate",
    unit: "requests/s",
    caption: "As observed, and as each forecast it for the same window one interval before. Shaded: traffic was not measured.",
    lines: [
      ...line(d.traffic, "rps", { label: "observed", colour: "blue", width: 2 }),
      ...line(d.forecasts, "rps", { label: "forecast, decided", colour: "orange", dash: [5, 3] }),
      ...line(w.forecasts, "rps", { label: "forecast, candidate", colour: "purple", dash: [2, 3] }),
    ],
    missing: noTraffic,
  });
  const latency = (title: string, name: "ttft" | "itl", of: (s: Setting) => number) => lines({
    title,
    unit: "ms",
    caption: "As users saw it, and as the models of each expected it of the busiest engine. The limits are those of each SLA. Shaded: not measured.",
    lines: [
      ...line(d.decided, `${name}_est_ms`, { label: "estimated, decided", colour: "orange", width: 1 }),
      ...line(w.decided, `${name}_est_ms`, { label: "estimated, candidate", colour: "purple", width: 1 }),
      ...line(d.traffic, `${name}_mean_ms`, { label: "observed mean", colour: "blue", width: 2 }),
      ...limit(d, "SLA", of, { colour: "orange" }),
      ...limit(candidate, "candidate's SLA", of, { colour: "purple" }),
    ],
    missing: noTraffic,
  });

  return [
    { title: "Both series", figures: [...replicas, gpus] },
    {
      title: "Where they part",
      figures: [lanes({
        title: "Decisions and the fleet over time",
        caption: "What each decided, when their targets differ, and when the fleet was set to something else than each had wanted. From the first bar of the last lane on, the candidate answers to a fleet that it would not have had.",
        lanes: [
          { label: "decided", bars: actionBars(w.spans.decided) },
          { label: "candidate", bars: actionBars(w.spans.candidate) },
          { label: "targets differ", bars: bars(w.spans.differ, "purple", "the targets differ") },
          { label: "the fleet stood elsewhere than decided", bars: bars(w.spans.decided_apart, "red", "set to something else") },
          { label: "the fleet stood elsewhere than the candidate wanted", bars: bars(w.spans.candidate_apart, "red", "set to something else") },
        ],
        legend: [{ label: "up", colour: "blue" }, { label: "down", colour: "orange" }, { label: "rebalance, differ", colour: "purple" }, { label: "elsewhere", colour: "red" }, { label: "hold", colour: "faint" }],
      })],
    },
    {
      title: "What both saw",
      figures: [forecasts, latency("TTFT: time to first token", "ttft", (s) => s.ttft_ms), latency("ITL: inter-token latency", "itl", (s) => s.itl_ms)],
    },
  ];
}

const pageSize = 50;

/** Pair is both decisions on one observation. */
interface Pair {
  was: Row;
  would: Row;
}

/** DifferenceTable lists the instants at which the targets differ, oldest first. */
export class DifferenceTable {
  readonly element: HTMLElement;
  private readonly body = h("tbody");
  private readonly status = h("p", { class: "status", role: "status" });
  private readonly pager = h("div", { class: "pager" });
  private groups: Pair[][] = [];
  private page = 0;
  private open = "";

  constructor(private readonly d: Deployment, private readonly w: WhatIf) {
    const left = w.was.left_out;
    this.element = h("section", { class: "listing differences" },
      h("h2", {}, "Targets that differ"),
      h("p", { class: "caption" }, "Oldest first; instants in a row at which both decide as before are one row. A row opens to the chains of both.",
        left ? ` ${number(left)} later ones are not listed, because there are too many. The figures above count them.` : null),
      this.status,
      h("div", { class: "table" }, h("table", {},
        h("thead", {}, h("tr", {}, ...["Time, UTC", "Set", "Decided", "Candidate", "Load loop", "Throughput loop"].map((t) => h("th", { scope: "col" }, t)))),
        this.body)),
      this.pager);
    this.group();
  }

  /** group joins neighbours that say the same, but for one that is open. */
  private group(): void {
    const would = takeApart(this.w.would);
    const pairs = takeApart(this.w.was).map((was, i): Pair => ({ was, would: would[i]! }));
    const key = (p: Pair) => JSON.stringify([p.was.shape, p.would.shape].map((s: Shape) => [s.mode, s.action, s.desired, s.target, s.reasons.load]));
    let last = "";
    this.groups = [];
    for (const pair of pairs) {
      const k = key(pair);
      const alone = this.open === pair.was.id || this.groups.at(-1)?.[0]?.was.id === this.open;
      if (k === last && !alone) this.groups.at(-1)!.push(pair);
      else this.groups.push([pair]);
      last = k;
    }
    this.status.textContent = pairs.length === 0 ? "" : this.groups.length === pairs.length ? `${number(pairs.length)} instants` : `${number(pairs.length)} instants in ${number(this.groups.length)} rows`;
    this.draw();
  }

  /** reveal opens an instant by the decision that was made; it reports whether it is listed. */
  reveal(id: string): boolean {
    if (!this.w.was.ids?.includes(id)) return false;
    this.open = id;
    this.group();
    this.page = Math.floor(this.groups.findIndex((g) => g[0]!.was.id === id) / pageSize);
    this.draw();
    this.body.querySelector(`[id="${CSS.escape(id)}"]`)?.scrollIntoView({ block: "center" });
    return true;
  }

  /** update does nothing: a what-if is not live. */
  update(): void {}

  private draw(): void {
    const pages = Math.max(1, Math.ceil(this.groups.length / pageSize));
    this.body.replaceChildren(...this.groups.slice(this.page * pageSize, (this.page + 1) * pageSize).flatMap((g) => this.line(g)));
    if (this.groups.length === 0) this.body.append(h("tr", {}, h("td", { colspan: "6", class: "nothing" }, "Every target is the same.")));
    const turn = (label: string, to: number) => h("button", { type: "button", disabled: to < 0 || to >= pages, click: () => {
      this.page = to;
      this.draw();
    } }, label);
    this.pager.replaceChildren(turn("Older", this.page - 1), h("span", {}, `Page ${this.page + 1} of ${number(pages)}`), turn("Newer", this.page + 1));
    this.pager.hidden = pages === 1;
  }

  private line(group: Pair[]): HTMLElement[] {
    const { was, would } = group[0]!;
    const isOpen = this.open === was.id;
    const toggle = () => {
      this.open = isOpen ? "" : was.id;
      this.draw();
      this.body.querySelector<HTMLElement>(`[id="${CSS.escape(was.id)}"] button`)?.focus();
    };
    const several = this.d.roles.length > 1;
    const set = this.d.roles.map((role) => h("span", {}, several ? h("i", {}, role) : "", String(was.shape.desired?.[role] ?? "?")));
    const target = (row: Row) => [
      h("div", { class: "action" }, swatch({ colour: actionColour(row.shape.action) }), words(row.shape.action)),
      ...this.d.roles.map((role) => h("span", { class: row.shape.target?.[role] === (row === was ? would : was).shape.target?.[role] ? "" : "differs" }, several ? h("i", {}, role) : "", String(row.shape.target?.[role] ?? "?"))),
      ...(row.shape.warnings ?? []).map((warning) => h("small", { class: "warn" }, brief(words(warning)))),
    ];
    const reason = (loop: "load" | "throughput") => {
      const [a, b] = [was.shape.reasons[loop], would.shape.reasons[loop]];
      return a === b ? [brief(words(a))] : [h("span", {}, h("i", {}, "decided"), brief(words(a))), h("span", {}, h("i", {}, "candidate"), brief(words(b)))];
    };
    const line = h("tr", { id: was.id, class: isOpen ? "pair open" : "pair" },
      h("td", { class: "time" },
        h("button", { type: "button", class: "toggle", "aria-expanded": String(isOpen), "aria-label": "Show both chains", click: toggle }, isOpen ? minus : "+"),
        h("a", { href: "#" + encodeURIComponent(was.id) }, instant(was.at)),
        group.length > 1 ? h("small", {}, `to ${clock(group.at(-1)!.was.at)}, ${number(group.length)} alike`) : null),
      h("td", { "data-label": "Set", class: "move" }, ...set),
      h("td", { "data-label": "Decided", class: "move" }, ...target(was)),
      h("td", { "data-label": "Candidate", class: "move" }, ...target(would)),
      h("td", { "data-label": "Load", class: "both" }, ...reason("load")),
      h("td", { "data-label": "Throughput", class: "both" }, ...reason("throughput")));
    if (!isOpen) return [line];
    return [line, h("tr", { class: "detail" }, h("td", { colspan: "6" }, h("div", { class: "side" },
      h("div", {}, h("h3", {}, "Decided"), explain(this.d, was)),
      h("div", {}, h("h3", {}, "Candidate"), explain(this.d, would)))))];
  }
}
