// How figures and instants are written: UTC, thin precision, units by the caller.

const minus = "\u2212";
const thin = "\u202f";

/** number writes three significant digits, and all digits before the point. */
export function number(v: number): string {
  const abs = Math.abs(v);
  const digits = abs >= 100 || Number.isInteger(v) ? 0 : abs >= 10 ? 1 : 2;
  return group(v.toFixed(digits));
}

/** exact writes a figure as it is in the data. */
export function exact(v: number): string {
  return group(String(v));
}

function group(text: string): string {
  const [whole = "", fraction] = text.replace("-", "").split(".");
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, thin) : whole;
  return (text.startsWith("-") ? minus : "") + grouped + (fraction ? "." + fraction : "");
}

/** compact writes the labels of axes: 12k, 1.5M. */
export function compact(v: number): string {
  const abs = Math.abs(v);
  if (abs >= 1e6) return trim(v / 1e6) + "M";
  if (abs >= 1e4) return trim(v / 1e3) + "k";
  return trim(v);
}

function trim(v: number): string {
  return group(String(Number(v.toPrecision(4))));
}

export function percent(share: number, digits = 1): string {
  const text = (100 * share).toFixed(digits);
  // What is not all is not written as all.
  if (share < 1 && Number(text) === 100) return "99.9" + thin + "%";
  return group(text) + thin + "%";
}

export function signed(v: number, write: (v: number) => string = number): string {
  return v > 0 ? "+" + write(v) : v === 0 ? "\u00b10" : write(v);
}

const pad = (n: number) => String(n).padStart(2, "0");

export function clock(ms: number, seconds = true): string {
  const t = new Date(ms);
  return `${pad(t.getUTCHours())}:${pad(t.getUTCMinutes())}` + (seconds ? `:${pad(t.getUTCSeconds())}` : "");
}

export function day(ms: number): string {
  const t = new Date(ms);
  return `${t.getUTCFullYear()}-${pad(t.getUTCMonth() + 1)}-${pad(t.getUTCDate())}`;
}

export function instant(ms: number): string {
  return `${day(ms)} ${clock(ms)}`;
}

/** range writes a stretch of time, the day once where it is the same. */
export function range(from: number, to: number): string {
  return day(from) === day(to)
    ? `${day(from)} ${clock(from)} \u2013 ${clock(to)}`
    : `${instant(from)} \u2013 ${instant(to)}`;
}

export function duration(seconds: number): string {
  if (seconds < 90) return `${number(seconds)}${thin}s`;
  if (seconds < 90 * 60) return `${number(seconds / 60)}${thin}min`;
  if (seconds < 48 * 3600) return `${number(seconds / 3600)}${thin}h`;
  return `${number(seconds / 86400)}${thin}d`;
}

/** words writes a wire name as words. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** brief cuts a text that is too long for its place; the whole is elsewhere. */
export function brief(text: string, most = 160): string {
  return text.length > most ? text.slice(0, most - 1) + "\u2026" : text;
}
