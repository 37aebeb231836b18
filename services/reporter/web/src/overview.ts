// What stands above the charts: who is shown, the verdict, and the figures.

import { swatch } from "./chart";
import type { Calibration, Count, Deployment, Hours, Share } from "./data";
import { h, svg } from "./dom";
import { brief, compact, duration, instant, number, percent, range, signed, words } from "./format";
import { actionColour } from "./sections";

type Content = Node | string;

export function drawHeader(d: Deployment): HTMLElement {
  return h(
    "header",
    { class: "deployment" },
    h("h1", {}, brief(d.name), " ", h("span", { class: `badge ${d.mode}` }, d.mode), d.retired ? h("span", { class: "badge" }, "retired") : null),
    h("p", { class: "lead" }, d.retired
      ? "Retired: nothing is observed, decided or done any more. "
      : d.mode === "active"
      ? "Active: the actuator carries out decisions of the present epoch. "
      : "Advisory: Tidemark decides and publishes, and changes nothing. ",
      d.to_ms > 0 ? h("span", { class: "whole" }, `${range(d.from_ms, d.to_ms)} UTC`) : "The range is empty."),
  );
}

/** drawFacts lists what the deployment is held to. */
export function drawFacts(d: Deployment): HTMLElement {
  const setting = d.settings.at(-1);
  const facts: [string, Content][] = [];
  const fact = (name: string, ...value: (Content | false | undefined)[]) => {
    const shown = value.filter((v): v is Content => v !== false && v !== undefined && v !== "");
    if (shown.length) facts.push([name, h("span", {}, ...shown)]);
  };
  fact("Target", d.target && words(d.target), setting && d.target === "sla" ? ` \u00b7 TTFT \u2264 ${number(setting.ttft_ms)} ms, ITL \u2264 ${number(setting.itl_ms)} ms` : "");
  fact("Topology", d.topology && words(d.topology));
  fact("GPU budget", setting ? budget(setting.min_gpus, setting.max_gpus) : "");
  fact("Planner", d.planners.length ? `version ${d.planners.join(", ")}` : "", d.revision ? ` \u00b7 configuration revision ${d.revision}` : "");
  fact("Mode over time", ...d.modes.map((m) => h("span", { class: "mode-step" }, `${m.mode} from ${instant(Math.max(m.at_ms, d.from_ms))}${m.mode === "active" ? `, epoch ${m.epoch}` : ""}`)));
  return h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("div", {}, h("dt", {}, name), h("dd", {}, value))]));
}

function budget(min: number, max: number): string {
  if (max < 0 && min < 0) return "none";
  if (max < 0) return `at least ${min} GPUs`;
  return min > 0 ? `${min} to ${max} GPUs` : `up to ${max} GPUs`;
}

const answers = {
  ready: ["Ready to activate", "Nothing that was seen speaks against it."],
  not_yet: ["Not yet", "Something that was seen speaks against activation."],
  cannot_tell: ["Cannot tell", "Too little was seen to say yes or no."],
  in_operation: ["In operation", "The question is answered: this deployment was activated."],
} as const;

