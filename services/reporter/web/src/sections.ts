// The charts of a deployment: what each shows, in which order, and how to read it.

import { line, type Line, type LineChart, type Mark } from "./chart";
import { gapsOf, rowsOf, type Actuation, type Data, type Deployment, type Row, type Series, type Setting, type Span, type Stretch } from "./data";
import { brief, words } from "./format";
import type { Bar, Lane, LaneChart } from "./lanes";
import type { Colour } from "./theme";

/** limit is a line that follows a setting through the revisions. */
export function limit(d: Deployment, label: string, of: (s: Setting) => number | undefined, look: Partial<Line> = {}): Line[] {
  const at: number[] = [];
  const values: (number | null)[] = [];
  for (const [i, s] of d.settings.entries()) {
    const v = of(s);
    const value = v === undefined || v < 0 ? null : v;
    const until = d.settings[i + 1]?.at_ms ?? d.to_ms;
    at.push(Math.max(s.at_ms, d.from_ms), until - 1);
    values.push(value, value);
  }
  if (values.every((v) => v === null)) return [];
  return [{ label, at, values, colour: "red", dash: [5, 4], width: 1.25, stepped: true, limit: true, ...look }];
}

export function missing(data: Data, spans: Span[] | undefined): Stretch[] {
  const idle = data.evidence_classes.indexOf("idle");
  return (spans ?? []).filter((s) => s.value > idle).map((s) => ({ from: s.from_ms, to: s.to_ms }));
}

export function marksOf(d: Deployment): Mark[] {
  return d.modes.slice(1).map((m) => ({ at: m.at_ms, label: `${m.mode}, epoch ${m.epoch}` }));
}

const evidenceColours: Colour[] = ["green", "sky", "orange", "purple", "red"];

export function evidenceColour(data: Data, evidence: string): Colour {
  return evidenceColours[data.evidence_classes.indexOf(evidence)] ?? "grey";
}

const actionColours: Record<string, Colour> = { hold: "faint", scale_up: "blue", scale_down: "orange", rebalance: "purple" };

export function actionColour(action: string): Colour {
  return actionColours[action] ?? "grey";
}

const outcomeColours: Record<Actuation["outcome"], Colour> = { applied: "blue", settled: "sky", rejected: "orange", failed: "red" };

export function outcomeColour(outcome: Actuation["outcome"]): Colour {
  return outcomeColours[outcome];
}

const unsupported = new Set([
  "no_fleet_data", "no_fpm_data", "no_traffic_data", "insufficient_data",
  "worker_count_mismatch", "predict_failed", "model_not_ready", "partner_not_ready",
]);

export function reasonColour(reason: string): Colour {
  if (reason.startsWith("scale_down")) return "orange";
  if (reason.startsWith("scale") && reason !== "scaling_in_progress" || reason === "set_lower_bound") return "blue";
  if (unsupported.has(reason)) return "red";
  return reason === "no_change" || reason === "not_due" || reason === "disabled" ? "faint" : "grey";
}

/** runs joins decisions that have a thing in common, up to the next or a gap. */
function runs(rows: Row[], gaps: Stretch[], end: number, of: (r: Row) => string): Map<string, Bar[]> {
  const out = new Map<string, Bar[]>();
  let gap = 0;
  let last: Bar | undefined;
  for (const [i, row] of rows.entries()) {
    const value = of(row);
    let to = rows[i + 1]?.at ?? end;
    while (gap < gaps.length && gaps[gap]!.to <= row.at) gap++;
    const hole = gaps[gap];
    if (hole && hole.from < to) to = Math.max(hole.from, row.at);
    if (last && last.label === value && last.to === row.at) {
      last.to = to;
      continue;
    }
    last = { from: row.at, to, label: value, colour: "grey" };
    const bars = out.get(value);
    if (bars) bars.push(last);
    else out.set(value, [last]);
  }
  return out;
}

