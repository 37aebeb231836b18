// The table of decisions: grouped, searched, paged, and linked by #decision-id.

import { swatch } from "./chart";
import { rowsOf, type Deployment, type PerRole, type Role, type Row, type Shape } from "./data";
import { h } from "./dom";
import { brief, clock, duration, exact, instant, number, percent, signed, words } from "./format";
import { actionColour } from "./sections";

const pageSize = 50;

/** Entry is one line: a decision, or several in a row that say the same. */
interface Entry {
  rows: Row[];
}

/** lacking names the sources that gave nothing to some decision, and why. */
function lacking(rows: Row[]): string[] {
  const of = (s: Shape) => Object.entries(s.evidence).flatMap(([source, c]) => (c === "measured" || c === "idle" ? [] : [`${source} ${c}`]));
  return [...new Set([...new Set(rows.map((r) => r.shape))].flatMap(of))].sort();
}

/** DecisionTable shows the decisions of a deployment, newest first. */
export class DecisionTable {
  readonly element: HTMLElement;
  private readonly body = h("tbody");
  private readonly status = h("p", { class: "status", role: "status" });
  private readonly pager = h("div", { class: "pager" });
  private readonly search = h("input", { type: "search", placeholder: "Search reasons, warnings, replicas, times, ids", "aria-label": "Search decisions" });
  private readonly action = h("select", { "aria-label": "Action" }, h("option", { value: "" }, "All actions"), ...["scale_up", "scale_down", "rebalance", "hold"].map((a) => h("option", { value: a }, words(a))));
  private readonly grouped = h("input", { type: "checkbox", checked: true });
  private readonly texts = new Map<Shape, string>();
  private readonly keys = new Map<Shape, string>();
  private entries: Entry[] = [];
  private page = 0;
  private open = "";

  private rows: Row[];

  constructor(private d: Deployment) {
    this.rows = rowsOf(d);
    const changed = () => {
      this.page = 0;
      this.filter();
    };
    this.search.addEventListener("input", changed);
    this.action.addEventListener("change", changed);
    this.grouped.addEventListener("change", changed);
    const left = d.decisions.left_out;
    this.element = h(
      "section",
      { class: "listing decisions" },
      h("h2", {}, "Decisions"),
      h("p", { class: "caption" }, "Newest first. A row opens to the whole chain from what was observed to the target; its time is a link to it.",
        left ? ` ${number(left)} decisions are not listed, because there are too many: first holds that repeat the one before, then the oldest. The figures above count them.` : null),
      h("div", { class: "controls" }, this.search, this.action, h("label", {}, this.grouped, " Group repeats")),
      this.status,
      h("div", { class: "table" },
        h("table", {},
          h("thead", {}, h("tr", {}, ...["Time, UTC", "Action", "Current \u2192 target", "Load loop", "Throughput loop", "Est. TTFT", "Est. ITL"].map((t) => h("th", { scope: "col" }, t)))),
          this.body)),
      this.pager,
    );
    this.filter();
  }

  /** reveal opens a decision and scrolls to it; it reports whether it is listed. */
  reveal(id: string): boolean {
    if (!this.rows.some((r) => r.id === id)) return false;
    this.search.value = "";
    this.action.value = "";
    this.open = id;
    this.filter();
    let at = this.entries.findIndex((e) => e.rows[0]!.id === id);
    if (at < 0) {
      this.grouped.checked = false;
      this.filter();
      at = this.entries.findIndex((e) => e.rows[0]!.id === id);
    }
    this.page = Math.floor(at / pageSize);
    this.draw();
    this.body.querySelector(`[id="${CSS.escape(id)}"]`)?.scrollIntoView({ block: "center" });
    return true;
  }

  /** update shows newer decisions, unless somebody is at the rows. */
  update(d: Deployment): void {
    this.d = d;
    this.rows = rowsOf(d);
    if (!this.body.matches(":hover, :focus-within")) this.filter();
  }

  private text(row: Row): string {
    let text = this.texts.get(row.shape);
    if (text === undefined) {
      const s = row.shape;
      const json = JSON.stringify([s.action, s.mode, s.reasons, s.chain, s.warnings, s.evidence, this.d.roles.map((r) => move(row, r))]);
      text = (json + " " + words(json)).toLowerCase();
      this.texts.set(row.shape, text);
    }
    return text;
  }