export function drawVerdict(d: Deployment): HTMLElement {
  const s = d.score;
  const [answer, why] = answers[s.answer];
  const minutes = (v: number) => duration(v * 60);
  const rows: [string, Content, string][] = [];
  const row = (name: string, value: Content, note: string) => rows.push([name, value, note]);
  const judged = s.violated_min + s.kept_min;
  if (s.advisory_hours > 0) {
    const total = s.advised.reduce((sum, a) => sum + a.count, 0);
    row("Advice covers", duration(s.advisory_hours * 3600), `${number(total)} decisions that nobody could act on: ${listed(s.advised)}`);
    const compare = (name: string, hours: Hours | undefined, of: string) => {
      if (hours) row(name, signed(hours.recommended - hours.set), `${number(hours.recommended)} recommended, ${number(hours.set)} ${of}; an estimate, since a fleet that had followed would have seen other load`);
    };
    if (s.gpu_hours) compare("GPU-hours against what was set", s.gpu_hours, "set");
    else for (const role of d.roles) compare(`Replica-hours of ${role} against what was set`, s.replica_hours?.[role], "set");
  }
  if (judged > 0 && s.advisory_hours > 0) {
    row("SLA kept by the fleet as it was", percent(s.kept_min / judged), `of ${minutes(judged)} with measured latencies: the means of TTFT and ITL`);
    row("Would have added replicas", minutes(s.more_while_violated_min), `of ${minutes(s.violated_min)} in which the SLA was broken`);
    row("Would have run with fewer", minutes(s.fewer_while_kept_min), `of ${minutes(s.kept_min)} in which the SLA was kept; whether it would have stayed kept is not known`);
    row("Fewer while the SLA was broken", minutes(s.fewer_while_violated_min), "advice that would have hurt");
  }
  if (judged > 0) row("Longest hold under a broken SLA", minutes(s.longest_wrong_hold_min), "time on end");
  if (d.summary.decisions > 0) row("Flaps", `${number(d.summary.flaps_per_hour)} an hour`, `directions of a role reversed within ${duration(d.summary.flap_window_s)}: ${number(d.summary.flaps)} in all`);
  if (s.forecast_mape !== undefined && s.forecast_bias !== undefined) {
    row("Forecast of the request rate", `${percent(s.forecast_mape)} off`, `mean over ${s.forecast_pairs} windows; bias ${signed(s.forecast_bias, (v) => percent(v))}`);
  }
  for (const [name, c] of [["TTFT", s.ttft], ["ITL", s.itl]] as const) {
    if (c.median_error !== undefined && c.bias !== undefined) {
      row(`Estimate of ${name}`, `${percent(c.median_error)} off`, `median over ${c.observed_ms.length} windows; bias ${signed(c.bias, (v) => percent(v))}`);
    }
  }
  if (s.incomplete_share !== undefined) row("Evidence incomplete", percent(s.incomplete_share), "of the observations lacked a source that was asked");
  return h(
    "section",
    { class: `verdict ${s.answer}`, "aria-label": "Verdict" },
    h("div", { class: "answer" }, h("p", { class: "eyebrow" }, s.answer === "in_operation" ? "Activated" : "Ready to activate?"), h("p", { class: "word" }, answer), h("p", {}, why), h("ul", {}, ...s.because.map((b) => h("li", {}, b)))),
    rows.length
      ? h("table", {}, h("tbody", {}, ...rows.map(([name, value, note]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "value" }, value), h("td", { class: "note" }, note)))))
      : null,
  );
}

function tile(name: string, value: Content, unit: string, ...detail: (Content | null)[]): HTMLElement {
  return h("div", { class: "tile" }, h("h3", {}, name), h("p", { class: "figure" }, value, unit ? h("small", {}, unit) : null), h("div", { class: "detail" }, ...detail));
}

const listed = (counts: Count[]) => counts.filter((c) => c.count > 0).map((c) => `${number(c.count)} ${words(c.name)}`).join(", ");
const kept = (s: Share) => (s.of ? percent(s.kept / s.of) : "n/a");

export function drawTiles(d: Deployment): HTMLElement {
  const s = d.summary;
  const change = s.decisions - (s.actions.find((a) => a.name === "hold")?.count ?? 0);
  const bar = h("div", { class: "split", role: "img", "aria-label": listed(s.actions) });
  const shown = [...s.actions].sort((a, b) => (a.name === "hold" ? 1 : 0) - (b.name === "hold" ? 1 : 0)).filter((a) => a.count > 0);
  for (const a of shown) {
    const part = h("span", { class: `c-${actionColour(a.name)}` });
    part.style.flexGrow = String(a.count);
    bar.append(part);
  }
  const gpu = s.gpu_hours_set !== undefined && s.gpu_hours_recommended !== undefined
    ? tile("GPU-hours recommended", number(s.gpu_hours_recommended), "GPU\u00b7h",
      `${number(s.gpu_hours_set)} were set: `, h("b", {}, signed(s.gpu_hours_recommended - s.gpu_hours_set)),
      d.modes.some((m) => m.mode === "advisory") ? ". An estimate: a fleet that had followed would have seen other load." : ".")
    : tile("GPU-hours recommended", "n/a", "", "Needs gpus_per_replica in the configuration.");
  const count = (name: string) => s.actuations.find((a) => a.name === name)?.count ?? 0;
  const applied = count("applied");
  return h(
    "section",
    { class: "tiles", "aria-label": "Key figures" },
    tile("Decisions", number(s.decisions), "", bar, h("ul", { class: "keys" }, ...shown.map((a) => h("li", {}, swatch({ colour: actionColour(a.name) }), `${number(a.count)} ${words(a.name)}`)))),
    tile("TTFT within the SLA", kept(s.ttft_mean), s.ttft_mean.of ? "of windows" : "",
      s.ttft_mean.of ? `Means of ${s.ttft_mean.of} measured windows, of ${s.windows}. The p95 was within in ${kept(s.ttft_p95)}.` : `None of ${s.windows} windows has a measured TTFT.`),
    tile("ITL within the SLA", kept(s.itl_mean), s.itl_mean.of ? "of windows" : "",
      s.itl_mean.of ? `Means of ${s.itl_mean.of} measured windows, of ${s.windows}. The p95 was within in ${kept(s.itl_p95)}.` : `None of ${s.windows} windows has a measured ITL.`),
    gpu,
    tile("Holds for lack of evidence", number(s.unsupported), "", s.decisions ? `${percent(s.unsupported / s.decisions)} of the decisions: a loop named evidence that it lacked.` : ""),
    tile("Flaps", number(s.flaps), "", `A role's direction reversed within ${duration(s.flap_window_s)}; ${number(s.flaps_per_hour)} an hour. ${number(change)} decisions would change something.`),
    tile("Actuations", number(applied), "applied",
      applied + count("rejected") + count("failed") === 0 ? "None: nothing was done to the fleet." : `${count("settled")} settled, ${count("rejected")} rejected, ${count("failed")} failed.`,
      s.rejections.length ? ` Rejected: ${listed(s.rejections)}.` : null,
      s.median_settle_s !== undefined ? ` Median time to settle ${duration(s.median_settle_s)}.` : null),
  );
}