function decisionLanes(d: Deployment, rows: Row[]): Lane[] {
  const gaps = gapsOf(d.decided);
  const lanes: Lane[] = [];
  const paint = (bars: Bar[], colour: (label: string) => Colour) =>
    bars.map((b) => ({ ...b, colour: colour(b.label), label: brief(words(b.label)) }));
  const actions = runs(rows, gaps, d.to_ms, (r) => r.shape.action);
  lanes.push({ label: "action", bars: paint([...actions.values()].flat().sort((a, b) => a.from - b.from), actionColour) });
  for (const loop of ["load", "throughput"] as const) {
    const due = loop === "load" ? rows : rows.filter((r) => r.shape.reasons.throughput !== "not_due");
    const by = runs(due, gaps, d.to_ms, (r) => r.shape.reasons[loop]);
    for (const [reason, bars] of [...by].sort((a, b) => weight(b[0]) - weight(a[0]) || (a[0] < b[0] ? -1 : 1))) {
      if (reason === "disabled" || reason === "not_due") continue;
      lanes.push({ label: brief(`${loop}: ${words(reason)}`), bars: paint(bars, reasonColour) });
    }
  }
  return lanes;
}

const weights: Partial<Record<Colour, number>> = { blue: 4, orange: 3, red: 2, grey: 1 };
const weight = (reason: string) => weights[reasonColour(reason)] ?? 0;

function evidenceLanes(data: Data, d: Deployment): Lane[] {
  const asks: Record<string, string> = { fleet: "fleet: replicas", traffic: "traffic: requests and latencies", engines: "engines: queues and KV cache" };
  return ["fleet", "traffic", "engines"].flatMap((source) => {
    const spans = d.evidence[source];
    if (!spans) return [];
    return [{
      label: asks[source]!,
      bars: spans.map((s): Bar => ({
        from: s.from_ms, to: s.to_ms,
        label: data.evidence_classes[s.value] ?? "unknown", colour: evidenceColours[s.value] ?? "grey",
      })),
    }];
  });
}

function actuationLanes(d: Deployment): Lane[] {
  if (d.actuations.length === 0) return [];
  const moment = (at: number, label: string, colour: Colour): Bar => ({ from: at, to: at, label, colour });
  const settling: Bar[] = d.actuations
    .filter((a) => a.outcome === "settled" && a.settle_s !== undefined)
    .map((a) => ({ from: a.at_ms - a.settle_s! * 1000, to: a.at_ms, label: "applied, until settled", colour: "sky" }));
  const of = (outcome: Actuation["outcome"]): Lane => ({
    label: outcome,
    bars: d.actuations.filter((a) => a.outcome === outcome).map((a) => moment(a.at_ms, brief(words(a.reason || a.detail || outcome)), outcomeColour(outcome))),
  });
  const lanes: Lane[] = [of("applied"), { label: "settling", bars: settling }];
  for (const lane of [of("rejected"), of("failed")]) {
    if (lane.bars.length > 0) lanes.push(lane);
  }
  return lanes;
}

const has = (series: Series | undefined, name: string) => series?.values[name] !== undefined;

/** Section is what stands under one heading. */
export interface Section {
  title: string;
  figures: (LineChart | LaneChart)[];
}