  /**
   * key is what decisions of one group have in common. Whether the throughput
   * loop was due, what it then said, and the evidence that it then asked for do
   * not divide a group: its line names all of them.
   */
  private key(s: Shape): string {
    let key = this.keys.get(s);
    if (key === undefined) {
      key = JSON.stringify([s.mode, s.epoch, s.action, s.current, s.target, s.reasons.load, s.chain, s.warnings]);
      this.keys.set(s, key);
    }
    return key;
  }

  private filter(): void {
    const terms = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const action = this.action.value;
    const matches = this.rows.filter((r) => {
      if (action && r.shape.action !== action) return false;
      if (terms.length === 0) return true;
      const text = this.text(r);
      return terms.every((t) => text.includes(t) || r.id.toLowerCase().includes(t) || instant(r.at).includes(t));
    });
    this.entries = [];
    for (let i = matches.length - 1; i >= 0; i--) {
      const row = matches[i]!;
      const last = this.entries.at(-1);
      if (this.grouped.checked && last && this.key(last.rows[0]!.shape) === this.key(row.shape) && last.rows[0]!.id !== this.open && row.id !== this.open) last.rows.push(row);
      else this.entries.push({ rows: [row] });
    }
    const listed = this.entries.length === matches.length ? `${number(matches.length)} decisions` : `${number(matches.length)} decisions in ${number(this.entries.length)} rows`;
    this.status.textContent = matches.length === this.rows.length ? listed : `${listed}, of ${number(this.rows.length)}`;
    this.draw();
  }

  private draw(): void {
    const pages = Math.max(1, Math.ceil(this.entries.length / pageSize));
    this.page = Math.min(this.page, pages - 1);
    const shown = this.entries.slice(this.page * pageSize, (this.page + 1) * pageSize);
    this.body.replaceChildren(...shown.flatMap((e) => this.line(e)));
    if (shown.length === 0) this.body.append(h("tr", {}, h("td", { colspan: "7", class: "nothing" }, "No decision matches.")));
    const turn = (label: string, to: number) => h("button", { type: "button", disabled: to < 0 || to >= pages, click: () => {
      this.page = to;
      this.draw();
    } }, label);
    this.pager.replaceChildren(turn("Newer", this.page - 1), h("span", {}, `Page ${this.page + 1} of ${number(pages)}`), turn("Older", this.page + 1));
    this.pager.hidden = pages === 1;
  }

  private line(entry: Entry): HTMLElement[] {
    const newest = entry.rows[0]!;
    const oldest = entry.rows.at(-1)!;
    const s = newest.shape;
    const isOpen = this.open === newest.id;
    const detail = isOpen ? h("tr", { class: "detail" }, h("td", { colspan: "7" }, explain(this.d, newest))) : null;
    const toggle = () => {
      this.open = isOpen ? "" : newest.id;
      this.draw();
      this.body.querySelector<HTMLElement>(`[id="${CSS.escape(newest.id)}"] button`)?.focus();
    };
    const throughput = [...new Set(entry.rows.map((r) => r.shape.reasons.throughput))];
    const due = throughput.filter((reason) => reason !== "not_due");
    const line = h(
      "tr",
      { id: newest.id, class: isOpen ? "open" : "" },
      h("td", { class: "time" },
        h("button", { type: "button", class: "toggle", "aria-expanded": String(isOpen), "aria-label": "Show the chain", click: toggle }, isOpen ? "\u2212" : "+"),
        h("a", { href: "#" + encodeURIComponent(newest.id) }, instant(newest.at)),
        entry.rows.length > 1 ? h("small", {}, `since ${clock(oldest.at)}, ${number(entry.rows.length)} alike`) : null),
      h("td", { "data-label": "Action" }, h("span", { class: "action" }, swatch({ colour: actionColour(s.action) }), words(s.action)), s.mode === "active" ? h("small", {}, "active") : null),
      h("td", { "data-label": "Current \u2192 target", class: "move" }, ...this.d.roles.map((role) => h("span", {}, this.d.roles.length > 1 ? h("i", {}, role) : "", move(newest, role)))),
      h("td", { "data-label": "Load" }, brief(words(s.reasons.load)), ...(s.warnings ?? []).map((w) => h("small", { class: "warn" }, brief(words(w)))), ...lacking(entry.rows).map((text) => h("small", { class: "warn" }, text))),
      h("td", { "data-label": "Throughput" }, brief((due.length ? due : throughput).map(words).join(", "))),
      h("td", { "data-label": "Est. TTFT", class: "number" }, newest.ttft === null ? "n/a" : `${number(newest.ttft)} ms`),
      h("td", { "data-label": "Est. ITL", class: "number" }, newest.itl === null ? "n/a" : `${number(newest.itl)} ms`),
    );
    return detail ? [line, detail] : [line];
  }
}

