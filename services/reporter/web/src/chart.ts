import uPlot from "uplot";
import type { TimeAxis } from "./axis";
import type { Series, Stretch, Values } from "./data";
import { instants } from "./data";
import { h } from "./dom";
import { clock, compact, day, exact, instant } from "./format";
import { colour, onThemeChange, type Colour } from "./theme";

/** Line is one series of a chart. */
export interface Line {
  label: string;
  at: number[];
  values: Values;
  colour: Colour;
  dash?: number[];
  width?: number;
  /** A stepped line holds a figure until the next. */
  stepped?: boolean;
  /** A limit does not stretch the scale beyond what was seen, unless it is near. */
  limit?: boolean;
  /** A quiet line has no entry in the legend; hovering names it. */
  quiet?: boolean;
  hidden?: boolean;
}

/** Mark is an instant that every chart shows. */
export interface Mark {
  at: number;
  label: string;
}

export interface LineChart {
  title: string;
  caption: string;
  unit: string;
  lines: Line[];
  height: number;
  marks: Mark[];
  /** whole figures have no ticks between them. */
  whole?: boolean;
  /** missing are stretches in which the source gave nothing. */
  missing?: Stretch[];
}

/** line takes a named column of a table, if the table has it. */
export function line(
  series: Series | null | undefined,
  name: string,
  look: Omit<Line, "at" | "values">,
): Line[] {
  const values = series?.values[name];
  if (!series || !values) return [];
  return [{ ...look, at: instants(series.start_ms, series.steps_ms), values }];
}

export const gutter = 58;
/** underline is the room of the time axis: a tick and two lines of text. */
export const underline = 44;
/** margins leave room for the labels of marks, and for half of the last instant. */
export const margins: uPlot.Padding = [16, 18, 0, 0];
const font = (px: number) => `${px}px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif`;
const ms = 1 as const;

/** timeOptions are what all charts on the axis have in common. */
export function timeOptions(axis: TimeAxis, width: number, height: number) {
  const narrow = width < 520;
  const timeAxis: uPlot.Axis = {
    stroke: () => colour("muted"),
    font: font(11),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { stroke: () => colour("line"), width: 1, size: 4 },
    space: narrow ? 58 : 80,
    size: underline,
    gap: 5,
    values: (_u, splits) => timeLabels(splits, axis),
  };
  const options = {
    width,
    height,
    ms,
    tzDate: (t: number) => uPlot.tzDate(new Date(t), "Etc/UTC"),
    legend: { show: false },
    scales: { x: { time: true, range: () => [axis.min, axis.max] as [number, number] } },
    cursor: {
      y: false,
      sync: {
        key: axis.key,
        setSeries: false,
        filters: { pub: (type: string) => type === "mousemove" || type === "mouseleave" },
      },
      drag: { x: true, y: false, setScale: false, dist: 6 },
      bind: { dblclick: () => () => (axis.reset(), null) },
    },
  };
  return { options, timeAxis, narrow };
}

function timeLabels(splits: number[], axis: TimeAxis): string[] {
  const step = splits.length > 1 ? splits[1]! - splits[0]! : 0;
  let shown = "";
  return splits.map((t) => {
    const date = day(t).slice(5);
    if (axis.max - axis.min > 86_400_000 + 7_200_000 && step >= 86_400_000) return date;
    const text = clock(t, step < 60_000);
    const label = date !== shown ? `${text}\n${date}` : text;
    shown = date;
    return label;
  });
}

/** linkPlugin makes a selection in one chart the range of all. */
export function linkPlugin(axis: TimeAxis): uPlot.Plugin {
  return {
    hooks: {
      init: (u) => {
        axis.join(u);
        u.over.addEventListener("mouseenter", () => (axis.hovered = u));
        u.over.addEventListener("mouseleave", () => (axis.hovered = null));
      },
      destroy: (u) => axis.leave(u),
      setSelect: (u) => {
        if (u.select.width <= 0) return;
        const from = u.posToVal(u.select.left, "x");
        const to = u.posToVal(u.select.left + u.select.width, "x");
        u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        axis.set(from, to);
      },
    },
  };
}

/** marksPlugin draws what is true of the whole time axis: activations. */
export function marksPlugin(marks: () => Mark[]): uPlot.Plugin {
  return {
    hooks: {
      draw: (u) => {
        const { ctx, bbox } = u;
        const ratio = devicePixelRatio;
        ctx.save();
        ctx.beginPath();
        ctx.rect(bbox.left, bbox.top - 14 * ratio, bbox.width, bbox.height + 14 * ratio);
        ctx.clip();
        for (const mark of marks()) {
          const x = Math.round(u.valToPos(mark.at, "x", true));
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          ctx.strokeStyle = colour("ink");
          ctx.lineWidth = ratio;
          ctx.setLineDash([4 * ratio, 3 * ratio]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top - 12 * ratio);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          ctx.fillStyle = colour("ink");
          ctx.font = `600 ${font(10.5 * ratio)}`;
          const right = x + ctx.measureText(mark.label).width + 6 * ratio < bbox.left + bbox.width;
          ctx.textAlign = right ? "left" : "right";
          ctx.textBaseline = "bottom";
          ctx.fillText(mark.label, x + (right ? 4 : -4) * ratio, bbox.top - 2 * ratio);
        }
        ctx.restore();
      },
    },
  };
}