/** describeSections says which figures a deployment has, under their headings. */
export function describeSections(data: Data, d: Deployment): Section[] {
  const rows = rowsOf(d);
  const marks = marksOf(d);
  const lines = (c: Omit<LineChart, "marks" | "height">, height = 210): LineChart => ({ ...c, marks, height });
  const lanes = (c: Omit<LaneChart, "marks">): LaneChart => ({ ...c, marks });
  const section = (title: string, ...figures: (LineChart | LaneChart | null)[]): Section[] => {
    const shown = figures.filter((f) => f !== null);
    return shown.length ? [{ title, figures: shown }] : [];
  };
  const noFleet = missing(data, d.evidence["fleet"]);
  const noTraffic = missing(data, d.evidence["traffic"]);
  const noEngines = missing(data, d.evidence["engines"]);
  const unit = d.roles.length > 1;

  const replicas = d.roles.map((role) => {
    const bounds = d.settings.at(-1)?.roles[role];
    return lines({
      title: unit ? `Replicas: ${role}` : "Replicas",
      unit: "replicas",
      whole: true,
      caption:
        "What runs (ready), what the fleet is set to, and what Tidemark recommends. Where the recommendation leaves the set line, acting would change something." +
        (bounds ? ` Bounds: ${bounds.min} to ${bounds.max}.` : ""),
      lines: [
        ...line(d.decided, `floor.${role}`, { label: "throughput floor", colour: "green", dash: [2, 3], stepped: true }),
        ...line(d.fleet, `ready.${role}`, { label: "ready", colour: "sky", width: 4, stepped: true }),
        ...line(d.fleet, `desired.${role}`, { label: "set", colour: "blue", stepped: true }),
        ...line(d.decided, `target.${role}`, { label: "recommended", colour: "orange", width: 1.75, stepped: true }),
        ...limit(d, "max", (s) => s.roles[role]?.max, { colour: "grey" }),
        ...limit(d, "min", (s) => s.roles[role]?.min, { colour: "grey" }),
      ],
      missing: noFleet,
    });
  });

  const rate = lines({
    title: "Request rate",
    unit: "requests/s",
    caption: "Observed over each window of traffic, and what was forecast for that same window one interval before: the distance between the lines is the error. Shaded: traffic was not measured.",
    lines: [
      ...line(d.traffic, "rps", { label: "observed", colour: "blue" }),
      ...line(d.forecasts, "rps", { label: "forecast", colour: "orange", dash: [5, 3] }),
    ],
    missing: noTraffic,
  });

  const latency = (title: string, name: "ttft" | "itl", of: (s: Setting) => number) => lines({
    title,
    unit: "ms",
    caption: "Mean and 95th percentile of each window as users saw them, beside what the performance models expect of the busiest engine, and the SLA. Shaded: not measured.",
    lines: [
      ...line(d.traffic, `${name}_p95_ms`, { label: "observed p95", colour: "sky" }),
      ...line(d.decided, `${name}_est_ms`, { label: "estimated", colour: "orange", width: 1 }),
      ...line(d.traffic, `${name}_mean_ms`, { label: "observed mean", colour: "blue", width: 2 }),
      ...limit(d, "SLA", of),
    ],
    missing: noTraffic,
  });

  const lengths = lines({
    title: "Sequence lengths",
    unit: "tokens",
    caption: "Mean input (ISL) and output (OSL) tokens per request: prefill work grows with the first, decode work with both.",
    lines: [
      ...line(d.traffic, "isl", { label: "ISL observed", colour: "blue" }),
      ...line(d.forecasts, "isl", { label: "ISL forecast", colour: "sky", dash: [5, 3] }),
      ...line(d.traffic, "osl", { label: "OSL observed", colour: "orange" }),
      ...line(d.forecasts, "osl", { label: "OSL forecast", colour: "purple", dash: [5, 3] }),
    ],
    missing: noTraffic,
  });

  const engines = d.roles.flatMap((role) => {
    const single = (name: string, colour: Colour): Line[] =>
      d.engines.filter((e) => e.role === role).flatMap((e) =>
        line(e.series, name, { label: `${e.worker}${e.dp_rank ? ` rank ${e.dp_rank}` : ""}`, colour, width: 0.6, quiet: true }));
    const note = d.engines_unlisted ? ` ${d.engines_unlisted} engines or more are in the highest and the mean only.` : "";
    return [
      role !== "decode" && has(d.load, `queue_max.${role}`)
        ? lines({
          title: `Queued prefill tokens per engine: ${role}`,
          unit: "tokens",
          caption: "Prompt tokens that wait in front of each engine: the highest, the mean, and every engine as a thin line. A queue that stays is a pool that is too small." + note,
          lines: [
            ...single("queued_prefill_tokens", "grey"),
            ...line(d.load, `queue_max.${role}`, { label: "highest", colour: "orange" }),
            ...line(d.load, `queue_mean.${role}`, { label: "mean", colour: "blue", width: 2 }),
          ],
          missing: noEngines,
        })
        : null,
      role !== "prefill" && has(d.load, `kv_max.${role}`)
        ? lines({
          title: `KV cache in use per engine: ${role}`,
          unit: "tokens",
          caption: "Tokens that each engine holds in its KV cache, and its capacity where it is near. A full cache makes requests wait." + note,
          lines: [
            ...single("kv_tokens", "grey"),
            ...line(d.load, `kv_max.${role}`, { label: "highest", colour: "orange" }),
            ...line(d.load, `kv_mean.${role}`, { label: "mean", colour: "blue", width: 2 }),
            ...limit(d, "capacity", (s) => s.roles[role]?.max_kv_tokens || undefined),
          ],
          missing: noEngines,
        })
        : null,
    ];
  });

  const capacity = has(d.decided, "capacity_rps.prefill") || has(d.decided, "capacity_rps.decode") || has(d.decided, "capacity_rps.aggregated")
    ? lines({
      title: "Capacity of one engine",
      unit: "requests/s",
      caption: "The rate that the performance models expect one engine to sustain within the SLA at the forecast lengths. Floors follow from it.",
      lines: d.roles.flatMap((role, i) => line(d.decided, `capacity_rps.${role}`, { label: role, colour: i ? "orange" : "blue", stepped: true })),
    }, 150)
    : null;

  const gpus = lines({
    title: "GPUs",
    unit: "GPUs",
    whole: true,
    caption: "GPUs of what the fleet is set to and of the recommendation, within the budget. The area between the lines is what acting would add or save.",
    lines: [
      ...line(d.decided, "gpus_set", { label: "set", colour: "blue", width: 2, stepped: true }),
      ...line(d.decided, "gpus_recommended", { label: "recommended", colour: "orange", stepped: true }),
      ...limit(d, "budget max", (s) => s.max_gpus),
      ...limit(d, "budget min", (s) => s.min_gpus, { colour: "grey" }),
    ],
  }, 180);

  return [
    ...section("Replicas", ...replicas, gpus),
    ...section("Decisions and evidence",
      lanes({
        title: "Decisions over time",
        caption: "One lane for each reason that a loop gave; the first lane is what came of them. Throughput reasons stand until the loop is due again.",
        lanes: rows.length ? decisionLanes(d, rows) : [],
        legend: [
          { label: "up, or a floor", colour: "blue" }, { label: "down", colour: "orange" }, { label: "rebalance", colour: "purple" },
          { label: "evidence lacking", colour: "red" }, { label: "waiting", colour: "grey" }, { label: "hold, no change", colour: "faint" },
        ],
      }),
      lanes({
        title: "Evidence over time",
        caption: "What each source could say; where bars are narrower than a pixel, the worst is drawn. Nothing drawn: the source was not asked, or the collector was away.",
        lanes: evidenceLanes(data, d),
        legend: data.evidence_classes.map((label, i) => ({ label, colour: evidenceColours[i] ?? "grey" })),
      }),
      d.actuations.length > 0
        ? lanes({
          title: "Actuations over time",
          caption: "What was done about decisions: each change that was applied, how long the fleet took to reach it, and what was refused or failed.",
          lanes: actuationLanes(d),
          legend: [],
        })
        : null),
    ...section("Traffic and latency", rate, latency("TTFT: time to first token", "ttft", (s) => s.ttft_ms), latency("ITL: inter-token latency", "itl", (s) => s.itl_ms), lengths),
    ...section("Engines", ...engines, capacity),
  ];
}