/** drawCalibration scatters estimates over observations: on the diagonal they agree. */
export function drawCalibration(name: string, c: Calibration, sla: number | undefined): HTMLElement | null {
  const pairs = c.observed_ms.map((o, i) => [o, c.estimated_ms[i]] as const).filter((p): p is [number, number] => p[0] !== null && p[1] !== null && p[1] !== undefined);
  if (pairs.length === 0) return null;
  const side = 300;
  const pad = 44;
  const sorted = pairs.flat().sort((a, b) => a - b);
  const top = 1.05 * Math.max(sla ?? 0, sorted.at(-1)!);
  const x = (v: number) => pad + (v / top) * (side - pad - 8);
  const y = (v: number) => side - pad - (v / top) * (side - pad - 8);
  const ticks = niceTicks(top);
  const text = (content: string, at: Record<string, string | number>) => svg("text", at, content);
  return h("figure", { class: "chart scatter" },
    h("div", { class: "head" }, h("h3", {}, `${name}: estimated over observed`, h("span", { class: "unit" }, " ms"))),
    h("figcaption", {}, "Each point is one window. On the diagonal the model was right; above it, it expected worse than users saw."),
    svg("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `${pairs.length} windows, median error ${c.median_error === undefined ? "unknown" : percent(c.median_error)}` },
      ...ticks.flatMap((t) => [
        svg("line", { x1: x(t), x2: x(t), y1: y(0), y2: y(top), class: "grid" }),
        svg("line", { x1: x(0), x2: x(top), y1: y(t), y2: y(t), class: "grid" }),
        text(compact(t), { x: x(t), y: y(0) + 15, "text-anchor": "middle" }),
        text(compact(t), { x: x(0) - 6, y: y(t) + 4, "text-anchor": "end" }),
      ]),
      ...(sla ? [svg("line", { x1: x(sla), x2: x(sla), y1: y(0), y2: y(top), class: "sla" }), svg("line", { x1: x(0), x2: x(top), y1: y(sla), y2: y(sla), class: "sla" })] : []),
      svg("line", { x1: x(0), y1: y(0), x2: x(top), y2: y(top), class: "diagonal" }),
      ...pairs.map(([o, e]) => svg("circle", { cx: x(o).toFixed(1), cy: y(e).toFixed(1), r: 2.2 })),
      text("observed mean, ms", { x: x(top), y: side - 8, "text-anchor": "end" }),
      text("estimated, ms", { x: x(0) + 6, y: y(top) + 10, "text-anchor": "start" })));
}

function niceTicks(top: number): number[] {
  const raw = top / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  const out: number[] = [];
  for (let t = 0; t <= top; t += step) out.push(t);
  return out;
}

/** drawSwitcher lists the deployments of a page that has several. */
export function drawSwitcher(deployments: Deployment[], chosen: Deployment, choose: (d: Deployment) => void): HTMLElement | null {
  if (deployments.length < 2) return null;
  return h("nav", { class: "switcher", "aria-label": "Deployments" }, ...deployments.map((d) =>
    h("button", { type: "button", "aria-pressed": String(d === chosen), click: () => choose(d) },
      h("b", {}, brief(d.name, 60)), h("span", {}, d.what_if ? `${number(d.what_if.different)} of ${number(d.what_if.decisions)} targets differ` : `${d.mode} \u00b7 ${answers[d.score.answer][0].toLowerCase()} \u00b7 TTFT ${kept(d.summary.ttft_mean)}`))));
}