function missingPlugin(stretches: () => Stretch[]): uPlot.Plugin {
  return {
    hooks: {
      drawClear: (u) => {
        const { ctx, bbox } = u;
        ctx.save();
        ctx.beginPath();
        ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
        ctx.clip();
        ctx.fillStyle = colour("veil");
        for (const s of stretches()) {
          const from = u.valToPos(s.from, "x", true);
          const to = u.valToPos(s.to, "x", true);
          ctx.fillRect(from, bbox.top, Math.max(to - from, devicePixelRatio), bbox.height);
        }
        ctx.restore();
      },
    },
  };
}

/** Tooltip is the one box that follows the pointer over a chart. */
export class Tooltip {
  readonly element = h("div", { class: "tooltip", role: "status" });

  constructor(private readonly u: uPlot) {
    u.over.append(this.element);
    this.hide();
  }

  hide(): void {
    this.element.hidden = true;
  }

  show(...content: Node[]): void {
    this.element.replaceChildren(...content);
    this.element.hidden = false;
    const { left = 0, top = 0 } = this.u.cursor;
    const box = this.element;
    const room = this.u.over.clientWidth;
    const x = left + 16 + box.offsetWidth <= room ? left + 16 : Math.max(left - 16 - box.offsetWidth, -gutter + 4);
    box.style.transform = `translate(${Math.round(x)}px, ${Math.round(Math.max(top - box.offsetHeight - 12, -30))}px)`;
  }
}

export function swatch(look: { colour: Colour; dash?: number[] }): HTMLElement {
  return h("span", { class: `swatch c-${look.colour}${look.dash ? " dashed" : ""}`, "aria-hidden": "true" });
}

function tooltipPlugin(axis: TimeAxis, shown: () => Line[], unit: string): uPlot.Plugin {
  let tooltip: Tooltip;
  let focused: number | null = null;
  const update = (u: uPlot) => {
    const at = u.cursor.left !== undefined && u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : null;
    if (axis.hovered !== u || at === null) return tooltip.hide();
    const lines = shown().flatMap((l, i) => {
      if (!u.series[i + 1]?.show || (l.quiet && focused !== i + 1)) return [];
      const idx = u.cursor.idxs?.[i + 1];
      const value = idx === null || idx === undefined ? undefined : u.data[i + 1]?.[idx];
      return [
        h("span", {}, swatch(l), " ", l.label),
        h("b", {}, value === null || value === undefined ? "no data" : `${exact(value)} ${unit}`),
      ];
    });
    tooltip.show(h("time", {}, instant(Math.round(at / 1000) * 1000) + " UTC"), h("div", { class: "pairs" }, ...lines));
  };
  return {
    hooks: {
      init: (u) => (tooltip = new Tooltip(u)),
      setCursor: update,
      setSeries: (u, i) => {
        focused = i;
        update(u);
      },
    },
  };
}

const stepped = uPlot.paths.stepped!({ align: 1 });
const linear = uPlot.paths.linear!();

/**
 * holes returns the pixels between which a line has no figure: from the row that
 * says so, or from the figure before it, to the next figure. Rows of other lines,
 * which are undefined here, do not count.
 */
function holes(u: uPlot, series: number, from: 0 | -1): uPlot.Series.Gaps {
  const at = u.data[0];
  const values = u.data[series]!;
  const out: uPlot.Series.Gaps = [];
  let figure = -1;
  let begin = -1;
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    if (v === undefined) continue;
    if (v === null) {
      if (begin < 0) begin = from === 0 || figure < 0 ? i : figure;
      continue;
    }
    if (begin >= 0) {
      const left = Math.round(u.valToPos(at[begin]!, "x", true));
      const right = Math.round(u.valToPos(at[i]!, "x", true));
      if (right > left) out.push([left, right]);
    }
    figure = i;
    begin = -1;
  }
  return out;
}

/** isolated returns the points between two gaps, which no line would show. */
function isolated(u: uPlot, series: number): number[] | null {
  const values = u.data[series]!;
  const [from, to] = u.series[0]!.idxs ?? [0, values.length - 1];
  const alone: number[] = [];
  let before: number | null | undefined = null;
  for (let i = from; i <= to; i++) {
    const v = values[i];
    if (v === undefined) continue;
    if (v !== null && before === null) {
      let j = i + 1;
      while (j <= to && values[j] === undefined) j++;
      if (j > to || values[j] === null) alone.push(i);
    }
    before = v;
  }
  return alone.length ? alone : null;
}

/** Drawn is a figure in the page that can show newer data. */
export interface Drawn<C> {
  element: HTMLElement;
  mount(): void;
  update(chart: C): void;
  destroy(): void;
}

