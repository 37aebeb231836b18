// The data that a page carries: what package report of the reporter writes.

export type Role = "prefill" | "decode" | "aggregated";
export type Mode = "advisory" | "active";
export type PerRole<T> = Partial<Record<Role, T>>;
export type Values = (number | null)[];

export interface Data {
  title: string;
  generated_at: string;
  evidence_classes: string[];
  /** The address of the stream by which a live page goes on. */
  live?: string;
  deployments: Deployment[];
}

export interface Deployment {
  name: string;
  retired?: boolean;
  mode: Mode;
  epoch: number;
  revision?: number;
  topology?: string;
  target?: string;
  roles: Role[];
  planners: string[];
  from_ms: number;
  to_ms: number;
  /** From where on a live page lacks data. */
  resume_ms?: number;
  modes: { at_ms: number; mode: Mode; epoch: number }[];
  settings: Setting[];
  summary: Summary;
  score: Score;
  fleet?: Series;
  traffic?: Series;
  load?: Series;
  decided?: Series;
  forecasts?: Series;
  engines: Engine[];
  engines_unlisted?: number;
  evidence: Record<string, Span[]>;
  complaints?: Complaint[];
  decisions: Decisions;
  actuations: Actuation[];
  actuations_left_out?: number;
  /** A candidate beside it; only a page of a what-if has it. */
  what_if?: WhatIf;
  /** The listed decisions, once they were taken apart. */
  rows?: Row[];
}

/** WhatIf is a candidate configuration beside what was decided on the same observations. */
export interface WhatIf {
  figures: { name: string; decimals: number; decided: number; candidate: number }[];
  notes: string[];
  decisions: number;
  different: number;
  first_different_ms?: number;
  /** The first decision of the candidate that the fleet did not follow. */
  parted_ms?: number;
  followed?: number;
  findings?: number;
  settings: Setting[];
  decided?: Series;
  forecasts?: Series;
  spans: Partial<Record<"decided" | "candidate" | "differ" | "decided_apart" | "candidate_apart", Span[]>>;
  /** The decisions where targets differ: as they were and as they would be. */
  was: Decisions;
  would: Decisions;
}

export interface Engine {
  role: Role;
  worker: string;
  dp_rank: number;
  /** Null in an update means that nothing is new. */
  series: Series | null;
}

export interface Setting {
  at_ms: number;
  revision: number;
  ttft_ms: number;
  itl_ms: number;
  roles: PerRole<{ min: number; max: number; max_kv_tokens?: number }>;
  min_gpus: number;
  max_gpus: number;
}

/** Series is a table over time. A null is a gap; it is never drawn as zero. */
export interface Series {
  start_ms: number;
  steps_ms: number[];
  values: Record<string, Values>;
}

/** Complaint is what a source said when it could not say what it was asked. */
export interface Complaint {
  source: string;
  class: string;
  error: string;
  count: number;
  first_ms: number;
  last_ms: number;
}

export interface Span {
  from_ms: number;
  to_ms: number;
  value: number;
}

export interface Count {
  name: string;
  count: number;
}

export interface Share {
  kept: number;
  of: number;
}

export interface Summary {
  decisions: number;
  actions: Count[];
  unsupported: number;
  flaps: number;
  flaps_per_hour: number;
  flap_window_s: number;
  ttft_mean: Share;
  ttft_p95: Share;
  itl_mean: Share;
  itl_p95: Share;
  windows: number;
  hours_decided: number;
  gpu_hours_set?: number;
  gpu_hours_recommended?: number;
  actuations: Count[];
  rejections: Count[];
  median_settle_s?: number;
}

export interface Hours {
  set: number;
  recommended: number;
}

export interface Calibration {
  observed_ms: Values;
  estimated_ms: Values;
  median_error?: number;
  bias?: number;
}

export interface Score {
  answer: "ready" | "not_yet" | "cannot_tell" | "in_operation";
  because: string[];
  advisory_hours: number;
  advised: Count[];
  replica_hours?: PerRole<Hours>;
  gpu_hours?: Hours;
  incomplete_share?: number;
  forecast_mape?: number;
  forecast_bias?: number;
  forecast_pairs: number;
  ttft: Calibration;
  itl: Calibration;
  more_while_violated_min: number;
  more_while_kept_min: number;
  fewer_while_violated_min: number;
  fewer_while_kept_min: number;
  violated_min: number;
  kept_min: number;
  longest_wrong_hold_min: number;
}

export interface Shape {
  mode: Mode;
  epoch: number;
  revision: number;
  action: string;
  current?: PerRole<number>;
  desired?: PerRole<number>;
  target?: PerRole<number>;
  delta?: PerRole<number>;
  reasons: { load: string; throughput: string; roles?: PerRole<{ load?: string; throughput?: string }> };
  chain?: { stage: string; role: Role; from: number; to: number; reason: string }[];
  floors?: PerRole<number>;
  gpus?: { current: number; target: number; min: number; max: number };
  evidence: { fleet?: string; traffic?: string; engines?: string };
  warnings?: string[];
  planner: string;
}

export interface Plan {
  forecast?: { predictor: string; requests: number; rps: number; isl: number; osl: number; kv_hit_rate?: number };
  capacity?: { prefill_rps?: number; decode_rps?: number; aggregated_rps?: number };
}

export interface Decisions {
  ids: string[] | null;
  start_ms: number;
  steps_ms: number[] | null;
  shape: number[] | null;
  plan: number[] | null;
  ttft_est_ms: Values | null;
  itl_est_ms: Values | null;
  shapes: Shape[] | null;
  plans: Plan[] | null;
  left_out: number;
}

export interface Actuation {
  id: string;
  decision_id: string;
  at_ms: number;
  epoch: number;
  connector: string;
  roles?: PerRole<{ from: number; to: number }>;
  outcome: "applied" | "rejected" | "failed" | "settled";
  reason?: string;
  detail?: string;
  attempt?: number;
  approved_by?: string;
  settle_s?: number;
}

/** instants returns the running sums of steps: milliseconds since 1970 UTC. */
export function instants(start: number, steps: readonly number[]): number[] {
  let at = start;
  return steps.map((step) => (at += step));
}

/** Row is one listed decision. */
export interface Row {
  id: string;
  at: number;
  shape: Shape;
  plan: Plan;
  ttft: number | null;
  itl: number | null;
}

/** rowsOf returns the listed decisions of a deployment, the oldest first. */
export function rowsOf(deployment: Deployment): Row[] {
  return (deployment.rows ??= takeApart(deployment.decisions));
}

export function takeApart(d: Decisions): Row[] {
  if (!d.ids || !d.steps_ms) return [];
  const at = instants(d.start_ms, d.steps_ms);
  return d.ids.map((id, i) => ({
    id,
    at: at[i]!,
    shape: d.shapes![d.shape![i]!]!,
    plan: d.plans![d.plan![i]!]!,
    ttft: d.ttft_est_ms![i] ?? null,
    itl: d.itl_est_ms![i] ?? null,
  }));
}

/** Stretch is a time from one instant to another, in milliseconds. */
export interface Stretch {
  from: number;
  to: number;
}

/** gapsOf returns the stretches in which a table has no row with a figure. */
export function gapsOf(series: Series | undefined): Stretch[] {
  if (!series) return [];
  const at = instants(series.start_ms, series.steps_ms);
  const columns = Object.values(series.values);
  const out: Stretch[] = [];
  for (let i = 0; i + 1 < at.length; i++) {
    if (columns.every((c) => c[i] === null)) out.push({ from: at[i]!, to: at[i + 1]! });
  }
  return out;
}