/** move writes what a decision does to a role. */
export function move(row: Row, role: Role): string {
  const { current, target, delta } = row.shape;
  const from = current?.[role];
  const to = target?.[role];
  const by = delta?.[role];
  return `${from ?? "?"} \u2192 ${to ?? "?"}${by ? ` (${signed(by)})` : ""}`;
}

/** explain is all that is known of a decision: its chain, and what it rests on. */
export function explain(d: Deployment, row: Row): HTMLElement {
  const { shape: s, plan } = row;
  const pairs: [string, string][] = [];
  const pair = (name: string, value: string | undefined) => {
    if (value) pairs.push([name, value]);
  };
  const per = <T>(values: PerRole<T> | undefined, write: (v: T) => string) =>
    d.roles.flatMap((r) => (values?.[r] === undefined ? [] : [`${r} ${write(values[r] as T)}`])).join(", ");
  pair("Current (ready)", per(s.current, String));
  pair("Set", per(s.desired, String));
  pair("Target", per(s.target, String));
  pair("Floors", per(s.floors, String));
  pair("GPUs", s.gpus && `${s.gpus.current} set, ${s.gpus.target} recommended; budget ${s.gpus.min < 0 ? "no minimum" : `from ${s.gpus.min}`}, ${s.gpus.max < 0 ? "no maximum" : `to ${s.gpus.max}`}`);
  pair("Estimates", [row.ttft !== null && `TTFT ${exact(row.ttft)} ms`, row.itl !== null && `ITL ${exact(row.itl)} ms`].filter(Boolean).join(", "));
  pair("Forecast", plan.forecast && `${number(plan.forecast.rps)} requests/s, ISL ${number(plan.forecast.isl)}, OSL ${number(plan.forecast.osl)} tokens${plan.forecast.kv_hit_rate === undefined ? "" : `, KV hit rate ${percent(plan.forecast.kv_hit_rate)}`} (${plan.forecast.predictor})`);
  pair("Capacity of one engine", plan.capacity && (["prefill", "decode", "aggregated"] as const).flatMap((r) => {
    const v = plan.capacity?.[`${r}_rps`];
    return v === undefined ? [] : [`${r} ${number(v)} requests/s`];
  }).join(", "));
  pair("Reasons by role", per(s.reasons.roles, (r) => [r.load && `load ${words(r.load)}`, r.throughput && `throughput ${words(r.throughput)}`].filter(Boolean).join(", ")));
  pair("Evidence", Object.entries(s.evidence).map(([source, c]) => `${source} ${c}`).join(", "));
  pair("Warnings", (s.warnings ?? []).map(words).join(", "));
  pair("Made under", `${s.mode}, epoch ${s.epoch}, configuration revision ${s.revision}, planner ${s.planner}`);
  const acts = d.actuations.filter((a) => a.decision_id === row.id);
  pair("Acted on", acts.map((a) => `${a.outcome}${a.reason ? ` (${words(a.reason)})` : ""}${a.settle_s === undefined ? "" : ` after ${duration(a.settle_s)}`}${a.detail ? `: ${a.detail}` : ""}`).join("; "));
  pair("Decision", row.id);
  return h(
    "div",
    { class: "chain" },
    h("h4", {}, "Chain"),
    s.chain?.length
      ? h("ol", {}, ...s.chain.map((c) => h("li", {}, h("b", {}, c.stage), ` ${c.role} `, h("span", { class: "number" }, `${c.from} \u2192 ${c.to}`), " ", h("i", {}, words(c.reason)))))
      : h("p", {}, "No stage changed a number."),
    h("dl", {}, ...pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
  );
}
