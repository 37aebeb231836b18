import uPlot from "uplot";
import type { TimeAxis } from "./axis";
import { follow, frame, gutter, linkPlugin, margins, marksPlugin, swatch, timeOptions, Tooltip, underline, type Drawn, type Mark } from "./chart";
import { h } from "./dom";
import { clock, duration, instant } from "./format";
import { colour, type Colour } from "./theme";

/** Bar is a stretch of a lane; one that begins where it ends is a moment. */
export interface Bar {
  from: number;
  to: number;
  colour: Colour;
  label: string;
}

export interface Lane {
  label: string;
  bars: Bar[];
}

export interface LaneChart {
  title: string;
  caption: string;
  lanes: Lane[];
  marks: Mark[];
  legend: { label: string; colour: Colour }[];
}

const laneHeight = 31;
const barHeight = 11;

/** drawLanes makes a chart of lanes: what was when, one lane for each thing. */
export function drawLanes(axis: TimeAxis, first: LaneChart): Drawn<LaneChart> {
  const body = h("div", { class: "plot" });
  const figure = frame(first.title, "", first.caption, body);
  let chart = first;
  let u: uPlot | undefined;
  const mount = () => {
    u?.destroy();
    u = undefined;
    body.replaceChildren();
    figure.querySelector(".legend")!.replaceChildren(...chart.legend.map((l) => h("span", {}, swatch(l), l.label)));
    if (chart.lanes.length === 0) {
      body.append(h("p", { class: "nothing" }, "No data in this range."));
      return;
    }
    const height = chart.lanes.length * laneHeight + 16 + underline;
    const { options, timeAxis } = timeOptions(axis, body.clientWidth || 680, height);
    let tooltip: Tooltip;
    const laneTop = (u: uPlot, i: number) => u.bbox.top + (i * u.bbox.height) / chart.lanes.length;
    u = new uPlot(
      {
        ...options,
        scales: { ...options.scales, y: { range: () => [0, chart.lanes.length] } },
        axes: [timeAxis, { size: gutter, grid: { show: false }, ticks: { show: false }, values: (_u, splits) => splits.map(() => "") }],
        series: [{}, { show: false }],
        padding: margins,
        plugins: [
          linkPlugin(axis),
          {
            hooks: {
              init: (u) => (tooltip = new Tooltip(u)),
              draw: (u) => drawBars(u, chart.lanes, laneTop),
              setCursor: (u) => {
                const { left = -1, top = -1 } = u.cursor;
                if (axis.hovered !== u || left < 0) return tooltip.hide();
                const lane = chart.lanes[Math.floor((top / u.over.clientHeight) * chart.lanes.length)];
                const at = u.posToVal(left, "x");
                const slack = u.posToVal(left + 4, "x") - at;
                const bar = lane && nearest(lane.bars, at, slack);
                tooltip.show(
                  h("time", {}, instant(Math.round(at / 1000) * 1000) + " UTC"),
                  h(
                    "div",
                    { class: "pairs" },
                    h("span", {}, bar ? swatch(bar) : "", " ", lane?.label ?? ""),
                    h("b", {}, bar ? bar.label : "nothing"),
                    bar && bar.to > bar.from ? h("span", {}, "from, to") : null,
                    bar && bar.to > bar.from
                      ? h("b", {}, `${clock(bar.from)}\u2013${clock(bar.to)} (${duration((bar.to - bar.from) / 1000)})`)
                      : null,
                  ),
                );
              },
            },
          },
          marksPlugin(() => chart.marks),
        ],
      },
      [[axis.from, axis.to], [null, null]],
      body,
    );
    follow(u, body, height);
  };
  const update = (next: LaneChart) => {
    const same = u && JSON.stringify(next.lanes.map((l) => l.label)) === JSON.stringify(chart.lanes.map((l) => l.label));
    chart = next;
    if (!same) mount();
  };
  return { element: figure, mount, update, destroy: () => u?.destroy() };
}

function drawBars(u: uPlot, lanes: Lane[], laneTop: (u: uPlot, i: number) => number): void {
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const [i, lane] of lanes.entries()) {
    const top = laneTop(u, i) + 15 * ratio;
    ctx.fillStyle = colour("line");
    ctx.fillRect(bbox.left, Math.round(top + (barHeight * ratio) / 2), bbox.width, ratio);
    for (const bar of lane.bars) {
      const from = u.valToPos(bar.from, "x", true);
      const to = u.valToPos(bar.to, "x", true);
      if (to < bbox.left || from > bbox.left + bbox.width) continue;
      ctx.fillStyle = colour(bar.colour);
      ctx.fillRect(from, top, Math.max(to - from, 1.5 * ratio), barHeight * ratio);
    }
    ctx.fillStyle = colour("muted");
    ctx.font = `${11 * ratio}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    ctx.fillText(lane.label, bbox.left, top - 2 * ratio);
  }
  ctx.restore();
}

/** nearest finds the bar at an instant, or the closest within the slack. */
function nearest(bars: Bar[], at: number, slack: number): Bar | undefined {
  let best: Bar | undefined;
  let distance = slack;
  for (const bar of bars) {
    const d = at < bar.from ? bar.from - at : at > bar.to ? at - bar.to : 0;
    if (d <= distance && (d < distance || !best || bar.to - bar.from < best.to - best.from)) {
      best = bar;
      distance = d;
    }
  }
  return best;
}