/** drawLines makes a chart of lines. */
export function drawLines(axis: TimeAxis, first: LineChart): Drawn<LineChart> {
  const body = h("div", { class: "plot" });
  const figure = frame(first.title, first.unit, first.caption, body);
  const hidden = new Set(first.lines.filter((l) => l.hidden).map((l) => l.label));
  const height = first.height;
  let chart = first;
  let u: uPlot | undefined;
  const join = () => uPlot.join(chart.lines.map((l): uPlot.AlignedData => [l.at, l.values]));
  const mount = () => {
    u?.destroy();
    u = undefined;
    body.replaceChildren();
    figure.querySelector(".legend")!.replaceChildren();
    if (chart.lines.every((l) => l.values.every((v) => v === null))) {
      body.append(h("p", { class: "nothing" }, "No data in this range."));
      return;
    }
    const { options, timeAxis } = timeOptions(axis, body.clientWidth || 680, height);
    u = new uPlot(
      {
        ...options,
        scales: {
          ...options.scales,
          y: {
            range: (_u, _min, max) => {
              const top = Math.max(0, ...chart.lines.filter((l) => l.limit).flatMap((l) => l.values.map((v) => v ?? 0)));
              const seen = max ?? 0;
              const high = top > 0 && (seen === 0 || top <= 2.2 * seen) ? Math.max(seen, top) : seen;
              return [0, high > 0 ? high * 1.1 : 1];
            },
          },
        },
        focus: { alpha: chart.lines.some((l) => l.quiet) ? 0.25 : 1 },
        cursor: {
          ...options.cursor,
          focus: { prox: chart.lines.some((l) => l.quiet) ? 24 : -1 },
          hover: { skip: [undefined] },
          points: { size: 6, width: 0 },
        },
        axes: [
          timeAxis,
          {
            stroke: () => colour("muted"),
            font: font(11),
            grid: { stroke: () => colour("line"), width: 1 },
            ticks: { show: false },
            size: gutter,
            space: 34,
            ...(chart.whole ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] } : {}),
            values: (_u, splits) => splits.map((v) => compact(v)),
          },
        ],
        series: [
          {},
          ...chart.lines.map((l): uPlot.Series => ({
            label: l.label,
            stroke: () => colour(l.colour),
            width: l.width ?? 1.5,
            ...(l.dash ? { dash: l.dash } : {}),
            ...(l.limit ? { auto: false } : {}),
            paths: l.stepped ? stepped : linear,
            gaps: l.stepped ? (u, i) => holes(u, i, 0) : (u, i) => holes(u, i, -1),
            show: !hidden.has(l.label),
            points: { show: false, size: 3.5, fill: () => colour(l.colour), filter: (u, i) => isolated(u, i) },
          })),
        ],
        padding: margins,
        plugins: [linkPlugin(axis), missingPlugin(() => chart.missing ?? []), marksPlugin(() => chart.marks), tooltipPlugin(axis, () => chart.lines, chart.unit)],
      },
      join(),
      body,
    );
    figure.querySelector(".legend")!.append(...legend(u, chart, hidden));
    follow(u, body, height);
  };
  const labels = (c: LineChart) => JSON.stringify([c.lines.map((l) => [l.label, l.colour])]);
  const update = (next: LineChart) => {
    const same = u && labels(next) === labels(chart);
    chart = next;
    if (same) u!.setData(join(), false);
    else mount();
  };
  return { element: figure, mount, update, destroy: () => u?.destroy() };
}

/** follow keeps a chart as wide as its place and in the colours of the theme. */
export function follow(u: uPlot, body: HTMLElement, height: number): void {
  const observer = new ResizeObserver(() => {
    if (body.clientWidth > 0 && body.clientWidth !== u.width) u.setSize({ width: body.clientWidth, height });
  });
  observer.observe(body);
  const release = onThemeChange(() => u.redraw(false, true));
  (u.hooks.destroy ??= []).push(() => {
    observer.disconnect();
    release();
  });
}

function legend(u: uPlot, chart: LineChart, hidden: Set<string>): HTMLElement[] {
  const quiet = chart.lines.filter((l) => l.quiet).length;
  const entries = chart.lines.flatMap((l, i) => {
    if (l.quiet) return [];
    const button = h("button", { type: "button", "aria-pressed": String(!hidden.has(l.label)) }, swatch(l), l.label);
    button.addEventListener("click", () => {
      const show = !u.series[i + 1]!.show;
      u.setSeries(i + 1, { show });
      if (show) hidden.delete(l.label);
      else hidden.add(l.label);
      button.setAttribute("aria-pressed", String(show));
    });
    return [button];
  });
  if (quiet > 0) entries.push(h("button", { type: "button", disabled: true }, `${quiet} single engines: hover a line`));
  return entries;
}

/** frame is the figure around a chart: its title, unit, caption and legend. */
export function frame(title: string, unit: string, caption: string, body: HTMLElement): HTMLElement {
  return h(
    "figure",
    { class: "chart" },
    h("div", { class: "head" }, h("h3", {}, title, unit ? h("span", { class: "unit" }, " " + unit) : null), h("div", { class: "legend" })),
    h("figcaption", {}, caption),
    body,
  );
}

