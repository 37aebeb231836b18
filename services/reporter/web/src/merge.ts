// What a live page has, and what the stream brings: rows that are new replace
// those from their first instant on, and what is too old goes.

import { instants, rowsOf, type Data, type Deployment, type Engine, type Series, type Values } from "./data";

export function merge(data: Data, update: Data): Data {
  const known = new Map(data.deployments.map((d) => [d.name, d]));
  return { ...update, deployments: update.deployments.map((d) => join(known.get(d.name), d)) };
}

function join(old: Deployment | undefined, d: Deployment): Deployment {
  if (!old) return d;
  const from = d.from_ms;
  const out: Deployment = { ...d };
  for (const name of ["fleet", "traffic", "load", "decided", "forecasts"] as const) {
    const series = joinSeries(old[name], d[name], from);
    if (series) out[name] = series;
  }
  const key = (e: Engine) => JSON.stringify([e.role, e.worker, e.dp_rank]);
  const engines = new Map(old.engines.map((e) => [key(e), e]));
  out.engines = d.engines.map((e) => ({ ...e, series: joinSeries(engines.get(key(e))?.series, e.series, from) ?? null }));
  const added = rowsOf(d);
  const until = added[0]?.at ?? Infinity;
  out.rows = [...rowsOf(old).filter((r) => r.at >= from && r.at < until), ...added];
  const done = new Set(d.actuations.map((a) => a.id));
  out.actuations = [...old.actuations.filter((a) => a.at_ms >= from && !done.has(a.id)), ...d.actuations];
  return out;
}

function joinSeries(old: Series | null | undefined, added: Series | null | undefined, from: number): Series | undefined {
  if (!old) return added ?? undefined;
  const until = added?.start_ms ?? Infinity;
  const kept: number[] = [];
  const at: number[] = [];
  for (const [i, t] of instants(old.start_ms, old.steps_ms).entries()) {
    if (t < from || t >= until) continue;
    kept.push(i);
    at.push(t);
  }
  if (added) at.push(...instants(added.start_ms, added.steps_ms));
  const values: Record<string, Values> = {};
  const gap = (n: number): Values => new Array<null>(n).fill(null);
  for (const name of new Set([...Object.keys(old.values), ...Object.keys(added?.values ?? {})])) {
    const before = old.values[name];
    const after = added?.values[name] ?? gap(added?.steps_ms.length ?? 0);
    values[name] = [...(before ? kept.map((i) => before[i]!) : gap(kept.length)), ...after];
  }
  return { start_ms: at[0] ?? 0, steps_ms: at.map((t, i) => (i ? t - at[i - 1]! : 0)), values };
}
